// A device: one client of the application after the other, its components, and the code of the application.
//
// The application's handlers are as they are in life: they throw, are slow, unsubscribe within a message, close the
// client. Each life ends by a reload of the page, which tells nobody, and the storage goes on.

import { createClient, type Client } from '../../src/client.js'
import type { FanfareError } from '../../src/errors.js'
import type { Server } from '../../src/testing/server.js'
import type {
  ConnectionState,
  Message,
  OutboxStorage,
  Position,
  Published,
  StoredPublish,
  SubscribeOptions,
} from '../../src/types.js'
import { type Court, type Publishing, Watcher } from './judge.js'
import { type Faults, type Host, NO_FAULTS, type SimSocket, socketsOf } from './network.js'
import { DeviceClock, type Rng, type Time } from './time.js'

/** What devices see of the world. */
export interface Outside extends Omit<Court, 'isQuiet'> {
  readonly time: Time
  readonly rng: Rng
  readonly server: Server
  readonly faulty: boolean
  readonly verbose: boolean
  readonly publishings: Publishing[]
  note(text: string): void
  fail(what: string): void
  count(name: string): void
  garbled(): void
  serial(): number
}

export type Kind = 'anonymous' | 'token' | 'function'

export interface Component {
  readonly channel: string
  readonly watcher: Watcher
  readonly presence: boolean
  unsubscribe(): void
}

interface Entered {
  channel: string
  data: unknown
  entry: { update(data: unknown): void; leave(): void; ready: Promise<void> }
}

export class Device implements Host {
  readonly clock: DeviceClock
  readonly time: Time
  readonly rng: Rng
  readonly server: Server
  faults: Faults = { ...NO_FAULTS }
  offline = false
  readonly dead: boolean = false
  sockets = new Set<SimSocket>()
  client!: Client
  components: Component[] = []
  entered: Entered[] = []
  /** Promises that are not settled, by their names. */
  readonly unsettled = new Map<object, { what: string; at: number }>()
  closed = false
  /** The server had a reason to end this one for good. */
  kicks = 0
  /** The token function gives none. */
  signedOut = false
  /** A subscription to these was ended: presence is not judged there. */
  readonly ended = new Set<string>()
  /** Its last known id. */
  id: string | undefined
  watchers = 0
  probe: () => void = () => {}
  leave: () => void = () => {}
  #life = 0
  #loaded = 0
  #opened: number[] = []
  #lost = false
  #signals = new Map<string, number>()
  readonly saidKeys = new Set<string>()
  readonly #quiet = new Set<string>()
  readonly #storage = new Map<string, StoredPublish>()
  /** The storage was told to remove these: it may have failed, and their promises may be of an earlier life. */
  readonly #given = new Set<string>()
  readonly withStorage: boolean

  constructor(
    readonly world: Outside,
    readonly name: string,
    readonly kind: Kind,
    readonly handlersFail: number,
  ) {
    this.time = world.time
    this.rng = world.rng
    this.server = world.server
    this.clock = new DeviceClock(world.time)
    this.withStorage = world.rng.chance(0.5)
    this.clock.traces = world.verbose
    this.begin()
  }

  count(name: string): void {
    this.world.count(name)
  }

  fail(what: string): void {
    this.world.fail(`${this.name}: ${what}`)
  }

  note(text: string): void {
    this.world.note(`${this.name} ${text}`)
  }

  garbled(): void {
    this.world.garbled()
  }

