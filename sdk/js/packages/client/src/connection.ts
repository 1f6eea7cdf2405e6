/**
 * The connection: one state, one wire at a time, and everything that hangs on it.
 *
 * It routes between smaller machines: transports (`order.ts`), token, calls, channels, outbox. Its promises: every call
 * is settled once; what comes on a wire that is over is ignored; the wait between attempts has full jitter, is never
 * zero and starts small again only after a connection that lasted; a server that is silent for two heartbeats is left,
 * and a timer that is overdue after sleep is no silence. Wire: docs/protocol.md, "Connecting" and "Coming back".
 */

import { Calls, type AskOptions, NO_JSON } from './calls.js'
import { Channel } from './channel.js'
import type { Env } from './env.js'
import { type ErrorDetails, FanfareError, textOf } from './errors.js'
import { Order } from './order.js'
import { Outbox, tooLargeFor } from './publishes.js'
import { quiet } from './report.js'
import { backoff, deadline, randomKey } from './timers.js'
import { Tokens } from './tokens.js'
import type { Carrier, Session, Wire, WireEnd } from './transport.js'
import type {
  ClientEvents,
  ConnectionState,
  Message,
  OutboxOptions,
  Published,
  PublishOptions,
  Reason,
  Report,
  Schema,
  TokenSource,
  TransportName,
} from './types.js'
import {
  bytesOf,
  type Command,
  errorOf,
  jsonOf,
  type ServerMessage,
  type WireConnected,
  type WireDisconnect,
  type WireError,
} from './wire.js'

export interface CoreOptions {
  token?: TokenSource | undefined
  transports: readonly TransportName[]
  outbox?: OutboxOptions | undefined
  schemas?: Record<string, { events?: Record<string, Schema>; signals?: Record<string, Schema> }> | undefined
  connectTimeout: number
  requestTimeout: number
  lostAfter: number
  backoff: { min: number; max: number }
  debug: boolean | ((text: string) => void)
  version: string
}

/** A connection that lasted so long was a good one. */
const GOOD_MS = 10_000
/** So many connections that died within {@link YOUNG_MS}, all within {@link LOOP_MS}, are a loop. */
const LOOP_MAX = 10
const LOOP_MS = 30_000
const YOUNG_MS = 5_000
/** On a fallback the first transport is tried again after this time, doubled each time. */
const UPWARD_MS = 60_000
const UPWARD_MS_MAX = 10 * 60_000
const LOG_MAX = 200
/** Signals wait, and the newest of each event counts, while so many bytes wait in the wire. */
const SIGNAL_BACKLOG_MAX = 64 << 10

type Link = 'idle' | 'waiting' | 'token' | 'opening' | 'online' | 'ended'

export class Core {
  readonly env: Env
  readonly calls: Calls
  readonly outbox: Outbox
  readonly counters: Record<string, number> = {}
  readonly #options: CoreOptions
  readonly #carrier: Carrier
  readonly #session: Session
  readonly #channels = new Map<string, Channel>()
  readonly #order: Order
  readonly #tokens: Tokens
  readonly #emit: <E extends keyof ClientEvents>(event: E, value: ClientEvents[E]) => void
  readonly #log: string[] = []
  state: ConnectionState = { name: 'disconnected', reason: { code: 'idle', message: 'not begun' }, attempt: 0 }
  #link: Link = 'idle'
  #wire: Wire | undefined
  /** Counts wires: what an earlier one says does not count. */
  #life = 0
  #connectId = 0
  #reached = false
  #since = 0
  #failures = 0
  #young: number[] = []
  #heard = true
  #silent = 0
  #unreadable = false
  #notBefore = 0
  #connectMax = 128
  #messageBytes = Infinity
  #pumping = false
  #timer: unknown
  #cancel: () => void = () => {}
  #cancelBeat: () => void = () => {}
  #upward: unknown
  #upwardMs = UPWARD_MS
  #stopTrial: () => void = () => {}
  #lostTimer: unknown
  #away: { since: number; told: boolean } | undefined
  #lastProbe = -Infinity
  readonly #signals = new Map<string, Command>()
  #signalTimer: unknown
  #unwatch: (() => void) | undefined

