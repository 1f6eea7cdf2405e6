/**
 * One channel's subscription on the server, over all connections: where it stands, and which publications are new.
 *
 * At most one command about it is on its way at a time. Offsets rise within a subscription; a loss is told before
 * anything newer. Over HTTP replies and messages overtake each other: messages wait for the answer to `subscribe`, and
 * where a message could be of an earlier subscription the connection is made anew, which settles it.
 * Wire: docs/protocol.md, "Subscribing" and "Coming back".
 */

import { FanfareError } from './errors.js'
import { rest } from './timers.js'
import type { Env } from './env.js'
import type { Gap, Position } from './types.js'
import { errorOf, type ServerMessage, type WireOptions, type WirePublication, type WireSubscribed } from './wire.js'
import type { Calls } from './calls.js'

/** Messages that wait for the answer to `subscribe`. */
const HELD_MAX = 1_000

/**
 * - `off`: not on the server; asked for at the next occasion if it is wanted.
 * - `bare`: asked for by `connect`, which is answered without an id.
 * - `asked`, `leaving`: a command is on its way.
 * - `resting`: refused for now.
 */
export type RemoteState = 'off' | 'bare' | 'asked' | 'leaving' | 'resting' | 'live'

/** Needed of its channel and of the connection. */
export interface RemoteHost {
  readonly env: Env
  readonly name: string
  readonly calls: Calls
  overtakes(): boolean
  mayLeave(): boolean
  isWanted(): boolean
  options(): Omit<WireOptions, 'channel' | 'since'>
  reconnect(reason: string): void
  pump(): void
  report(error: FanfareError): void
  /** It is live. `page`: what comes with it; `gap` where something is lost. */
  live(page: WirePublication[], at: WireSubscribed, before: Position | undefined, gap: Gap | undefined): void
  publication(publication: WirePublication, position: Position): void
  gap(gap: Gap): void
  other(message: ServerMessage): void
  /** The server does not want it. */
  ended(error: FanfareError): void
}

export class Remote {
  readonly #host: RemoteHost
  state: RemoteState = 'off'
  position: Position | undefined
  /** The server made it by itself. */
  byServer = false
  /** It ended on this connection: over HTTP its messages may still come. */
  #left = false
  #held: ServerMessage[] = []
  /** The server has subscribed us while our own `subscribe` was on its way. */
  #crossed: WireSubscribed | undefined
  #retries = 0
  #timer: unknown
  /** To be left and followed again, with other options. */
  #renew = false
  /** Its page could not be read twice: it goes on from the newest position. */
  passOver = false

  constructor(host: RemoteHost) {
    this.#host = host
  }

