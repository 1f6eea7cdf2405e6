/**
 * Which transport is tried next.
 *
 * A transport fails where the server (or a proxy before it) was reached and the transport did not get through, or where
 * its connections die young. Then the next one is tried at once. A server that cannot be reached says nothing about a
 * transport; but a browser does not tell that of a WebSocket, so the next one finds out. One that asks for patience
 * twice in a row makes the next attempt a trial of the next transport. The one that worked is kept, and the connection
 * tries upward again by itself.
 */

import type { TransportName } from './types.js'

/** So many answers in a row that ask for patience make a trial: some proxies refuse an upgrade that way. */
const DOUBTS_MAX = 2
/** So many connections in a row that lived less than {@link YOUNG_MS} are evidence against a transport. */
const YOUNG_MAX = 3
const YOUNG_MS = 5_000

export class Order {
  readonly #all: readonly TransportName[]
  #at = 0
  #failed = 0
  #doubts = 0
  #trialOf: number | undefined
  #young = 0
  /** Why the first one failed, and whether no retry will change it, for all of them. */
  #reason: string | undefined
  #mayPass = false

  constructor(all: readonly TransportName[]) {
    this.#all = all.length ? all : ['websocket']
  }

  get current(): TransportName {
    return this.#all[this.#at] ?? 'websocket'
  }

  get first(): TransportName {
    return this.#all[0] ?? 'websocket'
  }

  /** A better one than the current could be had. */
  get isFallback(): boolean {
    return this.#at > 0
  }

  /** A connection is online. */
  worked(transport: TransportName): void {
    this.#at = Math.max(0, this.#all.indexOf(transport))
    this.#endRound()
  }

  /** A connection that was online is lost, without a word of the server. */
  lasted(ms: number): void {
    this.#young = ms < YOUNG_MS ? this.#young + 1 : 0
    if (this.#young < YOUNG_MAX) return
    this.#young = 0
    this.#at = this.#next()
  }

  /** It did not get through; with `reason` it never will. The answer: `next` at once, `wait`, or the reason to end. */
  failed(reason?: string): 'next' | 'wait' | { reason: string } {
    this.#mayPass ||= reason === undefined
    this.#reason ??= reason
    this.#doubts = 0
    this.#trialOf = undefined
    this.#failed++
    this.#at = this.#next()
    if (this.#failed < this.#all.length) return 'next'
    const why = this.#mayPass ? undefined : this.#reason
    this.#endRound()
    return why === undefined ? 'wait' : { reason: why }
  }

  /** The server is away, which says nothing about a transport: the next round begins where this one did. */
  abandon(): void {
    const { length } = this.#all
    this.#at = (this.#at - (this.#failed % length) + length) % length
    this.#endRound()
  }

  /** The answer asks for patience. */
  patience(): void {
    this.#doubts++
    if (this.#trialOf !== undefined) {
      this.#at = this.#trialOf
      this.#trialOf = undefined
      this.#doubts = 0
    } else if (this.#doubts >= DOUBTS_MAX && this.#all.length > 1) {
      this.#trialOf = this.#at
      this.#at = this.#next()
    }
  }

  #next(): number {
    return (this.#at + 1) % this.#all.length
  }

  #endRound(): void {
    this.#failed = this.#doubts = 0
    this.#reason = this.#trialOf = undefined
    this.#mayPass = false
  }
}
