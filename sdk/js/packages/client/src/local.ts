/**
 * One component's interest in a channel: its handlers, and what it waits for before it is live.
 *
 * Several of them share one subscription on the server. While one loads (`resync`, or pages of history that it asked
 * for later than the others), what comes is kept for it, {@link KEPT_MAX} at most; if there is more, it reads on from
 * the history, or loads again. A handler that throws costs its own message alone.
 */

import { FanfareError, textOf } from './errors.js'
import { guarded } from './report.js'
import { backoff } from './timers.js'
import type { Env } from './env.js'
import type {
  Gap,
  History,
  HistoryOptions,
  Message,
  Position,
  Presence,
  PresenceChange,
  Signal,
  SubscribeOptions,
  Subscribed,
} from './types.js'

const KEPT_MAX = 1_000
const PAGE = 1_000

/** Needed of its channel. */
export interface LocalHost {
  readonly env: Env
  readonly name: string
  /** Where the subscription on the server is. */
  position(): Position | undefined
  history(options: HistoryOptions): Promise<History>
  report(error: FanfareError): void
}

export class Local {
  readonly options: SubscribeOptions
  readonly #host: LocalHost
  active = true
  /** The first `subscribed` was told. */
  begun = false
  /** Its `since` is where the subscription on the server begins. */
  leads = false
  /** Messages are kept while it loads. */
  #kept: Message[] | undefined
  #overflowed = false
  /** Counts what it loads: an answer of an earlier load is of no use. */
  #load = 0
  /** The place of the last message that was handed over or skipped. */
  #place: Position | undefined
  /** Where it became live. */
  #start: Position | undefined
  #timer: unknown

  readonly #threw = (thrown: unknown) => this.#report('a handler threw', thrown)

  constructor(host: LocalHost, options: SubscribeOptions) {
    this.#host = host
    this.options = options
    this.#place = options.since
  }

  subscribed(info: Subscribed): void {
    if (!this.active) return
    const first = !this.begun
    this.begun = true
    this.#start ??= info.position
    this.#call(this.options.subscribed, info)
    if (first) this.#resync(info.position, 'first')
  }

