/**
 * `MessageBatcher`: many small messages as few larger ones.
 *
 * In: messages, one by one. Out: calls of `send` with at most `batchSize` of them, in order: as soon as so many are
 * there, otherwise `batchDelay` after the first. What waits is sent at once when the page goes away, and by `close`.
 * `send` may return a promise; the next batch then waits for it. Nothing is lost in silence: a batch that cannot be
 * sent goes to `onError`, or, without one, stays at the front and is tried again. Then at most `queueMax` messages are
 * kept, and the console is told when older ones are given up.
 */

import { defaultEnv, type Env, type TimerHandle } from './env.js'
import { complain, guarded } from './report.js'

export interface MessageBatcherOptions<T> {
  /** Messages in one batch. Default 10. */
  batchSize?: number | undefined
  /** Ms that the first message of a batch waits at most. Default 100. */
  batchDelay?: number | undefined
  /** Gets what `send` threw, and its messages: they are yours then, and not sent again. */
  onError?: ((error: unknown, messages: T[]) => void) | undefined
  /** Messages that are kept while `send` fails, or while its promise is pending. Default 10,000. */
  queueMax?: number | undefined
  /** The outside world, where it is not the global one. `watch` tells of a page that goes away. */
  env?: Partial<Pick<Env, 'setTimeout' | 'clearTimeout' | 'random' | 'watch'>> | undefined
}

const RETRY_MAX_MS = 30_000

export class MessageBatcher<T = unknown> {
  private readonly env: Pick<Env, 'setTimeout' | 'clearTimeout' | 'random' | 'watch'>
  private readonly batchSize: number
  private readonly batchDelay: number
  private readonly queueMax: number
  private readonly queue: T[] = []
  private timer: TimerHandle | undefined
  /** Takes back what was asked of the page. Nothing is asked while nothing waits. */
  private unwatch: (() => void) | undefined
  /** Batches whose promise is pending; a `send` that calls `add` counts too. */
  private pending = 0
  /** In a row. */
  private failures = 0
  private isClosed = false

  constructor(
    private readonly send: (messages: T[]) => unknown,
    private readonly options: MessageBatcherOptions<T> = {},
  ) {
    this.env = { ...defaultEnv(), ...options.env }
    this.batchSize = Math.max(1, options.batchSize ?? 10)
    this.batchDelay = Math.max(0, options.batchDelay ?? 100)
    this.queueMax = Math.max(this.batchSize, options.queueMax ?? 10_000)
  }

  /** Messages that wait. */
  get size(): number {
    return this.queue.length
  }

  /** After `close` a message is sent at once. */
  add(message: T): void {
    this.queue.push(message)
    this.bound()
    if (this.isClosed || (this.queue.length >= this.batchSize && !this.failures)) this.flush()
    else this.arm()
  }

  /** Sends what waits, now; where a batch is on its way, after it. */
  flush(): void {
    this.sendAll(() => this.pending === 0)
    if (this.queue.length) this.arm()
    else this.rest()
  }

  /** Sends what waits, now, and leaves no timer behind. */
  close(): void {
    this.isClosed = true
    this.sendAll(() => true)
    this.rest()
  }

  /** As many as wait at this moment: what `send` adds itself waits for its own turn. */
  private sendAll(may: () => boolean): void {
    this.disarm()
    for (let left = this.queue.length; left > 0 && may(); left -= this.batchSize) if (!this.sendOne()) return
  }

  /** False: it failed at once, and is to be tried again. */
  private sendOne(): boolean {
    const batch = this.queue.splice(0, this.batchSize)
    this.pending++
    try {
      const result = this.send(batch) as PromiseLike<unknown> | undefined
      if (typeof result?.then !== 'function') return this.settled(batch)
      result.then(
        () => this.settled(batch) && this.goOn(),
        (thrown: unknown) => this.settled(batch, { thrown }) && this.goOn(),
      )
      return true
    } catch (thrown) {
      return this.settled(batch, { thrown })
    }
  }

  private settled(batch: T[], failure?: { thrown: unknown }): boolean {
    this.pending--
    const stays = failure && !this.isClosed && !this.options.onError
    if (!failure) this.failures = 0
    else if (!stays) this.giveUp(failure.thrown, batch)
    if (!stays) return true
    this.failures++
    complain(`MessageBatcher: send failed, ${batch.length} messages wait`, failure.thrown)
    this.queue.unshift(...batch)
    this.bound()
    this.arm()
    return false
  }

  /** After a batch that was on its way. */
  private goOn(): void {
    if (this.queue.length >= this.batchSize || this.isClosed) this.flush()
    else if (this.queue.length) this.arm()
  }

  private bound(): void {
    const over = this.queue.length - this.queueMax
    if (over > 0) this.giveUp(new Error(`more than ${this.queueMax} messages wait`), this.queue.splice(0, over))
  }

  private giveUp(thrown: unknown, messages: T[]): void {
    const { onError } = this.options
    if (onError)
      guarded(
        () => onError(thrown, messages),
        again => complain('MessageBatcher: onError threw', again),
      )
    else complain(`MessageBatcher: ${messages.length} messages are lost`, thrown)
  }

  private arm(): void {
    const { env, failures } = this
    if (this.isClosed) return
    this.unwatch ??= env.watch?.(
      () => {},
      () => this.sendAll(() => true),
    )
    if (this.timer !== undefined || this.pending) return
    // Full jitter between tries, but never below the delay.
    const more = failures && env.random() * Math.min(RETRY_MAX_MS, 1_000 * 2 ** Math.min(failures, 10))
    this.timer = env.setTimeout(() => this.flush(), this.batchDelay + more)
  }

  private disarm(): void {
    if (this.timer !== undefined) this.env.clearTimeout(this.timer)
    this.timer = undefined
  }

  private rest(): void {
    this.disarm()
    this.unwatch?.()
    this.unwatch = undefined
  }
}
