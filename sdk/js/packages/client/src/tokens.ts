/**
 * The token: how long it is good for, and when the application is asked for another one.
 *
 * The application is asked by one call at a time. A new token is got before the old one's time is up, and before a
 * connection is opened with one that is known to be worthless. One that was just given and is refused ends in
 * `needs-auth`: to ask on would be a loop.
 */

import type { Env } from './env.js'
import { FanfareError, textOf } from './errors.js'
import { deadline } from './timers.js'
import type { TokenSource } from './types.js'

/** Before its end a token is renewed this early; of a short one a quarter of its time. */
const AHEAD_MS = 60_000

export class Tokens {
  readonly #env: Env
  #source: TokenSource | undefined
  #token: string | undefined
  #asking: Promise<string | null> | undefined
  /** It was given after the last answer to `connect`: a refusal is of this one. */
  #fresh = false
  #stale = false
  #ends = Infinity
  #timer: unknown
  /** Of the function that is asked. */
  #cancel: () => void = () => {}

  constructor(env: Env, source: TokenSource | undefined) {
    this.#env = env
    this.set(source)
  }

  get current(): string | undefined {
    return this.#token
  }

  get isFunction(): boolean {
    return typeof this.#source === 'function'
  }

  /** Another source: what the earlier one still answers does not count. */
  set(source: TokenSource | undefined): void {
    this.#cancel()
    this.#source = source
    this.#asking = undefined
    this.#stale = this.#fresh = false
    this.#ends = Infinity
    this.#token = typeof source === 'string' ? source : undefined
  }

  /** A connection has to wait for a new token. */
  get isStale(): boolean {
    return this.isFunction && (this.#token === undefined || this.#stale || this.#ends <= this.#env.now())
  }

  /** The application's answer; `null` where it has none. Rejected where it throws or takes longer than `ms`. */
  get(ms: number): Promise<string | null> {
    if (this.#asking) return this.#asking
    const source = this.#source
    const asked: Promise<string | null> = new Promise((resolve, reject) => {
      const failed = (thrown: unknown) => {
        if (this.#asking === asked) this.#asking = undefined
        reject(
          new FanfareError('handler', `the token function failed: ${textOf(thrown)}`, {
            retryable: true,
            cause: thrown,
          }),
        )
      }
      const cancel = deadline(this.#env, ms, () => failed(new Error(`no answer within ${ms} ms`)))
      this.#cancel = cancel
      const given = (token: string | null) => {
        cancel()
        if (this.#asking === asked) this.#asking = undefined
        if (this.#source !== source) return resolve(null)
        if (typeof token === 'string') {
          this.#token = token
          this.#fresh = true
          this.#stale = false
          this.#ends = Infinity
        }
        resolve(token ?? null)
      }
      Promise.resolve()
        .then(() => (typeof source === 'function' ? source() : (source ?? null)))
        .then(given, thrown => (cancel(), failed(thrown)))
    })
    this.#asking = asked
    return asked
  }

  /** The server has taken it; it is good for `expires` ms. `renew` is called when it is time for another one. */
  accepted(expires: number | undefined, renew: () => void): void {
    this.#fresh = this.#stale = false
    this.#env.clearTimeout(this.#timer)
    this.#ends = expires === undefined ? Infinity : this.#env.now() + expires
    if (expires !== undefined && this.isFunction) this.later(expires - Math.min(AHEAD_MS, expires / 4), renew)
  }

  later(ms: number, renew: () => void): void {
    this.#env.clearTimeout(this.#timer)
    this.#timer = this.#env.setTimeout(renew, Math.min(ms, 2 ** 31 - 1))
  }

  /** The server does not take it; `expired`: any more. True where another one is here, or may help. */
  refused(expired?: boolean): boolean {
    if (expired && this.#fresh && !this.#stale) return true
    this.#stale = true
    return this.isFunction && !this.#fresh
  }

  /** A connection, or an attempt, is over: from now on the token may be too old. */
  stop(): void {
    this.#fresh = false
    this.#env.clearTimeout(this.#timer)
  }

  /** The client has ended. */
  end(): void {
    this.#cancel()
    this.#asking = undefined
  }
}
