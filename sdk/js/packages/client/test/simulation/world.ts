// One run: a server, devices, an application, and faults of every kind. Then all faults end, and all must be well.

import type { FakeError } from '../../src/testing/errors.js'
import { Server } from '../../src/testing/server.js'
import { Device, type Kind, type Outside } from './device.js'
import { judgePublishes, Ledger, type Publishing } from './judge.js'
import { NO_FAULTS } from './network.js'
import { Rng, Time } from './time.js'

export interface Outcome {
  seed: number
  failures: string[]
  counters: Record<string, number>
  log: string[]
  events: number
}

const CHANNELS = ['a', 'b', 'c']
const FAILURES_MAX = 5
const LOG_MAX = 4_000
/** After the last fault: back-off, refusals that wait, timeouts, and the life of a publication. */
const SETTLE_MS = 150_000

/** The run that has the word: rejections that nobody handles are its fault. */
let current: World | undefined
process.on('unhandledRejection', reason => current?.fail(`an unhandled rejection: ${String(reason)}`))

export class World implements Outside {
  readonly time = new Time()
  readonly rng: Rng
  readonly ledger = new Ledger()
  readonly server: Server
  readonly publishings: Publishing[] = []
  readonly devices: Device[] = []
  readonly failures: string[] = []
  readonly counters: Record<string, number> = {}
  readonly lines: string[] = []
  faulty = true
  #serial = 0
  #events = 0
  #losses = new Map<string, number>()
  #unread = -Infinity

  constructor(
    readonly seed: number,
    readonly verbose = false,
  ) {
    const rng = (this.rng = new Rng(seed))
    Error.stackTraceLimit = verbose ? 30 : 0 // they cost more than the rest of an error
    const { time } = this
    const clock = {
      now: () => 1_700_000_000_000 + time.now,
      setTimeout: (run: () => void, ms: number) => time.after(ms, run),
      clearTimeout: (timer: unknown) => {
        if (timer) (timer as { run: unknown }).run = undefined
      },
    }
    this.server = new Server(clock, {
      ping: rng.pick([2_000, 5_000, 25_000]),
      grace: rng.pick([1_000, 10_000]),
      history: rng.pick([5, 30, 3_000]),
      page: rng.pick([2, 10, 100]),
      limits: { subscriptions: rng.pick([2, 128]), message_bytes: 1_000, idempotency_keys_ttl: 120_000 },
      identify: token => this.#identify(token),
    })
    this.server.stored = (log, publication) => this.ledger.add(log, publication)
    this.server.heard = ({ type }) => type === 'refresh' && this.count('renewed')
    this.server.rpc('echo', data => data)
    this.server.rpc('slow', data => new Promise(resolve => time.after(rng.between(0, 15_000), () => resolve(data))))
  }

  // What devices see.

  fail(what: string): void {
    this.note(`FAILURE ${what}`)
    if (this.failures.length < FAILURES_MAX) this.failures.push(what)
  }