  /** What lies up to this place is not for this component. */
  skip(place: Position): void {
    if (!this.#isPast(place)) this.#place = place
  }

  /** `readsOn`: what it loads and what was kept lie behind it. */
  gap(gap: Gap, readsOn?: boolean): void {
    if (!this.active || !this.begun) return
    if (this.#isPast(gap.position)) gap = { ...gap, position: this.#place as Position } // it has read further
    this.#place = gap.position
    if (!readsOn) {
      this.#load++
      this.#kept = undefined
      this.#overflowed = false
    }
    this.#call(this.options.gap, gap)
    this.#resync(gap.position, gap.reason)
  }

  message(message: Message): void {
    if (!this.active || !this.begun) return // it came within a handler: its turn is later
    const kept = this.#kept
    if (!kept) return this.#deliver(message)
    if (kept.length < KEPT_MAX) kept.push(message)
    else this.#overflowed = true
  }

  signal(signal: Signal): void {
    if (this.active && this.begun) this.#call(this.options.signal, signal)
  }

  presence(presence: Presence, change: PresenceChange): void {
    const { presence: handler } = this.options
    if (this.active && this.begun && handler) this.#call(() => handler(presence, change), undefined)
  }

  /** Nothing comes any more. */
  leave(): void {
    this.active = false
    this.#host.env.clearTimeout(this.#timer)
  }

  ended(error: FanfareError): void {
    if (!this.active) return
    this.leave()
    this.#call(this.options.ended, error)
  }

  /** Reads what the others had before: the newest `limit`, or all `since` a place. Meanwhile live ones are kept. */
  catchUp(from: HistoryOptions): void {
    const load = this.#begin()
    const { env, name } = this.#host
    let failures = 0
    const fail = (options: HistoryOptions, thrown: unknown): void => {
      if (load !== this.#load || !this.active) return
      if (thrown instanceof FanfareError && thrown.retryable && failures++ < 8) {
        const ms = backoff(env, failures, 500, 30_000)
        this.#timer = env.setTimeout(() => load === this.#load && void read(options), ms)
        return
      }
      if (thrown instanceof FanfareError) this.#host.report(thrown)
      if (options.since || this.#overflowed) this.#lose('overflow')
      else this.#end()
    }
    const read = (options: HistoryOptions): Promise<void> =>
      this.#host.history({ limit: PAGE, ...options }).then(
        page => take(page, options),
        thrown => fail(options, thrown),
      )
    const take = (page: History, options: HistoryOptions): Promise<void> | void => {
      if (load !== this.#load || !this.active) return
      const first = page.messages[0]?.position
      const low = first ?? page.position
      const start = this.#start
      // More came since it is live than it asked for, or in another epoch, and is all there, if there was room.
      if (start && !options.since && !(low.epoch === start.epoch && low.offset <= start.offset))
        return this.#overflowed ? read({ since: start }) : this.#end()
      if (page.reset || page.gap) {
        if (!first) return this.#lose('unrecovered')
        this.gap({ channel: name, position: before(first), reason: 'unrecovered' }, true)
        if (load !== this.#load || !this.active) return
      }
      for (const message of page.messages) {
        this.#deliver(message)
        if (load !== this.#load || !this.active) return // the reader is full, or has left
      }
      const since = page.messages[page.messages.length - 1]?.position ?? page.position
      // Of a page that no schema lets through, the end is not known.
      if (page.more && options.since) return first ? read({ since }) : this.#lose('unrecovered')
      // What was kept up to the head of this page is in it; what found no room is in the next one.
      if (!this.#overflowed) return this.#end(page.position)
      this.#overflowed = false
      this.#kept = []
      return read({ since: page.position })
    }
    void read(from)
  }

  /** No more messages until {@link catchUp}: the one who reads is slow. */
  pause(): void {
    this.#load++
    this.#kept = []
    this.#overflowed = false
  }

  #begin(): number {
    this.#host.env.clearTimeout(this.#timer)
    this.#kept ??= []
    return ++this.#load
  }

  /** Something is lost, but nothing of what was kept, unless that found no room. */
  #lose(reason: Gap['reason']): void {
    const kept = (!this.#overflowed && this.#kept) || []
    const position = kept[0] ? before(kept[0].position) : this.#host.position()
    if (position) this.gap({ channel: this.#host.name, position, reason })
    for (const message of kept) this.message(message)
  }

  /** It is live: what was kept comes now, but for what lies up to `upTo`. */
  #end(upTo?: Position): void {
    const kept = this.#kept ?? []
    const load = this.#load
    this.#kept = undefined
    if (upTo?.epoch && (this.#place?.epoch ?? upTo.epoch) === upTo.epoch) this.skip(upTo)
    for (const message of kept) {
      if (load !== this.#load || !this.active) return
      this.#deliver(message)
    }
  }

  #resync(position: Position, reason: 'first' | Gap['reason'], failures = 0): void {
    const { resync } = this.options
    if (!resync) return
    const { env } = this.#host
    const load = this.#begin()
    const again = (at: Position, failed: number) => {
      this.#timer = env.setTimeout(
        () => load === this.#load && this.active && this.#resync(at, reason, failed),
        failed ? backoff(env, failed, 1_000, 30_000) : 0,
      )
    }
    const settled = (loaded: Position | void) => {
      if (load !== this.#load || !this.active) return
      if (!this.#overflowed) return this.#end(loaded ?? undefined)
      // More came while it loaded than could be kept: it loads again, from where the channel is now.
      const at = this.#host.position() ?? position
      this.#overflowed = false
      this.#kept = []
      again(at, 0)
    }
    const failed = (thrown: unknown) => {
      if (load !== this.#load || !this.active) return
      this.#report('`resync` failed', thrown)
      again(position, failures + 1)
    }
    try {
      Promise.resolve(resync({ position, reason })).then(settled, failed)
    } catch (thrown) {
      failed(thrown)
    }
  }

  #isPast({ epoch, offset }: Position): boolean {
    return this.#place?.epoch === epoch && this.#place.offset > offset
  }

  #deliver(message: Message): void {
    const { epoch, offset } = message.position
    if (this.#place?.epoch === epoch && this.#place.offset >= offset) return
    this.#place = message.position
    this.#call(this.options.message, message)
  }

  #call<T>(handler: ((value: T) => unknown) | undefined, value: T): void {
    if (handler) guarded(handler, this.#threw, value)
  }

  #report(what: string, cause: unknown): void {
    const channel = this.#host.name
    this.#host.report(new FanfareError('handler', `${what}: ${textOf(cause)}`, { cause, channel }))
  }
}

const before = ({ epoch, offset }: Position): Position => ({ epoch, offset: offset - 1 })
