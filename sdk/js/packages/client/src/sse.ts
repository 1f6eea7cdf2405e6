/**
 * `SSEClient`: an event stream (`text/event-stream`) that comes back by itself. For Fanfare's `/events` and for any
 * other server's; the connections of `createClient` do not need it.
 *
 * In: an address and handlers. Out: each event once to its handlers, parsed; every loss and every fault to `onError`,
 * with its reason. There is never more than one stream: the next one begins after the one before has ended, and
 * `connect` ends the one that is there. After `disconnect` no handler is called. A handler that throws costs its own
 * event only. It comes back after any end but those that another try cannot change (`error.willReconnect` tells),
 * shows the last id that it has had, and waits at least as long as the server asks for.
 *
 * It reads by `fetch` and not by `EventSource`, which has no headers, gives up at a 503 and hides the reason.
 */

import { defaultEnv, type Env } from './env.js'
import { textOf } from './errors.js'
import type { StreamEvent } from './event-stream.js'
import { complain, guarded } from './report.js'
import { attempt } from './sse-request.js'
import { type SSEConnectOptions, SSEError, type SSEReason, type SSEState } from './sse-types.js'

export type { StreamEvent } from './event-stream.js'
export * from './sse-types.js'

/** A rest before a reconnect is at least this, unless the server asks for more, and a random part on top. */
const REST_MS = 500
/** The random part: up to this, doubled with each failure. */
const JITTER_MS = 1_000
const JITTER_MAX_MS = 30_000
/** Only a stream that lives so long ends a series of failures. */
const STABLE_MS = 5_000
const TIMER_MAX_MS = 2 ** 31 - 1

type Listener = (event: StreamEvent) => unknown

export class SSEClient {
  /** The newest id that was had. `connect` begins anew, unless it is given one. */
  lastEventId = ''
  state: SSEState = 'idle'
  private readonly env: Env
  private readonly listeners = new Map<string, Set<Listener>>()
  private run: Run | undefined

  /** `env`: the outside world, where it is not the global one (tests, a `fetch` of your own). */
  constructor(env: Partial<Env> = {}) {
    this.env = { ...defaultEnv(), ...env }
  }

  /** Opens the stream, and opens it again whenever it ends. A stream that is there is ended first. */
  connect<T = unknown>(url: string, options: SSEConnectOptions<T> = {}): void {
    this.disconnect()
    this.lastEventId = options.lastEventId ?? ''
    this.run = new Run(url, options as SSEConnectOptions, this.env, this, this.listeners)
    void this.run.go()
  }

  /** Ends the stream. No handler is called any more. */
  disconnect(): void {
    this.run?.stop()
    this.run = undefined
    this.state = 'idle'
  }

  /** As at an `EventSource`: `event.data` is the text. Listeners outlive `connect` and `disconnect`. */
  addEventListener(type: string, listener: Listener): void {
    const all = this.listeners.get(type)
    if (all) all.add(listener)
    else this.listeners.set(type, new Set([listener]))
  }

  removeEventListener(type: string, listener: Listener): void {
    this.listeners.get(type)?.delete(listener)
  }
}

/** What happens from one `connect` to its end. */
class Run {
  private live = true
  /** Stops the request or the rest that is under way. */
  private interrupt: (() => void) | undefined
  /** Of the server: ms until a client should come back. */
  private retry = 0
  private wasOpen = false

  constructor(
    private readonly url: string,
    private readonly options: SSEConnectOptions,
    private readonly env: Env,
    private readonly client: { lastEventId: string; state: SSEState },
    private readonly listeners: ReadonlyMap<string, ReadonlySet<Listener>>,
  ) {}

  stop(): void {
    this.live = false
    this.interrupt?.()
  }

  /** Request after request. Never rejects. */
  async go(): Promise<void> {
    const { url, env, client, options } = this
    for (let failures = 0; this.live; failures++) {
      client.state = 'connecting'
      let openedAt: number | undefined
      const { lastEventId } = client
      const { over, stop } = attempt(
        env,
        { url, options, lastEventId, wasOpen: this.wasOpen },
        {
          open: () => {
            openedAt = env.now()
            this.wasOpen = true
            client.state = 'open'
            this.call(() => options.onOpen?.())
          },
          event: event => this.event(event),
          id: id => (client.lastEventId = id),
          retry: ms => (this.retry = ms),
        },
      )
      this.interrupt = stop
      const end = await over
      if (!this.live) return
      if (openedAt !== undefined && env.now() - openedAt >= STABLE_MS) failures = 0
      const comesBack = !end.final && failures < (options.maxReconnectAttempts ?? Infinity)
      client.state = comesBack ? 'waiting' : 'ended'
      this.failed(end.reason, end.message, comesBack, end)
      // A handler may have ended this run.
      if (!this.live || !comesBack) return
      const random = env.random() * Math.min(JITTER_MAX_MS, JITTER_MS * 2 ** Math.min(failures, 9))
      await this.rest(Math.max(REST_MS, this.retry, end.after ?? 0), random)
    }
  }

  private event(event: StreamEvent): void {
    const { onMessage, events } = this.options
    const named = Object.entries(events ?? {}).find(([name]) => name === event.type)?.[1]
    const handler = event.type === 'message' ? onMessage : named
    const listeners = [...(this.listeners.get(event.type) ?? [])]
    if (handler) this.parsed(event, data => this.call(() => handler(data, event)))
    for (const listener of listeners) this.call(() => listener(event))
    if (event.type === 'fanfare.gap' && !handler && !listeners.length) {
      this.failed('gap', `events are lost: ${event.data}`, true, { event })
    }
  }

  private parsed(event: StreamEvent, use: (data: unknown) => void): void {
    let data: unknown
    try {
      data = (this.options.parse ?? JSON.parse)(event.data)
    } catch (cause) {
      return this.failed('parse', `the data cannot be parsed: ${textOf(cause)}`, true, { event, cause })
    }
    use(data)
  }

  /** Runs a handler, unless one before it has ended this run. */
  private call(run: () => unknown): void {
    if (this.live) guarded(run, cause => this.failed('handler', `a handler threw: ${textOf(cause)}`, true, { cause }))
  }

  private failed(
    reason: SSEReason,
    message: string,
    willReconnect: boolean,
    { status, event, cause }: { status?: number; event?: StreamEvent; cause?: unknown },
  ): void {
    if (!this.live) return
    const error = new SSEError(reason, message, willReconnect, { status, event, cause })
    const { onError } = this.options
    if (onError)
      guarded(
        () => onError(error),
        thrown => complain('onError threw', thrown),
      )
    else if (this.client.state !== 'waiting') complain(`${this.url.split('?', 1)[0]}: ${message}`, cause)
  }

  /** Waits for what is asked, and a random time more. A network that comes back ends the second part. */
  private rest(asked: number, random: number): Promise<void> {
    const { env } = this
    const since = env.now()
    return new Promise(resolve => {
      const done = () => {
        env.clearTimeout(timer)
        unwatch?.()
        resolve()
      }
      const probe = () => {
        env.clearTimeout(timer)
        timer = env.setTimeout(done, Math.min(asked, Math.max(0, since + asked - env.now())))
      }
      let timer = env.setTimeout(done, Math.min(asked + random, TIMER_MAX_MS))
      const unwatch = env.watch?.(probe, () => {})
      this.interrupt = done
    })
  }
}