  count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1
  }

  note(text: string): void {
    if (!this.verbose) return
    this.lines.push(`${this.time.now.toFixed(2).padStart(10)} ${text}`)
    if (this.lines.length > LOG_MAX) this.lines.shift()
  }

  serial(): number {
    return ++this.#serial
  }

  log(channel: string) {
    return this.server.channel(channel)
  }

  now(): number {
    return this.time.now
  }

  lossTime(channel: string): number {
    return Math.max(this.#losses.get(channel) ?? -Infinity, this.#unread)
  }

  garbled(): void {
    this.count('garbled')
    // It is passed over the second time, which is a loss that the server knows nothing of.
    this.#unread = this.time.now + 60_000
  }

  #identify(token: string | undefined) {
    if (token === undefined) return {}
    const [user = '', ms, issued] = token.split(' ')
    if (ms === '0') return { user }
    const expires = Number(issued) + Number(ms) - this.time.now
    if (expires <= 0) return { code: 'token_expired' }
    return { user, expires }
  }

  // The run.

  async run(): Promise<Outcome> {
    current = this
    const { rng } = this
    const handlersFail = rng.chance(0.3) ? 0.02 : 0
    const n = rng.between(1, 3)
    for (let i = 0; i < n; i++)
      this.devices.push(
        new Device(this, `dev${i}`, rng.pick<Kind>(['anonymous', 'token', 'function']), handlersFail),
      )
    const rough = rng.pick([0, 0.3, 1])
    for (const device of this.devices)
      device.faults = {
        refuse: 0.2 * rough * rng.float(),
        hang: 0.05 * rough * rng.float(),
        slow: 0.1 * rough * rng.float(),
        lose: 0.08 * rough * rng.float(),
        repeat: 0.05 * rng.float(),
        garble: rng.chance(0.25) ? 0.01 : 0,
        latency: rng.pick([1, 20, 200, 1_500]),
      }
    const until = rng.between(20_000, 80_000)
    const pace = rng.pick([100, 400, 1_000])
    const act = () => {
      if (this.time.now >= until) return
      this.#act(rough)
      this.time.after(rng.below(2 * pace), act)
    }
    act()
    await this.#until(until)
    this.#heal()
    await this.#until(until + SETTLE_MS)
    for (const channel of CHANNELS) this.server.publish(channel, { data: { n: this.serial() } })
    await this.#until(until + SETTLE_MS + 15_000)
    this.#verdict()
    if (this.failures.length) return this.#outcome()
    for (const device of this.devices) device.close()
    await drain()
    await drain()
    for (const device of this.devices) device.isLeft()
    await this.#until(until + SETTLE_MS + 60_000)
    for (const device of this.devices)
      for (const { what } of device.unsettled.values()) device.fail(`the promise of \`${what}\` is not settled`)
    judgePublishes(this.ledger, this.publishings, what => this.fail(what))
    return this.#outcome()
  }

  #outcome(): Outcome {
    current = undefined
    Error.stackTraceLimit = 10
    const { seed, failures, counters, lines } = this
    return { seed, failures, counters, log: lines, events: this.#events }
  }

  async #until(end: number): Promise<void> {
    while (!this.failures.length && this.time.step(end)) {
      await drain()
      this.#events++
      for (const { components, clock, closed } of this.devices) {
        for (const { watcher } of components) if (watcher.owed) this.fail(`${watcher.name}: the gap was not told`)
        if (clock.timers.size > 150) this.fail(`${clock.timers.size} timers at a time`)
        if (closed && clock.timers.size) {
          for (const { from } of clock.timers) if (from) this.note(from)
          this.fail('a timer of a client that is closed')
        }
      }
      if (this.#events > 300_000) return this.fail('the run does not end')
    }
  }

  #heal(): void {
    this.note('all faults end')
    this.faulty = false
    this.server.refuseNothing()
    for (const device of this.devices) {
      device.faults = { ...NO_FAULTS }
      device.offline = false
      device.signedOut = false
      if (device.clock.asleep) device.clock.wake(this.rng)
      for (const socket of device.sockets) if (this.rng.chance(0.3)) socket.cut('both')
      // One more cut, long after: nothing is lost by it.
      const late = this.rng.chance(0.5)
      if (late) this.time.after(70_000, () => device.sockets.forEach(socket => socket.cut('both')))
      // What has ended for good goes on where the application says so.
      const again = () => {
        if (device.closed) return
        const { state } = device.client
        if (state.name === 'error' && state.retryAt === undefined) device.client.connect()
        if (device.client.state.name === 'needs-auth') device.client.connect()
        if (device.client.state.reason?.code === 'page_hidden') device.probe()
      }
      for (const ms of [0, 20_000, 40_000]) this.time.after(ms, () => device.clock.happen(again))
    }
  }

  /** Everything is as it should be now. */
  #verdict(): void {
    if (this.failures.length) return
    for (const device of this.devices) {
      if (device.closed) continue
      const { client, components, entered } = device
      const { state } = client
      const wants = components.length + entered.length > 0
      if (state.name !== 'connected' && (wants || state.reason?.code !== 'idle'))
        device.fail(`the state is ${state.name}: ${state.reason?.message}`)
      for (const { what, at } of device.unsettled.values())
        if (at < this.time.now - 60_000) device.fail(`the promise of \`${what}\` is not settled`)
      for (const { watcher, presence, channel } of components) {
        watcher.atTop()
        if (!presence || watcher.over || device.ended.has(channel)) continue // its list may have been refused
        const told = client.channel(channel).presence()
        const { members } = this.log(channel)
        const [found, real] = [told.members ?? [], [...members.values()]].map(list =>
          list.map(({ client, data }) => `${client} ${JSON.stringify(data)}`).sort().join(', '),
        )
        if (found !== real) device.fail(`presence of ${channel} is told as [${found}], and is [${real}]`)
      }
      for (const channel of CHANNELS) {
        if (device.ended.has(channel) || state.name !== 'connected') continue
        const wanted = entered.filter(it => it.channel === channel).at(-1)
        const found = this.log(channel).members.get(state.client)
        if (JSON.stringify(wanted?.data) !== JSON.stringify(found?.data))
          device.fail(`its entry in ${channel} is ${JSON.stringify(found)}, not ${JSON.stringify(wanted?.data)}`)
      }
      const { log } = client.report()
      const { length } = client.pending()
      if (length && state.reason?.code !== 'idle') device.fail(`${length} publications are pending`)
      if (log.length > 200) device.fail('the log is not bounded')
    }
    for (const channel of CHANNELS)
      for (const id of this.log(channel).members.keys())
        if (!this.devices.some(({ client }) => client.state.name === 'connected' && client.state.client === id))
          this.fail(`${id} is present in ${channel}, and is no client`)
  }

  // Faults, and what the application does.

  #act(rough: number): void {
    const { rng } = this
    const device = rng.pick(this.devices)
    const channel = rng.pick(CHANNELS)
    // Code of a device that sleeps does not run.
    if (!device.clock.asleep && rng.chance(0.6)) return this.#application(device, channel)
    if (rng.chance(0.3)) return this.#publish(channel)
    if (rng.chance(0.1 + 0.6 * rough)) this.#fault(device, channel)
  }

  #application(device: Device, channel: string): void {
    const { rng } = this
    if (device.closed) return rng.chance(0.3) ? device.reload() : undefined
    const kind = rng.below(100)
    if (kind < 25) {
      if (device.components.length < 6) device.subscribe(channel)
    } else if (kind < 38) {
      if (!device.components.length) return
      const component = rng.pick(device.components)
      device.unsubscribe(component)
      if (rng.chance(0.4)) device.subscribe(component.channel)
    } else if (kind < 65) {
      for (let i = rng.chance(0.05) ? rng.between(1, 70) : 1; i > 0; i--) device.publish(channel)
    } else if (kind < 75) device.signal(channel)
    else if (kind < 81) device.enter(channel)
    else if (kind < 88) device.changeEntry()
    else if (kind < 95) device.ask(channel)
    else if (kind < 97) device.client.connect()
    else if (kind < 98) {
      if (device.kind === 'token') device.client.setToken(`${device.name} 0`)
      else if (device.client.state.name === 'needs-auth') {
        device.signedOut = false
        device.client.connect()
      }
    } else if (kind < 99) {
      if (rng.chance(0.3)) device.close()
    } else device.reload()
  }

  #publish(channel: string): void {
    const { rng } = this
    let n = 1
    if (rng.chance(0.1)) n = rng.between(2, 40)
    if (rng.chance(0.003)) n = rng.between(1_000, 2_600)
    for (; n > 0; n--) this.server.publish(channel, { data: { n: this.serial() } })
    if (rng.chance(0.1)) this.server.signal(channel, 'mouse', { n: this.serial() }, undefined)
  }

  #fault(device: Device, channel: string): void {
    const { rng, server, time } = this
    const id = device.id ?? ''
    const note = (what: string) => (this.count(what), this.note(`${device.name}: ${what}`))
    switch (rng.below(18)) {
      case 0:
      case 1:
        note('cut')
        for (const socket of device.sockets) socket.cut(rng.chance(0.7) ? 'both' : 'half-open')
        return
      case 2: {
        if (device.clock.asleep) return
        const ms = rng.pick([500, 5_000, 40_000, 300_000]) * rng.float()
        note(ms > 10_000 ? 'long sleep' : 'sleep')
        device.clock.asleep = true
        time.after(ms, () => {
          if (!device.clock.asleep) return
          device.clock.wake(rng)
          const probe = () => device.clock.happen(device.probe)
          if (rng.chance(0.5) && device.watchers) time.after(rng.between(0, 1_000), probe)
        })
        return
      }
      case 3:
        note('clock jump')
        device.clock.offset += rng.pick([-3_600_000, -60_000, -3_000, 3_000, 60_000, 3_600_000])
        return
      case 4:
        note('offline')
        device.offline = true
        for (const socket of device.sockets) if (rng.chance(0.7)) socket.cut(rng.pick(['both', 'half-open']))
        time.after(rng.between(100, 20_000), () => {
          device.offline = false
          if (rng.chance(0.5) && device.watchers) device.clock.happen(device.probe)
        })
        return
      case 5:
        note('restart')
        for (const name of CHANNELS) this.#losses.set(name, time.now)
        return server.restart()
      case 6: {
        note('drain')
        for (const it of this.devices) {
          it.offline = true
          if (it.id) server.disconnect(it.id, 4000, rng.between(0, 5_000))
        }
        time.after(rng.between(0, 6_000), () => this.devices.forEach(it => (it.offline = false)))
        return
      }
      case 7: {
        note('forget')
        return server.channel(channel).forget(rng.below(4))
      }
      case 8:
        note('server gap')
        this.#losses.set(channel, time.now + 5_000)
        return server.gap(channel, rng.chance(0.4))
      case 9: {
        const code = rng.pick([4001, 4002, 4003, 4005, 4006, 4006, 4008, 4503])
        note(`disconnect ${code}`)
        if (code === 4503) device.kicks++
        return server.disconnect(id, code, rng.chance(0.3) ? rng.between(0, 3_000) : 0)
      }
      case 10: {
        const code = rng.pick(['denied', 'unavailable', 'unavailable'])
        note(`unsubscribed: ${code}`)
        device.ended.add(channel)
        return server.unsubscribe(id, channel, code, code)
      }
      case 11:
        note('server subscribes')
        return server.subscribe(id, channel)
      case 12:
      case 13:
      case 14:
        return this.#refuse()
      case 15:
        note('ticket')
        return server.renewTicket(id)
      case 16:
        if (device.clock.asleep || !device.watchers) return
        note('hidden')
        device.leave()
        time.after(rng.between(0, 5_000), () => device.clock.happen(() => device.watchers && device.probe()))
        return
      case 17:
        if (!device.clock.asleep && device.watchers) device.probe()
        return
    }
  }

  #refuse(): void {
    const { rng, server } = this
    const type = rng.pick([
      ...['subscribe', 'subscribe', 'unsubscribe', 'publish', 'publish', 'presence_set', 'presence_clear'],
      ...['presence', 'history', 'refresh', 'connect', 'signal'],
    ])
    const error: FakeError = rng.chance(0.6)
      ? { code: 'rate_limited', retryAfter: rng.between(1, 3_000) }
      : { code: rng.pick(['unavailable', 'internal', 'timeout', 'overloaded']) }
    if (rng.chance(0.1) && /^(publish|history|presence)$/.test(type)) error.code = 'denied'
    if (error.code === 'denied') delete error.retryAfter
    this.count(`refuses ${type}`)
    this.note(`the server refuses ${type}: ${error.code}`)
    const stop = server.refuse(type, error, rng.between(1, 5))
    this.time.after(rng.between(1_000, 10_000), stop)
  }
}

/** All promises that can be settled are. */
export function drain(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}

export async function simulate(seed: number, verbose = false): Promise<Outcome> {
  return new World(seed, verbose).run()
}
