/**
 * A channel as the application sees it: one object for each name, whose components come and go.
 *
 * Components share one subscription on the server: it has what any of them wants, begins with the first and ends a
 * moment after the last ({@link LINGER_MS}: a page that mounts anew sends nothing). One component's end is never
 * another's. A component that comes later with `recent` or `since` reads its part from the history.
 */

import type { Core } from './connection.js'
import { FanfareError } from './errors.js'
import { Local } from './local.js'
import { Messages } from './messages.js'
import { type Entry, memberOf, PresenceOf } from './presence.js'
import { Remote } from './remote.js'
import { quiet } from './report.js'
import type {
  ChannelTypes,
  EventsOf,
  Gap,
  History,
  HistoryOptions,
  InfoOf,
  Message,
  PendingPublish,
  Position,
  Presence,
  PresenceOf as DataOf,
  Published,
  PublishOptions,
  Signal,
  SignalsOf,
  SubscribeOptions,
  Subscribed,
  UntypedChannel,
} from './types.js'
import { fromBase64, type ServerMessage, type WireOptions, type WirePublication, type WireSubscribed } from './wire.js'

const LINGER_MS = 1_000

/** One component's part in a channel. */
export interface Subscription {
  /** Ends this part, and no other. Nothing comes after it. */
  unsubscribe(): void
  /** Live for the first time; rejected where it is refused. */
  readonly ready: Promise<Subscribed>
}

export interface SignalOptions {
  /** To this client only: in order, and answered. */
  to?: string
}

export class Channel<C extends ChannelTypes = UntypedChannel> {
  readonly name: string
  readonly #core: Core
  readonly #remote: Remote
  readonly #presence: PresenceOf
  readonly #locals = new Set<Local>()
  #lingers = false
  #linger: unknown
  /** What the subscription was asked for with: a component may have come since. */
  #withPresence = false
  #withRecent = 0