  said(text: string): void {
    const key = /"idempotency_key":"([^"]*)"/.exec(text)?.[1]
    if (key !== undefined) this.saidKeys.add(key)
  }

  denied(channel: string): void {
    this.ended.add(channel)
  }

  /** A page is loaded. */
  begin(): void {
    const { rng, clock, world } = this
    this.#life++
    this.closed = this.#lost = false
    const life = this.#life
    const alive = () => life === this.#life
    // What the page has begun ends with it.
    const host: Host = Object.create(this, { dead: { get: () => !alive() }, sockets: { value: new Set() } }) as Host
    this.sockets = host.sockets
    const Socket = socketsOf(host)
    const opened = this.#opened
    this.client = createClient({
      url: 'http://fanfare.test',
      transports: ['websocket'],
      ...(this.kind === 'token' && { token: `${this.name} 0` }),
      ...(this.kind === 'function' && { token: () => this.#token() }),
      outbox: { max: 60, ...(this.withStorage && { storage: this.#store(alive) }) },
      env: {
        now: () => clock.now(),
        setTimeout: (run, ms) => {
          if (typeof ms !== 'number' || Number.isNaN(ms)) this.fail(`a timer of ${ms} ms`)
          return alive() ? clock.setTimeout(run, ms) : undefined
        },
        clearTimeout: timer => clock.clearTimeout(timer as never),
        random: () => rng.float(),
        WebSocket: class extends (Socket as new (url: string) => SimSocket) {
          constructor(url: string) {
            super(url)
            if (!alive()) return
            opened.push(world.time.now)
          }
        } as never,
        fetch: undefined,
        watch: (probe, leave) => {
          this.watchers++
          this.probe = probe
          this.leave = leave
          return () => void this.watchers--
        },
      },
    })
    this.client.on('state', state => alive() && this.#state(state))
    this.client.on('error', ({ code, message }) => {
      this.note(`error ${code} ${message}`)
      if (alive()) this.count(`error ${code}`)
    })
    this.client.on('connectivity', ({ name }) => {
      if (!alive()) return
      if (name === 'restored' && !this.#lost) this.fail('restored without being lost')
      if (name === 'lost' && this.#lost) this.fail('lost twice')
      this.#lost = name === 'lost'
      this.count(`connectivity ${name}`)
    })
    this.client.on('subscribed', () => this.count('subscribed by the server'))
    this.client.on('outbox', pending => {
      if (pending.length > 60 + this.#loaded) this.fail(`${pending.length} publications wait`)
      if (rng.chance(this.handlersFail)) throw new Error('a handler of `outbox`')
    })
  }

  #state(state: ConnectionState): void {
    this.note(`is ${state.name} ${state.reason?.code ?? ''}`)
    this.count(`state ${state.name}`)
    if (this.closed && state.reason?.code !== 'closed') this.fail(`${state.name} after close()`)
    const retryAt = state.name === 'disconnected' || state.name === 'error' ? state.retryAt : undefined
    if (retryAt !== undefined && !(retryAt > this.clock.now())) this.fail('the wait before the next attempt is zero')
    if (state.name === 'connected') this.id = state.client
    // With `retryAt` it comes back by itself: what came was not the protocol.
    if (state.name === 'error' && retryAt === undefined) {
      const loop = state.reason.code === 'reconnect_loop'
      const young = this.#opened.filter(at => at > this.world.time.now - 40_000).length
      if (loop ? young < 10 : --this.kicks < 0) this.fail(`the state is error: ${state.reason.message}`)
      this.count(loop ? 'loops' : 'ended by the server')
    }
    if (state.name === 'needs-auth' && !this.signedOut && this.kind !== 'function') this.fail('needs a token')
    if (this.rng.chance(this.handlersFail)) throw new Error('a handler of `state`')
  }

  #token(): Promise<string | null> | string | null {
    const { rng, world } = this
    this.count('tokens asked')
    const token = `${this.name} ${rng.between(15_000, 70_000)} ${world.time.now}`
    if (this.signedOut) return null
    if (!world.faulty) return token
    if (rng.chance(0.1)) throw new Error('the token function throws')
    if (rng.chance(0.05)) return (this.signedOut = true) && null
    if (rng.chance(0.1)) return Promise.reject(new Error('the token function rejects'))
    if (rng.chance(0.05)) return new Promise(() => {})
    if (rng.chance(0.3)) return token
    return new Promise(resolve => this.#later(() => resolve(token), rng.between(0, rng.chance(0.1) ? 15_000 : 500)))
  }

  #store(alive: () => boolean): OutboxStorage {
    const { rng, world, clock } = this
    const work = <T>(run: () => T): Promise<T> => {
      if (world.faulty && rng.chance(0.03)) throw new Error('the storage throws')
      const fails = world.faulty && rng.chance(0.05)
      return new Promise((resolve, reject) => {
        const act = () => {
          if (fails) reject(new Error('the storage rejects'))
          else if (alive()) resolve(run())
        }
        if (rng.chance(0.3)) act()
        else this.time.after(rng.between(0, rng.chance(0.1) ? 3_000 : 20), () => clock.happen(act))
      })
    }
    return {
      load: () =>
        work(() => {
          this.#loaded = this.#storage.size
          if (this.#loaded) this.count('loaded from the storage')
          return [...this.#storage.values()]
        }),
      put: entry => {
        const put = async () =>
          work(() => void this.#storage.set(entry.key, JSON.parse(JSON.stringify(entry)) as StoredPublish))
        return put().catch(thrown => {
          // What is put later stands later.
          const publishing = world.publishings.find(({ key }) => key === entry.key)
          if (publishing) publishing.ordered = false
          throw thrown
        })
      },
      remove: key => {
        this.#given.add(key)
        return work(() => void this.#storage.delete(key))
      },
    }
  }

  /** The page is loaded anew: nobody is told, and what was in memory is gone. */
  reload(): void {
    const { rng, time, server } = this
    this.note('reloads')
    for (const socket of this.sockets) socket.cut('both')
    const connection = [...server.connections].find(({ session }) => session?.client === this.id)
    if (connection) time.after(rng.between(0, 5_000), () => server.lost(connection))
    this.clock.clear()
    this.clock.asleep = false
    this.watchers = 0
    for (const { watcher } of this.components) watcher.over = true
    this.components = []
    this.entered = []
    this.unsettled.clear()
    this.ended.clear()
    for (const publishing of this.world.publishings) {
      if (!publishing.device.startsWith(this.name)) continue
      publishing.dead = true
      const stored = this.#storage.get(publishing.key)
      const isOver = publishing.done || this.world.ledger.of(publishing.key).length || this.#given.has(publishing.key)
      if (stored && isOver) publishing.revived = true
      if (stored && !stored.sent && this.saidKeys.has(publishing.key)) publishing.risky = true
    }
    this.begin()
  }

  /** Every promise is settled, sooner or later. */
  track<T>(what: string, promise: Promise<T>): Promise<T | undefined> {
    const life = this.#life
    const name = {}
    this.unsettled.set(name, { what, at: this.time.now })
    const done = () => {
      if (life === this.#life && !this.unsettled.delete(name)) this.fail(`${what} is settled twice`)
    }
    return promise.then(
      value => (done(), value),
      (error: FanfareError) => {
        done()
        this.count(`${what}: ${error.code}`)
        return undefined
      },
    )
  }

  // The application.

  subscribe(channel: string): void {
    const { rng, world } = this
    const number = world.serial()
    const log = this.server.channel(channel)
    const kind = rng.pick(['plain', 'plain', 'recent', 'since', 'presence', 'resync', 'messages'])
    const recent = kind === 'recent' || (kind === 'messages' && rng.chance(0.3)) ? rng.between(1, 8) : undefined
    const mayBeOld = rng.chance(0.1) ? 'epoch0' : log.epoch
    const since: Position | undefined =
      kind === 'since' || (kind === 'messages' && rng.chance(0.3) && !recent)
        ? { epoch: mayBeOld, offset: rng.between(Math.max(0, log.offset - 12), log.offset) }
        : undefined
    const court: Court = { ...bound(world), isQuiet: key => key !== undefined && this.#quiet.has(key) }
    const name = `${this.name} component ${number} (${kind})`
    const watcher = new Watcher(court, channel, name, since, recent, !/plain|presence/.test(kind))
    this.note(`subscribes to ${channel}: ${number} ${kind} ${recent ?? ''}${since ? JSON.stringify(since) : ''}`)
    if (kind === 'messages') return this.#iterate(channel, watcher, since, recent)
    const subject = this.client.channel(channel)
    const options: SubscribeOptions = {
      subscribed: info => {
        watcher.subscribed(info)
        return this.#throws()
      },
      message: message => {
        this.note(`  ${number} gets ${JSON.stringify(message.position)}`)
        watcher.message(message)
        // What was handed over while it loaded is behind the place of the channel.
        const at = subject.position
        if (!at) this.fail('the channel has no position while it delivers')
        else if (kind === 'plain' && !this.#reads(channel) && at.offset !== message.position.offset)
          this.fail(`the position of the channel is ${at.offset} at message ${message.position.offset}`)
        this.#meddle(component)
        return this.#throws()
      },
      gap: gap => watcher.gap(gap),
      ended: ({ code }) => {
        if (!/^(denied|limit_exceeded|closed)$/.test(code)) this.fail(`${watcher.name} has ended as ${code}`)
        watcher.ended()
        this.forget(component)
        this.ended.add(channel)
      },
      signal: ({ event, data, from }) => {
        watcher.other('a signal')
        const { n, to } = data as { n: number; to?: string }
        if (from?.client !== undefined && from.client === this.id && to !== this.id) this.fail('its own signal')
        const name = `${number} ${event} ${from?.client} ${to}`
        if (n <= (this.#signals.get(name) ?? 0)) this.fail(`signal ${n} again, or out of order`)
        this.#signals.set(name, n)
        this.count(to === undefined ? 'signals' : 'signals to one')
        return this.#throws()
      },
      ...(kind === 'presence' && {
        presence: ({ count, members }) => {
          watcher.other('presence')
          if (members && members.length !== count) this.fail(`${members.length} members, and the count is ${count}`)
          return this.#throws()
        },
      }),
      ...(kind === 'resync' && { resync: ({ position }) => this.#resync(channel, watcher, position) }),
      ...(recent !== undefined && { recent }),
      ...(since !== undefined && { since }),
      ...(rng.chance(0.1) && { batch: { size: rng.between(2, 5), delay: rng.between(1, 300) } }),
    }
    const { ready, unsubscribe } = subject.subscribe(options as never)
    const component: Component = {
      channel,
      watcher,
      presence: kind === 'presence',
      unsubscribe: () => {
        watcher.over = true
        unsubscribe()
      },
    }
    this.components.push(component)
    void this.track('ready', ready)
  }

  /** Another component of the channel reads on by itself, so the place is not at each message. */
  #reads(channel: string): boolean {
    return this.components.some(it => it.channel === channel && !/plain|presence/.test(it.watcher.name))
  }

  #iterate(channel: string, watcher: Watcher, since: Position | undefined, recent: number | undefined): void {
    const { rng, world } = this
    const life = this.#life
    // It begins where the channel is when it becomes live, which nobody tells.
    let from: Position | undefined = since
    watcher.begun = true
    watcher.place = from
    const messages = this.client.channel(channel).messages({ ...(since && { since }), ...(recent && { recent }) })
    const slow = rng.chance(0.3)
    const component: Component = {
      channel,
      watcher,
      presence: false,
      unsubscribe: () => {
        watcher.over = true
        void messages.return().then(({ done }) => done || this.fail('return() is not the end'))
      },
    }
    this.components.push(component)
    const read = (): void => {
      if (life !== this.#life) return
      void messages.next().then(
        ({ done, value }) => {
          if (life !== this.#life) return
          if (watcher.over) return // it was on its way when the reader left
          if (done) return this.forget(component)
          const message = value as Message
          watcher.place ??= { ...message.position, offset: message.position.offset - 1 }
          from ??= message.position
          watcher.message(message)
          this.count('messages read')
          if (slow && rng.chance(0.2) && world.faulty) this.#later(read, rng.between(1, 3_000))
          else read()
        },
        (error: FanfareError) => {
          this.count(`messages: ${error.code}`)
          watcher.over = true
          this.forget(component)
        },
      )
    }
    read()
  }

  #resync(channel: string, watcher: Watcher, at: Position): Promise<Position | void> | Position | void {
    const { rng, world } = this
    watcher.resync(at)
    this.note(`${watcher.name} loads from ${at.epoch}:${at.offset}`)
    this.count('resyncs')
    const load = () => {
      const whole = rng.chance(0.5) ? this.server.channel(channel).position : undefined
      return whole
    }
    if (world.faulty && rng.chance(0.1)) throw new Error('`resync` throws')
    if (rng.chance(0.2)) {
      const place = load()
      watcher.loaded(place)
      // It counts when the promise is settled, one step later; nothing comes in between.
      return place
    }
    return new Promise((resolve, reject) =>
      this.#later(
        () => {
          if (world.faulty && rng.chance(0.2)) return reject(new Error('`resync` rejects'))
          const place = load()
          // An answer of an earlier load is of no use: the judge learns which one counts by what is told next.
          if (watcher.place?.epoch === at.epoch && watcher.place.offset === at.offset) watcher.loaded(place)
          resolve(place)
        },
        rng.between(0, rng.chance(0.1) ? 5_000 : 200),
      ),
    )
  }

  /** Within a handler the application does something else. */
  #meddle(component: Component): void {
    const { rng } = this
    if (!this.world.faulty || !rng.chance(0.02)) return
    this.count('meddled')
    switch (rng.below(6)) {
      case 0:
        return this.unsubscribe(component)
      case 1:
        return this.components.length ? this.unsubscribe(rng.pick(this.components)) : undefined
      case 2:
        return this.subscribe(component.channel)
      case 3:
        return this.publish(component.channel)
      case 4:
        return this.enter(component.channel)
      case 5:
        return rng.chance(0.2) ? this.close() : undefined
    }
  }

  /** The application's own timers. */
  #later(run: () => void, ms: number): void {
    const life = this.#life
    this.time.after(ms, () => this.clock.happen(() => life === this.#life && run()))
  }

  #throws(): void {
    if (this.rng.chance(this.handlersFail)) throw new Error('a handler')
    if (this.rng.chance(this.handlersFail)) return Promise.reject(new Error('a handler')) as never
  }

  forget(component: Component): void {
    this.components = this.components.filter(it => it !== component)
  }

  unsubscribe(component: Component): void {
    this.note(`unsubscribes ${component.watcher.name}`)
    this.forget(component)
    component.unsubscribe()
  }

  publish(channel: string): void {
    const { rng, world } = this
    const n = world.serial()
    const key = `key ${n}`
    const ordered = rng.chance(0.9)
    const echo = rng.chance(0.9)
    if (!echo) this.#quiet.add(key)
    const publishing: Publishing = { key, channel, device: `${this.name} ${this.#life}`, dead: false, ordered }
    world.publishings.push(publishing)
    this.note(`publishes ${key} to ${channel}`)
    const ttl = rng.chance(0.1) ? { ttl: rng.between(500, 20_000) } : {}
    const options = { key, ...(!echo && { echo }), ...(!ordered && { ordered }), ...ttl }
    const promise = this.client.channel(channel).publish({ n }, options)
    const done = (outcome: Published | FanfareError) => {
      if (publishing.done) this.fail(`${key} is settled twice`)
      publishing.done = outcome
      this.note(`${key}: ${'position' in outcome ? JSON.stringify(outcome) : outcome.code}`)
      this.count('position' in outcome ? (outcome.duplicate ? 'resent' : 'published') : `publish: ${outcome.code}`)
    }
    promise.then(done, done)
  }

  signal(channel: string): void {
    const { rng, world } = this
    const n = world.serial()
    const to = rng.chance(0.4) ? rng.pick([...this.server.sessions.keys(), 'nobody']) : undefined
    const event = rng.pick(['typing', 'mouse'])
    const promise = this.client.channel(channel).signal(event, { n, to }, to === undefined ? {} : { to })
    void this.track('signal', promise)
  }

  enter(channel: string): void {
    if (this.closed) return
    const data = { n: this.world.serial() }
    const entry = this.client.channel(channel).enter(data)
    this.entered.push({ channel, data, entry })
    void this.track('enter', entry.ready)
  }

  changeEntry(): void {
    const { rng } = this
    if (!this.entered.length) return
    const entered = rng.pick(this.entered)
    if (rng.chance(0.5)) return entered.entry.update((entered.data = { n: this.world.serial() }))
    this.entered = this.entered.filter(it => it !== entered)
    entered.entry.leave()
  }

  ask(channel: string): void {
    const { rng, client } = this
    const subject = client.channel(channel)
    switch (rng.below(4)) {
      case 0:
        return this.#history(channel)
      case 1:
        return void this.track('members', subject.members())
      case 2:
        return void this.track('rpc', client.rpc(rng.pick(['echo', 'slow', 'none']), 1))
      case 3:
        return void this.track('probe', client.probe())
    }
  }

  /** A page from a place: it leaves nothing out without a word. */
  #history(channel: string): void {
    const { rng } = this
    const log = this.server.channel(channel)
    const limit = rng.between(1, 20)
    const since = { epoch: log.epoch, offset: rng.between(Math.max(0, log.offset - 12), log.offset) }
    const options = rng.chance(0.5) ? { limit, since } : { limit }
    void this.track('history', this.client.channel(channel).history(options)).then(page => {
      if (!page || !options.since) return
      const { messages, position, more, gap, reset } = page
      if (gap) return this.count('gap of a page')
      if (reset) return this.count('reset of a page')
      let { offset } = since
      for (const message of messages) if (message.position.offset !== ++offset) this.fail('a page leaves something out')
      if (!more && (position.epoch !== since.epoch || position.offset !== offset)) this.fail('a page ends too early')
    })
  }

  close(): void {
    if (this.closed) return
    this.note('is closed')
    this.closed = true
    this.client.close()
    for (const { watcher } of this.components) watcher.over = true
    this.components = []
    this.entered = []
  }

  /** Nothing is left of a client that is closed. */
  isLeft(): void {
    const open = [...this.sockets].filter(({ readyState }) => readyState < 2).length
    if (open) this.fail(`${open} sockets are left after close()`)
    if (this.clock.timers.size) this.fail(`${this.clock.timers.size} timers are left after close()`)
    for (const { from } of this.clock.timers) if (from) this.note(from)
    if (this.watchers) this.fail('something listens after close()')
  }
}

/** Methods of the world without the world. */
function bound(world: Outside): Omit<Court, 'isQuiet'> {
  return {
    ledger: world.ledger,
    fail: what => world.fail(what),
    count: name => world.count(name),
    log: channel => world.log(channel),
    lossTime: channel => world.lossTime(channel),
    now: () => world.now(),
  }
}