  constructor(
    env: Env,
    options: CoreOptions,
    carrier: (session: Session) => Carrier,
    emit: <E extends keyof ClientEvents>(event: E, value: ClientEvents[E]) => void,
  ) {
    this.env = env
    this.#options = options
    this.#emit = emit
    this.#session = { page: randomKey(env, 16) }
    this.#carrier = carrier(this.#session)
    this.#order = new Order(options.transports)
    this.#tokens = new Tokens(env, options.token)
    this.calls = new Calls(env, command => this.#send(command))
    this.outbox = new Outbox(
      {
        env,
        calls: this.calls,
        scope: () =>
          this.#session.user === undefined ? `client ${this.#session.client}` : `user ${this.#session.user}`,
        backlog: () => this.#wire?.backlog() ?? 0,
        bytesMax: () => this.#messageBytes,
        report: error => this.report(error),
        changed: pending => emit('outbox', pending),
      },
      options.outbox,
    )
  }

  // What the application asks.

  channel(name: string): Channel {
    let channel = this.#channels.get(name)
    if (!channel) this.#channels.set(name, (channel = new Channel(this, name)))
    return channel
  }

  /** Connects, if nothing has begun it and nothing has ended it. */
  start(): void {
    if (this.#link === 'idle') this.#open()
  }

  /** Connects now, whatever the state was. */
  connect(): void {
    if (this.#link === 'idle' || this.#link === 'waiting' || this.#link === 'ended') {
      this.#young = []
      this.#open()
    }
  }

  /** Ends for good, and the session on the server too. */
  close(): void {
    const reason: Reason = { code: 'closed', message: 'the client was closed' }
    this.#drop(true)
    this.#end({ name: 'disconnected', reason, attempt: 0 }, new FanfareError('closed', reason.message))
    for (const channel of this.#channels.values()) channel.end(new FanfareError('closed', reason.message))
    this.#carrier.end()
    this.#tokens.end()
    this.#unwatch?.()
    this.#unwatch = undefined
    this.#stopLost()
  }

  setToken(source: TokenSource): void {
    const link = this.#link
    const { name, reason } = this.state
    const isOut = source === null
    const isOver = link === 'opening' || (isOut && link === 'online')
    this.#tokens.set(source)
    if (isOver) this.#drop(isOut)
    if (isOut) delete this.#session.ticket // it would bring the user back
    const isDue = name === 'needs-auth' || (link === 'waiting' && reason?.code === 'token_failed')
    if (isOver || isDue || link === 'token') this.#open()
    else if (link === 'online') this.#refresh()
  }

  /** `take` makes the result of the reply. */
  ask<T>(command: Command, take: (reply: ServerMessage) => T, options: AskOptions = {}): Promise<T> {
    this.start()
    const promise = new Promise<ServerMessage>((resolve, reject) => {
      if (this.#isOver) return reject(this.#ended())
      if (this.calls.size >= 1_000) return reject(new FanfareError('outbox_full', '1000 calls are waiting already'))
      const tooLarge = this.#tooLarge(command)
      if (tooLarge) return reject(tooLarge)
      this.calls.ask(command, (error, reply) => (error ? reject(error) : resolve(reply as ServerMessage)), {
        timeout: this.#options.requestTimeout,
        ...options,
      })
    })
    return quiet(promise.then(take))
  }

  publish(channel: string, data: unknown, options: PublishOptions): Promise<Published> {
    this.start()
    const checked = this.#check(channel, 'events', options.event ?? 'message', data)
    return quiet(
      checked instanceof FanfareError
        ? Promise.reject(checked)
        : this.#isOver
          ? Promise.reject(this.#ended())
          : this.outbox.publish(channel, checked.data, options),
    )
  }

  signal(channel: string, event: string, data: unknown, to: string | undefined): Promise<void> {
    this.start()
    const checked = this.#check(channel, 'signals', event, data)
    if (checked instanceof FanfareError) return quiet(Promise.reject(checked))
    const command: Command = { type: 'signal', channel, event, data: checked.data ?? null }
    if (to !== undefined) return this.ask({ ...command, to }, () => {})
    if (jsonOf(command.data) === undefined) return quiet(Promise.reject(new FanfareError('bad_argument', NO_JSON)))
    if (this.#link !== 'online' || this.#tooLarge(command)) return Promise.resolve() // now or never
    this.#signals.set(JSON.stringify([channel, event]), command)
    this.#flushSignals()
    return Promise.resolve()
  }

  /** The device may have come back, or have slept: finds out at once whether the connection is good. */
  probe(): Promise<boolean> {
    if (this.#link === 'waiting') this.#open()
    if (this.#link !== 'online') return Promise.resolve(false)
    const life = this.#life
    return this.ask({ type: 'subscribe', channels: [] }, () => true, { timeout: 2_000 }).catch(
      (error: FanfareError) => {
        if (life !== this.#life || error.code !== 'timed_out') return life === this.#life
        this.#lost({ code: 'silence', message: 'the server did not answer within 2000 ms' }, 1)
        return false
      },
    )
  }

  reportOf(): Report {
    const channels = [...this.#channels.values()].map(channel => ({
      channel: channel.name,
      state: channel.remote.state,
      handlers: channel.handlers,
      ...(channel.position && { position: channel.position }),
    }))
    const { state, counters } = this
    const transport = this.#order.current
    const pending = this.calls.size + this.outbox.size
    return {
      version: this.#options.version,
      state,
      transport,
      counters: { ...counters },
      channels,
      pending,
      log: [...this.#log],
    }
  }

  // What channels ask.

  get overtakes(): boolean {
    return this.#wire?.overtakes === true
  }

  mayLeave(channel: string): boolean {
    return this.#carrier.mayLeave(channel)
  }

  report(error: FanfareError): void {
    this.#note(`error ${error.message}`)
    this.#emit('error', error)
  }

  /** The wire is left because its messages cannot be told apart any more. */
  reconnect(why: string): void {
    if (this.#link === 'online') this.#lost({ code: 'resync', message: why }, 1 + Math.floor(this.env.random() * 100))
  }

  /** Sends what has become possible, once for all that was asked in this turn. */
  pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    Promise.resolve().then(() => {
      this.#pumping = false
      if (this.#link !== 'online') return
      for (const channel of this.#channels.values()) channel.remote.pump()
    })
  }

  /** A message whose data fits the schema of its event; the others are reported. */
  checked<M extends Message>(channel: string, message: M): M | undefined {
    if (!this.#options.schemas) return message
    const checked = this.#check(channel, 'events', message.event, message.data)
    if (!(checked instanceof FanfareError))
      return checked.data === message.data ? message : { ...message, data: checked.data }
    this.report(checked)
    return undefined
  }

  // One connection's life.

  #open(): void {
    this.env.clearTimeout(this.#timer)
    this.#unwatch ??= this.env.watch?.(
      () => this.#wake(),
      () => this.#hide(),
    )
    this.#startLost()
    const transport = this.#order.current
    const reason = this.state.reason
    this.#link = 'token'
    const life = ++this.#life
    this.#set({
      name: 'connecting',
      attempt: this.#failures + 1,
      transport,
      ...(reason && this.#failures > 0 && { reason }),
    })
    if (life !== this.#life) return // a handler has closed it
    if (!this.#tokens.isStale) return this.#begin()
    this.#tokens.get(this.#options.connectTimeout).then(
      token => {
        if (life !== this.#life) return
        if (token === null) this.#needsAuth({ code: 'token_missing', message: 'the token function gave none' })
        else this.#begin()
      },
      (error: FanfareError) => life === this.#life && this.#lost({ code: 'token_failed', message: error.message }),
    )
  }

  #begin(): void {
    const transport = this.#order.current
    const life = ++this.#life
    const mine = () => life === this.#life
    this.#link = 'opening'
    this.#reached = false
    const wire = this.#carrier.open(transport, {
      reached: () => mine() && (this.#reached = true),
      messages: messages => {
        this.#heard ||= mine()
        this.#messages(life, messages)
      },
      replies: messages => this.#messages(life, messages),
      closed: end => mine() && this.#closed(end),
    })
    if (!wire) return this.#notThrough({ code: 'no_transport', message: `${transport} is not to be had here` }, true)
    this.#adopt(wire)
    wire.connect(() => this.#greeting())
  }

  #adopt(wire: Wire): void {
    this.#wire = wire
    const ms = this.#options.connectTimeout
    this.#cancel = deadline(this.env, ms, () => {
      // Something on the way may hold back the answer to a request that hangs: the next transport may get through.
      this.#reached ||= wire.overtakes
      this.#notThrough({ code: 'timed_out', message: `no answer within ${ms} ms` })
    })
  }

  #greeting(): Command {
    const { ticket, page, ack } = this.#session
    const wanted = [...this.#channels.values()].filter(channel => channel.isWanted)
    // A command of before may end a subscription of this connection: then it is another session's.
    const token = this.#tokens.current
    const resumes = ticket !== undefined && !wanted.some(channel => this.mayLeave(channel.name))
    this.#connectId = this.calls.nextId()
    const subscribe = wanted.slice(0, this.#connectMax).map(channel => channel.remote.bare())
    return {
      type: 'connect',
      id: this.#connectId,
      page,
      ...(token !== undefined && { token }),
      ...(resumes && { ticket }),
      ...(resumes && ack !== undefined && { ack }),
      ...(subscribe.length && { subscribe }),
    }
  }

  #messages(life: number, messages: ServerMessage[]): void {
    for (const message of messages) {
      if (life !== this.#life) return // one of them ended the connection
      if (this.#link === 'online') this.#message(message)
      else this.#greeted(message)
    }
  }

  #greeted(message: ServerMessage): void {
    if (message.type === 'connected') this.#online(message)
    else if (message.type === 'error' && message.id === this.#connectId) this.#refused(message)
    else if (message.type === 'disconnect') this.#disconnected(message)
    else if (message.type === 'ping') this.#wire?.send([{ type: 'pong' }])
  }

  #online(connected: WireConnected): void {
    const { client, user, ticket, expires, session_resumed: resumed, ping, limits = {} } = connected
    const wire = this.#wire as Wire
    this.#cancel()
    this.#link = 'online'
    this.#since = this.env.now()
    Object.assign(this.#session, { client, user, ticket, ack: undefined })
    if (limits.subscriptions !== undefined) this.#connectMax = limits.subscriptions
    this.#messageBytes = limits.message_bytes ?? Infinity
    this.#order.worked(wire.transport)
    this.#carrier.online(resumed)
    this.#tokens.accepted(expires, () => this.#refresh())
    this.#count(resumed ? 'resumed' : 'connected')
    this.#beat(ping)
    this.#tryUpwardLater()
    this.calls.begin()
    const life = this.#life
    const away = this.#stopLost()
    this.#set({ name: 'connected', transport: wire.transport, client, ...(user !== undefined && { user }), resumed })
    if (away !== undefined) this.#emit('connectivity', { name: 'restored', after: away })
    if (life !== this.#life) return // a handler has closed it
    const ms = this.#options.requestTimeout
    this.#cancel = deadline(this.env, ms, () => {
      const waits = [...this.#channels.values()].find(channel => channel.remote.state === 'bare')
      if (life === this.#life && waits)
        this.reconnect(`the subscription to ${waits.name} was not answered within ${ms} ms`)
    })
    this.outbox.online(limits.idempotency_keys_ttl)
    this.pump()
  }

  #message(message: ServerMessage): void {
    // Nearly all that comes, and never an answer.
    if (message.type === 'message') return this.#channels.get(message.channel)?.remote.push(message)
    if (this.calls.reply(message)) return
    switch (message.type) {
      case 'ping':
        return this.#wire?.send([{ type: 'pong' }])
      case 'ticket':
        this.#session.ticket = message.ticket
        return
      case 'disconnect':
        return this.#disconnected(message)
      case 'token_expiring':
        return this.#tokens.isFunction ? this.#refresh() : undefined
      case 'subscribed': {
        const known = this.#channels.get(message.channel)?.isWanted
        const channel = this.channel(message.channel)
        channel.remote.push(message)
        if (!known && channel.remote.byServer) this.#emit('subscribed', { channel: message.channel })
        return
      }
    }
    const channel =
      'channel' in message && message.channel !== undefined ? this.#channels.get(message.channel) : undefined
    if (channel) channel.remote.push(message)
    else if (message.type === 'error') this.report(errorOf(message))
  }

  #beat(ping: number): void {
    this.#silent = 0
    if (ping <= 0) return
    const beat = () => {
      this.#silent = this.#heard ? 0 : this.#silent + 1
      this.#heard = false
      if (this.#silent >= 2)
        return this.#lost({ code: 'silence', message: `the server sent nothing for ${2 * ping} ms` })
      this.#cancelBeat = deadline(this.env, ping, beat)
    }
    this.#cancelBeat = deadline(this.env, ping, beat)
  }

  // How it ends.

  #closed(end: WireEnd): void {
    const code = end.kind === 'nonsense' ? 'protocol' : end.kind
    const reason: Reason = { code, message: 'message' in end ? end.message : end.error.message }
    switch (end.kind) {
      case 'refused':
        return this.#notThrough(reason, true)
      case 'nonsense':
        if (this.#link !== 'online') return this.#notThrough(reason)
        // It is in the history, perhaps: the second time it is passed over, or every recovery would end at it.
        if (this.#unreadable) for (const channel of this.#channels.values()) channel.remote.passOver = true
        this.#unreadable = true
        return this.#lost(reason)
      case 'unavailable':
        this.#order.patience()
        return this.#lost(reason, end.retryAfter)
      case 'error':
        if (end.session === 'forget') delete this.#session.ticket
        return this.#link === 'online'
          ? this.#lost({ code: end.error.code, message: end.error.message })
          : this.#refused(end.error)
      case 'lost': {
        const { code } = end
        const again = code === undefined || isRetryable(code)
        if (again && this.#link !== 'online') return this.#notThrough(reason)
        return this.#byCode({ ...reason, ...(code !== undefined && { closeCode: code }) }, again)
      }
    }
  }

  #disconnected({ code, reason, retry, delay }: WireDisconnect): void {
    this.#byCode({ code: reason, message: `the server ended the connection: ${reason}`, closeCode: code }, retry, delay)
  }

  /** The server, or the close code, has the word. */
  #byCode(reason: Reason, retry: boolean, delay?: number): void {
    const { closeCode } = reason
    if (closeCode === 4006) delete this.#session.ticket // another client has the session
    if (closeCode === 4007 || closeCode === 4502 || closeCode === 3000) {
      // What has expired is the one before one that is on its way.
      if (!this.#tokens.refused(closeCode === 4007)) return this.#needsAuth(reason)
      return this.#lost(reason)
    }
    // 4500: our `connect` came too late, from a device that slept.
    if (retry || closeCode === 4500) this.#lost(reason, delay)
    else this.#fail(reason)
  }

  /** The server refused `connect`. */
  #refused(error: WireError): void {
    const { code, message, retryable, retry_after } = error
    const reason = { code, message }
    if (code === 'unauthorized' || code === 'token_expired') {
      return this.#tokens.refused() ? this.#lost(reason) : this.#needsAuth(reason)
    }
    // One of the subscriptions, perhaps: the next one names none, and each is asked for alone.
    const alone = /^(limit_exceeded|bad_request)$/.test(code) && this.#connectMax > 0
    if (alone) this.#connectMax = 0
    if (retryable || alone) this.#lost(reason, retry_after)
    else this.#fail(reason)
  }

  /** The transport did not get through: the next one, where the server was reached. */
  #notThrough(reason: Reason, never = false): void {
    // A browser does not tell a socket that was refused from a server that is away: the next transport finds out.
    if (!this.#reached && !never && this.#order.current !== 'websocket') {
      this.#order.abandon()
      return this.#lost(reason)
    }
    const step = this.#order.failed(never ? reason.message : undefined)
    this.#note(`${this.#wire?.transport ?? 'transport'} did not get through: ${reason.message}`)
    if (step === 'wait') return this.#lost(reason)
    if (step !== 'next') return this.#fail({ code: 'no_transport', message: step.reason })
    this.#drop()
    const life = this.#life
    this.#set({ name: 'connecting', attempt: this.#failures + 1, transport: this.#order.current, reason })
    if (life === this.#life) this.#begin()
  }

  /** It is gone, and comes back after a while. */
  #lost(reason: Reason, asked = 0): void {
    const { min, max } = this.#options.backoff
    const now = this.env.now()
    const least = this.#link === 'online' ? 1 : min // a server that asks for less, time and again, is not obeyed
    const wait = asked > 0 ? Math.max(asked, least) : backoff(this.env, this.#failures, min, max)
    if (this.#link === 'online') {
      const lasted = now - this.#since
      if (lasted >= GOOD_MS) {
        this.#failures = 0
        this.#unreadable = reason.code === 'protocol'
      }
      if (reason.closeCode === undefined && !asked) this.#order.lasted(lasted)
      if (lasted < YOUNG_MS) this.#young.push(now)
      this.#young = this.#young.filter(at => at > now - LOOP_MS)
      if (this.#young.length >= LOOP_MAX) {
        const text = `${LOOP_MAX} connections within ${LOOP_MS} ms ended at once, the last one so: ${reason.message}`
        return this.#fail({ code: 'reconnect_loop', message: text })
      }
    }
    const notBefore = Math.max(this.#notBefore, this.#session.notBefore ?? 0)
    const ms = Math.min(Math.max(wait, notBefore - now), 2 ** 31 - 1)
    if (reason.code === 'unavailable' && asked > 0) this.#notBefore = now + Math.min(asked, UPWARD_MS_MAX)
    this.#failures++
    this.#drop()
    this.#link = 'waiting'
    const { code } = reason
    this.#set({
      name: /^(protocol|refused)$/.test(code) ? 'error' : 'disconnected',
      reason,
      retryAt: now + ms,
      attempt: this.#failures,
    })
    this.#startLost()
    this.env.clearTimeout(this.#timer)
    this.#timer = this.env.setTimeout(() => this.#link === 'waiting' && this.#open(), ms)
  }

  #needsAuth(reason: Reason): void {
    this.#drop()
    this.#link = 'ended'
    this.#failed(reason)
    this.#set({ name: 'needs-auth', reason })
  }

  #fail(reason: Reason): void {
    this.#drop()
    const details: ErrorDetails = reason.closeCode === undefined ? {} : { closeCode: reason.closeCode }
    this.#end({ name: 'error', reason }, new FanfareError(reason.code, reason.message, details))
    this.#failed(reason)
  }

  #failed(reason: Reason): void {
    this.#stopLost()
    this.#emit('connectivity', { name: 'failed', reason })
  }

  /** Calls end; subscriptions and what is in the outbox wait for a `connect()`. */
  #end(state: ConnectionState, error: FanfareError): void {
    this.#link = 'ended'
    this.env.clearTimeout(this.#timer)
    this.calls.end(error)
    if (state.name === 'disconnected') this.outbox.end(error)
    delete this.#session.ticket
    this.#set(state)
  }

  /** Nothing that was asked on the wire is answered any more. */
  #drop(leave = false): void {
    this.#life++
    this.#cancel()
    this.#cancelBeat()
    this.#stopTrial()
    this.#tokens.stop()
    this.env.clearTimeout(this.#upward)
    this.env.clearTimeout(this.#signalTimer)
    this.#signals.clear()
    const wire = this.#wire
    this.#wire = undefined
    const unsent = wire?.unsent() ?? new Set<number>()
    wire?.close(leave)
    const isAway = ['waiting', 'token', 'opening'].includes(this.#link)
    this.#carrier.offline(leave && isAway && this.#options.transports.some(name => name !== 'websocket'))
    if (!wire) return
    this.calls.offline(unsent)
    this.outbox.offline(unsent)
    for (const channel of this.#channels.values()) channel.offline()
  }

  /** Another token is shown on the connection that is there when it comes. */
  #refresh(): void {
    const later = () => this.#tokens.later(5_000, () => this.#refresh())
    this.#tokens.get(this.#options.connectTimeout).then(
      token => {
        if (token === null || this.#link !== 'online') return
        const life = this.#life
        const done = (error?: FanfareError, reply?: ServerMessage) => {
          if (life !== this.#life) return
          if (reply?.type === 'result') return this.#tokens.accepted(reply.expires, () => this.#refresh())
          if (error?.retryable) return later()
          if (error?.code === 'denied') return (this.#drop(true), this.#open()) // another user's: for another session
          this.#tokens.refused()
          if (error) this.report(error)
        }
        this.calls.ask({ type: 'refresh', token }, done, { internal: true })
      },
      error => (this.report(error as FanfareError), later()),
    )
  }

  // Upward again.

  #tryUpwardLater(): void {
    this.env.clearTimeout(this.#upward)
    if (!this.#order.isFallback || this.#order.first !== 'websocket') {
      this.#upwardMs = UPWARD_MS
      return
    }
    this.#upward = this.env.setTimeout(() => this.#tryUpward(), this.#upwardMs)
  }

  /** A socket beside the connection, without a session: once it brings a word of the server, the session moves. */
  #tryUpward(): void {
    this.#stopTrial()
    if (this.calls.size) return this.#tryUpwardLater()
    this.#upwardMs = Math.min(this.#upwardMs * 2, UPWARD_MS_MAX)
    const settle = (wire?: Wire) => {
      cancel()
      this.#stopTrial = () => {}
      wire?.close()
      this.#tryUpwardLater()
    }
    const trial = this.#carrier.open('websocket', {
      reached: () => {},
      replies: () => {},
      messages: () => {
        if (!trial || this.calls.size) return settle(trial)
        cancel()
        trial.close()
        this.#note('websocket gets through again')
        this.#drop()
        this.#order.worked('websocket')
        const life = this.#life
        this.#set({ name: 'connecting', attempt: 1, transport: 'websocket' })
        if (life === this.#life) this.#begin()
      },
      closed: () => settle(),
    })
    const cancel = deadline(this.env, this.#options.connectTimeout, () => settle(trial))
    if (!trial) return cancel()
    this.#stopTrial = () => (cancel(), trial.close())
    trial.connect(() => ({ type: 'unsubscribe', id: this.calls.nextId(), channel: 'probe' })) // `not_connected`
  }

  // The page, the log, the rest.

  /** At most one probe in two seconds: several events tell of one return. */
  #wake(): void {
    const now = this.env.now()
    if (this.state.reason?.code === 'page_hidden') return this.connect()
    if (Math.abs(now - this.#lastProbe) < 2_000) return
    this.#lastProbe = now
    void this.probe()
  }

  /** The page goes, perhaps to the back-forward cache: others should not see a ghost. */
  #hide(): void {
    if (this.#link === 'ended' || this.#link === 'idle') return
    this.#drop(true)
    this.env.clearTimeout(this.#timer)
    if (!this.#away?.told) this.#stopLost() // the banner stands until there is a connection
    this.#link = 'idle'
    this.#set({ name: 'disconnected', reason: { code: 'page_hidden', message: 'the page was left' }, attempt: 0 })
  }

  #send(command: Command): void {
    this.#wire?.send([command])
  }

  #flushSignals(): void {
    const wire = this.#wire
    if (!wire || this.#link !== 'online') return
    this.env.clearTimeout(this.#signalTimer)
    if (wire.backlog() > (wire.overtakes ? 0 : SIGNAL_BACKLOG_MAX)) {
      this.#signalTimer = this.env.setTimeout(() => this.#flushSignals(), 50)
      return
    }
    wire.send([...this.#signals.values()])
    this.#signals.clear()
  }

  /** The time without a connection begins, if it has not. */
  #startLost(): void {
    if (this.#away) return
    const away = { since: this.env.now(), told: false }
    this.#away = away
    this.#lostTimer = this.env.setTimeout(() => {
      away.told = true
      const reason = this.state.reason ?? { code: 'timed_out', message: 'no connection yet' }
      this.#emit('connectivity', { name: 'lost', reason })
    }, this.#options.lostAfter)
  }

  /** It ends: how long it was, where it was told. */
  #stopLost(): number | undefined {
    const away = this.#away
    this.#away = undefined
    this.env.clearTimeout(this.#lostTimer)
    return away?.told ? this.env.now() - away.since : undefined
  }

  get #isOver(): boolean {
    return this.#link === 'ended' && this.state.name !== 'needs-auth'
  }

  #ended(): FanfareError {
    const { reason } = this.state
    return new FanfareError('closed', `the client has ended: ${reason?.message ?? 'closed'}`)
  }

  #tooLarge({ data, channel }: Command): FanfareError | undefined {
    return data === undefined ? data : tooLargeFor(this.#messageBytes, bytesOf(jsonOf(data) ?? ''), channel)
  }

  #check(channel: string, kind: 'events' | 'signals', event: string, data: unknown): { data: unknown } | FanfareError {
    const { schemas } = this.#options
    if (!schemas) return { data }
    const pattern = Object.keys(schemas).find(pattern => matches(pattern, channel))
    const schema = pattern === undefined ? undefined : schemas[pattern]?.[kind]?.[event]
    try {
      return { data: schema ? schema.parse(data) : data }
    } catch (cause) {
      return new FanfareError('bad_argument', `\`${event}\` does not fit its schema: ${textOf(cause)}`, {
        channel,
        cause,
      })
    }
  }

  #count(name: string): void {
    this.counters[name] = (this.counters[name] ?? 0) + 1
  }

  #set(state: ConnectionState): void {
    this.state = state
    this.#note(`${state.name}${state.reason ? `: ${state.reason.code}: ${state.reason.message}` : ''}`)
    this.#emit('state', state)
  }

  #note(text: string): void {
    const { debug } = this.#options
    const line = `${this.env.now()} ${text}`
    if (this.#log.push(line) > LOG_MAX) this.#log.shift()
    if (debug) (typeof debug === 'function' ? debug : this.env.log)?.(`fanfare ${text}`)
  }
}

/** The close codes after which a client comes back: docs/protocol.md, "The end of a connection". */
function isRetryable(code: number): boolean {
  if (code >= 4000) return code < 4500
  return ![1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003].includes(code)
}

/** `*` is one segment, `**` the rest. */
export function matches(pattern: string, name: string): boolean {
  const [p, n] = [pattern.split(':'), name.split(':')]
  for (let i = 0; i < p.length; i++) {
    if (p[i] === '**') return n.length > i
    if (n[i] === undefined || (p[i] !== '*' && p[i] !== n[i])) return false
  }
  return p.length === n.length
}
