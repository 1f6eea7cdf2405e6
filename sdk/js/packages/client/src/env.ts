/**
 * The outside world, injected: time, timers, randomness, `WebSocket`, `fetch`, and what tells of the network.
 *
 * The core touches no global but through {@link defaultEnv}, which is asked when a client is made: so it runs in
 * browsers, workers, Node and React Native, and under a fake clock.
 */

declare global {
  /** A browser's types say what it is; without them nobody needs to know. */
  interface AbortSignal {}
}

/**
 * The part of a `WebSocket` that is used. (A handler's event is `never` because the browser's handlers want their own
 * events: so both a browser's socket and another one are a `SocketLike`.)
 */
export interface SocketLike {
  readonly readyState: number
  readonly bufferedAmount: number
  onopen: ((event: never) => void) | null
  onmessage: ((event: never) => void) | null
  onclose: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
  send(text: string): void
  close(code?: number, reason?: string): void
}

export type SocketConstructor = new (url: string, protocols?: string | string[]) => SocketLike

/** The part of an answer to `fetch` that is used. */
export interface ResponseLike {
  readonly status: number
  readonly headers: { get(name: string): string | null }
  readonly body: StreamLike | null
  text(): Promise<string>
}

export interface StreamLike {
  getReader(): {
    read(): Promise<{ done: boolean; value?: Uint8Array | undefined }>
    cancel(reason?: unknown): Promise<void>
  }
}

export interface RequestLike {
  method: string
  headers: Record<string, string>
  body?: string
  signal?: AbortSignal
  keepalive?: boolean
  credentials?: 'include' | 'same-origin' | 'omit'
  cache?: 'no-store'
  redirect?: 'error' | 'follow' | 'manual'
}

export type FetchLike = (url: string, request: RequestLike) => Promise<ResponseLike>

/** The part of the event of a message that is used. */
export interface MessageLike {
  data: unknown
}

/** The part of the event of a close that is used. */
export interface CloseLike {
  code?: number
  reason?: string
}

/** A handle of a timer: whatever `setTimeout` gives. */
export type TimerHandle = unknown

export interface Env {
  /** ms since 1970. May jump. */
  now(): number
  setTimeout(run: () => void, ms: number): TimerHandle
  clearTimeout(timer: TimerHandle): void
  /** From 0 to 1, without 1. */
  random(): number
  WebSocket?: SocketConstructor | undefined
  fetch?: FetchLike | undefined
  AbortController?: (new () => { signal: AbortSignal; abort(): void }) | undefined
  TextDecoder?:
    | (new (
        label?: string,
        options?: { fatal?: boolean },
      ) => { decode(bytes?: Uint8Array, options?: { stream?: boolean }): string })
    | undefined
  /**
   * Calls `probe` when the device may have come back: `online`, a page that is shown again, AppState. Calls `leave`
   * when the page goes away. Returns the way to take both back.
   */
  watch?: ((probe: () => void, leave: () => void) => () => void) | undefined
  /** For `debug: true`. */
  log?: ((text: string) => void) | undefined
}

interface Target {
  addEventListener(type: string, run: () => void): void
  removeEventListener(type: string, run: () => void): void
}

interface Globals extends Partial<Target> {
  WebSocket?: SocketConstructor
  fetch?: FetchLike
  AbortController?: NonNullable<Env['AbortController']>
  TextDecoder?: NonNullable<Env['TextDecoder']>
  setTimeout(run: () => void, ms: number): TimerHandle
  clearTimeout(timer: never): void
  document?: Target & { visibilityState?: string }
  console?: { debug(text: string): void }
}

/** The globals of this place, taken when called. */
export function defaultEnv(): Env {
  const g = globalThis as unknown as Globals
  const { fetch, document } = g
  return {
    now: () => Date.now(),
    setTimeout: (run, ms) => g.setTimeout(run, ms),
    clearTimeout: timer => g.clearTimeout(timer as never),
    random: () => Math.random(),
    WebSocket: g.WebSocket,
    fetch: fetch && ((url, request) => fetch(url, request)), // unbound it throws "Illegal invocation"
    AbortController: g.AbortController,
    TextDecoder: g.TextDecoder,
    log: text => g.console?.debug(text),
    watch: g.addEventListener && ((probe, leave) => watchPage(g as Target, document, probe, leave)),
  }
}

/** `pageshow` comes after a freeze in the back-forward cache, which drops sockets without a word. */
function watchPage(window: Target, document: Globals['document'], probe: () => void, leave: () => void): () => void {
  const shown = () => document?.visibilityState !== 'hidden' && probe()
  const listeners: [Target | undefined, string, () => void][] = [
    [window, 'online', probe],
    [window, 'pageshow', probe],
    [document, 'visibilitychange', shown],
    [document, 'resume', probe],
    [window, 'pagehide', leave],
  ]
  for (const [target, type, run] of listeners) target?.addEventListener(type, run)
  return () => {
    for (const [target, type, run] of listeners) target?.removeEventListener(type, run)
  }
}