  /** Its options for a `connect` or a `subscribe`, from the last place. */
  options(): WireOptions {
    const { name } = this.#host
    if (this.passOver) {
      const { recent: _, ...options } = this.#host.options()
      return { channel: name, ...options }
    }
    return { channel: name, ...this.#host.options(), ...(this.position && { since: this.position }) }
  }

  /** `connect` asks for it. */
  bare(): WireOptions {
    this.state = 'bare'
    return this.options()
  }

  /** Other options are wanted than those it has. */
  renew(): void {
    this.#renew = this.state === 'live'
    this.#host.pump()
  }

  /** Sends what is due. Only while online. */
  pump(): void {
    const host = this.#host
    const wanted = host.isWanted()
    const again = this.state === 'live' && this.#renew
    if (this.state === 'live' && (!wanted || (again && !this.byServer))) return this.#leave()
    if (this.state === 'off' && !wanted) this.position = undefined // who comes next begins anew
    if (!wanted || !(this.state === 'off' || again)) return
    this.#renew = false
    if (host.overtakes() && this.#left) return host.reconnect('a channel is followed again')
    if (host.mayLeave()) return this.#later(500)
    this.state = 'asked'
    host.calls.ask(
      { type: 'subscribe', ...this.options() },
      (error, reply) => {
        if (this.state !== 'asked') return
        if (reply?.type === 'subscribed') {
          if (!host.overtakes()) this.#held = [] // it is all in the page, or before it
          return this.#live(reply)
        }
        if (error) this.#refused(error)
      },
      { internal: true },
    )
  }

  /** The connection is gone. */
  offline(): void {
    this.#host.env.clearTimeout(this.#timer)
    this.state = 'off'
    this.#left = this.#renew = false
    this.#held = []
    this.#crossed = undefined
  }

  /** A message about this channel that answers no command. */
  push(message: ServerMessage): void {
    const host = this.#host
    if (message.type === 'subscribed') return this.#subscribed(message)
    if (message.type === 'error') return this.state === 'bare' ? this.#refused(errorOf(message)) : host.other(message)
    if (this.state === 'asked' && (this.#crossed || host.overtakes())) {
      if (this.#held.push(message) > HELD_MAX) host.reconnect('too much came before `subscribed`')
      return
    }
    if (this.state !== 'live') return
    switch (message.type) {
      case 'message':
        return this.#publication(message, message.epoch ?? this.position?.epoch ?? '')
      case 'gap':
        return this.#gap(message)
      case 'unsubscribed':
        return this.#unsubscribed(message)
      default:
        return host.other(message)
    }
  }

  /** It was not asked for by a command: by `connect`, or by the application on the server. */
  #subscribed(message: WireSubscribed): void {
    if (this.state === 'bare') return this.#live(message)
    if (this.state === 'live' && this.#host.overtakes()) {
      const known = this.position
      if (known?.epoch === message.epoch && message.offset <= known.offset) return
      return this.#host.reconnect('the server has subscribed, too')
    }
    if (this.state === 'resting') {
      this.state = 'off'
      return this.#host.pump()
    }
    if (this.state === 'asked') this.#crossed = message // ours is on its way, and decides; refused, this one goes on
    if (this.state !== 'off') return
    this.byServer = true
    this.#live(message)
  }

  #live(message: WireSubscribed): void {
    const { epoch, offset, publications, recovered } = message
    const before = this.position
    this.#crossed = undefined
    this.state = 'live'
    this.#retries = 0
    this.passOver = false
    const position = { epoch, offset }
    const whole = !before || (recovered === true && before.epoch === epoch)
    const first = publications[0]
    const start = { epoch, offset: first ? first.offset - 1 : offset }
    const gap: Gap | undefined = whole
      ? undefined
      : { channel: message.channel, position: start, reason: 'unrecovered' }
    // The place moves with each message that is handed over, and to the end of the page at the end.
    this.position = before && whole ? before : start
    this.#host.live(publications, message, whole ? before : undefined, gap)
    for (const publication of publications) this.#publication(publication, epoch)
    if (this.state !== 'live') return
    this.position = position
    const held = this.#held
    this.#held = []
    for (const later of held) this.push(later)
    this.#host.pump()
  }

  #publication(publication: WirePublication, epoch: string): void {
    const { offset } = publication
    const known = this.position
    if (this.state !== 'live' || (known?.epoch === epoch && offset <= known.offset)) return
    const position = { epoch, offset }
    this.position = position
    this.#host.publication(publication, position)
  }

  #gap({ channel, epoch, offset }: ServerMessage & { type: 'gap' }): void {
    if (this.position?.epoch === epoch && offset <= this.position.offset) return
    this.position = { epoch, offset }
    this.#host.gap({ channel, position: this.position, reason: 'gap' })
  }

  #leave(): void {
    const host = this.#host
    this.state = 'leaving'
    this.#renew = false
    this.#left = true
    host.calls.ask(
      { type: 'unsubscribe', channel: host.name },
      error => {
        if (this.state !== 'leaving') return
        if (error?.code === 'timed_out') return host.reconnect('`unsubscribe` was not answered')
        if (error?.retryable) return this.#later(rest(host.env, this.#retries++, error.retryAfter), () => this.#leave())
        this.state = 'off'
        this.#retries = 0
        host.pump()
      },
      { internal: true },
    )
  }

  /** The server ended it. Where that is only for now, it is asked for again. */
  #unsubscribed({ channel, code, message }: ServerMessage & { type: 'unsubscribed' }): void {
    this.#left = true
    if (isRetryable(code)) return this.#later(rest(this.#host.env, 1))
    this.#end(new FanfareError(code, message ?? 'the server ended the subscription', { channel }))
  }

  #refused(error: FanfareError): void {
    const host = this.#host
    if (error.code === 'timed_out') return host.reconnect('`subscribe` was not answered')
    // An earlier subscription of ours is still there, as far as the server knows.
    if (error.code === 'already_subscribed') return this.#leave()
    if (error.retryable) return this.#later(rest(host.env, this.#retries++, error.retryAfter))
    this.#end(error)
  }

  #later(ms: number, run = () => this.#host.pump()): void {
    const { env } = this.#host
    this.state = 'resting'
    env.clearTimeout(this.#timer)
    this.#timer = env.setTimeout(() => {
      if (this.state !== 'resting') return
      this.state = 'off'
      run()
    }, ms)
  }

  #end(error: FanfareError): void {
    const crossed = this.#crossed
    const held = this.#held
    this.state = 'off'
    this.byServer = false
    this.position = undefined
    this.#held = []
    this.#crossed = undefined
    this.#host.ended(error)
    if (!crossed) return
    this.#held = held // what came for it
    this.#subscribed(crossed)
  }
}

/** The words of docs/protocol.md, "Errors", that say that the same command may succeed later. */
function isRetryable(code: string): boolean {
  const words = 'too_many_connections rate_limited internal timeout unknown unavailable overloaded hook_unavailable'
  return words.split(' ').includes(code)
}