  /** Use `client.channel(name)`. */
  constructor(core: Core, name: string) {
    this.name = name
    this.#core = core
    const { env, calls } = core
    const report = (error: FanfareError) => core.report(error)
    this.#presence = new PresenceOf({
      env,
      name,
      report,
      isLive: () => this.#remote.state === 'live' && calls.online,
      wantsPresence: () => this.#withPresence,
      ask: (command, done, options) => calls.ask(command, done, options),
      presence: (presence, change) => this.#each(local => local.presence(presence, change)),
    })
    this.#remote = new Remote({
      env,
      name,
      calls,
      report,
      overtakes: () => core.overtakes,
      mayLeave: () => core.mayLeave(name),
      isWanted: () => this.isWanted,
      options: () => this.#options(),
      reconnect: why => core.reconnect(why),
      pump: () => core.pump(),
      live: (page, at, before, gap) => this.#live(page, at, before, gap),
      publication: (publication, position) => this.#publication(publication, position),
      gap: gap => this.#each(local => local.gap(gap)),
      other: message => this.#other(message),
      ended: error => this.#ended(error),
    })
  }

  /** The place of the last message that was handed over: where a reconnect goes on. */
  get position(): Position | undefined {
    return this.#remote.position
  }

  /** `off`, `subscribing` or `live`. */
  get state(): 'off' | 'subscribing' | 'live' {
    const { state } = this.#remote
    return state === 'live' ? 'live' : this.isWanted ? 'subscribing' : 'off'
  }

  /** @internal */
  get isWanted(): boolean {
    return this.#locals.size > 0 || this.#presence.isWanted || this.#lingers || this.#remote.byServer
  }

  /** @internal */
  get remote(): Remote {
    return this.#remote
  }

  get handlers(): number {
    return this.#locals.size
  }

  /** Follows the channel through every reconnect, until `unsubscribe()` or until the server ends it. */
  subscribe(options: SubscribeOptions<C> | ((message: Message<EventsOf<C>>) => void) = {}): Subscription {
    const handlers = (typeof options === 'function' ? { message: options } : options) as SubscribeOptions
    let resolve: (subscribed: Subscribed) => void = () => {}
    let reject: (error: FanfareError) => void = () => {}
    const ready = new Promise<Subscribed>((yes, no) => ((resolve = yes), (reject = no)))
    const local = new Local(this.#localHost(), {
      ...handlers,
      subscribed: info => (resolve(info), handlers.subscribed?.(info)),
      ended: error => (reject(error), handlers.ended?.(error)),
    })
    this.#join(local)
    return {
      ready: quiet(ready),
      unsubscribe: () => {
        if (local.active) reject(new FanfareError('closed', 'unsubscribed', { channel: this.name }))
        local.leave()
        this.#locals.delete(local)
        this.#rest()
      },
    }
  }

  /** The messages from now on, or after `since`, for `for await`. A reader that is slow loses nothing: it reads on from
   * the history, and gets an error only where that does not reach back any more. */
  messages(options: Pick<SubscribeOptions<C>, 'recent' | 'since' | 'batch'> = {}): Messages<Message<EventsOf<C>>> {
    return new Messages((handlers, bind) => {
      const local = new Local(this.#localHost(), { ...(options as SubscribeOptions), ...handlers })
      bind(local)
      this.#join(local)
      return () => {
        local.leave()
        this.#locals.delete(local)
        this.#rest()
      }
    })
  }

  /**
   * Appends to the channel. While offline it waits in the outbox. Settled once the server has stored it, or for good.
   */
  publish<E extends keyof EventsOf<C> & string = 'message' & keyof EventsOf<C> & string>(
    data: EventsOf<C>[E] | Uint8Array,
    options: PublishOptions & { event?: E } = {},
  ): Promise<Published> {
    return this.#core.publish(this.name, data, options)
  }

  /** This channel's publications that are not answered. */
  pending(): readonly PendingPublish[] {
    return this.#core.outbox.pending().filter(entry => entry.channel === this.name)
  }

  /** Now or never. To everybody: the newest of each event counts, and nothing is answered. */
  signal<E extends keyof SignalsOf<C> & string>(
    event: E,
    data: SignalsOf<C>[E],
    options: SignalOptions = {},
  ): Promise<void> {
    return this.#core.signal(this.name, event, data, options.to)
  }

  /** Enters the channel's presence, until `leave()`. It follows the channel for that long. */
  enter(data?: DataOf<C>): Entry<DataOf<C>> {
    const entry = this.#presence.enter(data)
    this.#begin()
    return { ...entry, leave: () => (entry.leave(), this.#rest()) } as Entry<DataOf<C>>
  }

  /** Who is present, asked for once. */
  members(): Promise<Presence<DataOf<C>, InfoOf<C>>> {
    const take = (reply: ServerMessage) => {
      const { count, entries } = reply as ServerMessage & { type: 'presence' }
      return { count, members: entries?.map(memberOf) ?? null } as Presence<DataOf<C>, InfoOf<C>>
    }
    return this.#core.ask({ type: 'presence', channel: this.name }, take, { repeat: true })
  }

  /** The presence as the subscriptions with a `presence` handler know it: the same object until it changes. */
  presence(): Presence<DataOf<C>, InfoOf<C>> {
    return this.#presence.snapshot() as Presence<DataOf<C>, InfoOf<C>>
  }

  history(options: HistoryOptions = {}): Promise<History<EventsOf<C>>> {
    const take = (reply: ServerMessage) => {
      const { epoch, offset, publications, more, gap, reset } = reply as ServerMessage & { type: 'history' }
      const all = publications.map(p => this.#core.checked(this.name, this.#message(p, { epoch, offset: p.offset })))
      const messages = all.filter(message => message !== undefined)
      return { messages, position: { epoch, offset }, more: more === true, gap: gap === true, reset: reset === true }
    }
    const command = { ...options, type: 'history', channel: this.name }
    return this.#core.ask(command, take, { repeat: true }) as Promise<History<EventsOf<C>>>
  }

  /** @internal The connection is gone. */
  offline(): void {
    this.#remote.offline()
    this.#presence.offline()
  }

  /** @internal The client has ended. */
  end(error: FanfareError): void {
    this.#core.env.clearTimeout(this.#linger)
    this.#lingers = this.#remote.byServer = false
    this.offline()
    this.#remote.position = undefined
    this.#ended(error)
  }

  #localHost() {
    const { env } = this.#core
    return {
      env,
      name: this.name,
      position: () => this.#remote.position,
      history: (options: HistoryOptions) => this.history(options) as Promise<History>,
      report: (error: FanfareError) => this.#core.report(error),
    }
  }

  #join(local: Local): void {
    const { recent, since } = local.options
    this.#locals.add(local)
    const { state, position } = this.#remote
    const runs = state === 'live' && position !== undefined
    if (runs) {
      // In its own turn, so that the caller has its subscription when the first handler runs.
      Promise.resolve().then(() => {
        const at = this.#remote.position
        if (!local.active || local.begun || this.#remote.state !== 'live' || !at) return
        if (since || recent) local.catchUp(since ? { since } : { limit: recent as number })
        local.subscribed({ channel: this.name, position: at, recovered: undefined, count: 0, more: false })
      })
      if (local.options.presence) {
        if (this.#withPresence)
          Promise.resolve().then(() => local.presence(this.#presence.snapshot(), { type: 'sync' }))
        else this.#remote.renew()
      }
    } else if (since && !position && state === 'off') {
      this.#remote.position = since
      local.leads = true
    }
    this.#begin()
  }

  #begin(): void {
    this.#core.env.clearTimeout(this.#linger)
    this.#lingers = false
    this.#core.start()
    this.#core.pump()
  }

  /** A component has left. */
  #rest(): void {
    if (this.isWanted) return
    if (this.#remote.state === 'off') return void (this.#remote.position = undefined)
    const { env } = this.#core
    this.#lingers = true
    env.clearTimeout(this.#linger)
    this.#linger = env.setTimeout(() => {
      this.#lingers = false
      if (this.isWanted) return
      this.#core.pump()
      if (this.#remote.state === 'off') this.#remote.position = undefined
    }, LINGER_MS)
  }

  /** What any of them wants. */
  #options(): Omit<WireOptions, 'channel' | 'since'> {
    const options: Omit<WireOptions, 'channel' | 'since'> = {}
    this.#withPresence = false
    this.#withRecent = 0
    for (const { options: wanted } of this.#locals) {
      if (wanted.presence) this.#withPresence = options.presence = true
      if (wanted.recent) this.#withRecent = options.recent = Math.max(this.#withRecent, wanted.recent)
      options.batch ??= wanted.batch as NonNullable<typeof wanted.batch>
      options.slow ??= wanted.slow as NonNullable<typeof wanted.slow>
    }
    return options
  }

  #each(run: (local: Local) => void): void {
    for (const local of [...this.#locals]) run(local)
  }

  /** `before`: the page is what was missed after it. Else the page holds the newest ones, for those who asked. */
  #live(page: WirePublication[], at: WireSubscribed, before: Position | undefined, gap: Gap | undefined): void {
    const { epoch, offset, recovered, more } = at
    const position = { epoch, offset }
    this.#each(local => {
      const { recent, since } = local.options
      const goesOn = local.begun || local.leads
      const isLate = !before && recent !== undefined && recent > this.#withRecent
      const count = before ? (goesOn ? page.length : 0) : isLate ? 0 : Math.min(recent ?? 0, page.length)
      const skipped = count < page.length ? page[page.length - count - 1] : undefined
      const start = skipped ? { epoch, offset: skipped.offset } : gap?.position
      if (!goesOn && (since || (recent && (before || isLate)))) {
        local.catchUp(since ? { since } : { limit: recent as number })
      } else if (skipped && start) local.skip(start)
      const info = {
        channel: this.name,
        position,
        recovered: goesOn ? recovered : undefined,
        count,
        more: more === true,
      }
      local.subscribed(info)
      if (gap && goesOn) local.gap({ ...gap, position: start ?? position })
    })
    this.#presence.live()
    if (!this.#withPresence && [...this.#locals].some(local => local.options.presence)) this.#remote.renew()
  }

  #publication(publication: WirePublication, position: Position): void {
    this.#core.counters.messages = (this.#core.counters.messages ?? 0) + 1
    const message = this.#core.checked(this.name, this.#message(publication, position))
    if (!message) return
    if (this.#locals.size === 1) for (const local of this.#locals) local.message(message)
    else this.#each(local => local.message(message))
  }

  #message(publication: WirePublication, position: Position): Message {
    const { data, data64, event = 'message', idempotency_key, from, ts } = publication
    const message: { -readonly [K in keyof Message]: Message[K] } = {
      channel: this.name,
      event,
      data: data64 === undefined ? data : fromBase64(data64),
      position,
      ts,
    }
    if (idempotency_key !== undefined) message.key = idempotency_key
    if (from !== undefined) message.from = from
    return message
  }

  #other(message: ServerMessage): void {
    if (message.type === 'signal') {
      const { event, data, from } = message
      const signal: Signal = { channel: this.name, event, data, ...(from && { from }) }
      return this.#each(local => local.signal(signal))
    }
    if ('seq' in message) this.#presence.push(message)
  }

  #ended(error: FanfareError): void {
    const locals = [...this.#locals]
    this.#locals.clear()
    for (const local of locals) local.ended(error)
    this.#presence.ended(error)
  }
}
