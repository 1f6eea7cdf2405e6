/**
 * The client: what an application holds.
 *
 * `createClient` opens nothing: the first subscription, publication or call does, or `connect()`. So it can be made
 * on a server that renders pages.
 */

import { Channel } from './channel.js'
import { Core } from './connection.js'
import { defaultEnv, type Env } from './env.js'
import { FanfareError, textOf } from './errors.js'
import { createHttp } from './http.js'
import { complain, guarded } from './report.js'
import type { Share } from './tabs.js'
import type { Carrier } from './transport.js'
import type {
  AppTypes,
  ChannelOf,
  ClientEvents,
  ConnectionState,
  OutboxOptions,
  PendingPublish,
  Report,
  Schema,
  TokenSource,
  TransportName,
} from './types.js'
import { VERSION } from './version.js'
import { openWebSocket } from './websocket.js'

export interface ClientOptions {
  /**
   * The server's address: `https://host`, `wss://host`, with a path where it has a prefix. Default: that of the page.
   */
  url?: string
  /** Shown to the server: a token, or a function that gets one. */
  token?: TokenSource
  /** In the order in which they are tried. Default: `["websocket", "sse", "poll"]`. */
  transports?: readonly TransportName[]
  outbox?: OutboxOptions
  /**
   * By pattern, then by event: what is published or signalled must fit, and what comes and does not fit is reported.
   */
  schemas?: Record<string, { events?: Record<string, Schema>; signals?: Record<string, Schema> }>
  /** For the connection to be there. Default 10,000 ms. */
  connectTimeout?: number
  /** For the answer to a command. Default 10,000 ms. */
  requestTimeout?: number
  /** The connection counts as lost (`connectivity`) after so long without one. Default 5,000 ms. */
  lostAfter?: number
  /**
   * The wait before coming back: random, up to `min`, doubled with each failure up to `max`. Default 500 and 30,000.
   */
  backoff?: { min?: number; max?: number }
  /** More headers for requests over HTTP; a WebSocket in a browser has none. */
  headers?: Record<string, string>
  /** Cookies with requests over HTTP. Default `same-origin`. */
  credentials?: 'include' | 'same-origin' | 'omit'
  /** One stream for all tabs, where WebSockets do not get through: `sharedStream()` of `@fanfare/client/tabs`. */
  share?: Share
  /** Tells what happens: to the console, or to this function. */
  debug?: boolean | ((text: string) => void)
  /** Replaces parts of the outside world: `WebSocket`, `fetch`, timers, the clock. */
  env?: Partial<Env>
}

type RpcOf<App extends AppTypes> =
  App['rpc'] extends Record<string, readonly [unknown, unknown]>
    ? App['rpc']
    : Record<string, readonly [unknown, unknown]>

export interface Client<App extends AppTypes = AppTypes> {
  /** The same object until it changes. */
  readonly state: ConnectionState
  /** Connects now: at first, after `close()`, after an error, or without waiting for the next attempt. */
  connect(): void
  /** Ends the session for good: others see this client leave. */
  close(): void
  /** Calls `handler` for each event, until the returned function is called. */
  on<E extends keyof ClientEvents>(event: E, handler: (value: ClientEvents[E]) => void): () => void
  /** The channel with this name: always the same object. */
  channel<Name extends string>(name: Name): Channel<ChannelOf<App, Name>>
  /** Calls a method of the application. Never repeated. */
  rpc<M extends keyof RpcOf<App> & string>(
    method: M,
    data?: RpcOf<App>[M][0],
    options?: { timeout?: number },
  ): Promise<RpcOf<App>[M][1]>
  /** Another token, or another way to get one, shown at once. With another user, or `null`, comes another session. */
  setToken(token: TokenSource): void
  /** Finds out whether the connection is good, and makes a new one where it is not. */
  probe(): Promise<boolean>
  /** Publications that are not answered: the same list until it changes. */
  pending(): readonly PendingPublish[]
  /** What happened, for a bug report. */
  report(): Report
}

type Listener = (value: never) => void

export function createClient<App extends AppTypes = AppTypes>(options: ClientOptions = {}): Client<App> {
  const env: Env = { ...defaultEnv(), ...options.env }
  const base = baseOf(options.url)
  const listeners = new Map<string, Set<Listener>>()
  const emit = <E extends keyof ClientEvents>(event: E, value: ClientEvents[E]) => {
    const all = [...(listeners.get(event) ?? [])]
    if (event === 'error' && !all.length) complain((value as FanfareError).message, value)
    for (const listener of all) {
      guarded(
        listener as (value: ClientEvents[E]) => unknown,
        cause => {
          const text = `a handler of \`${event}\` threw: ${textOf(cause)}`
          if (event === 'error') complain(text, cause)
          else core.report(new FanfareError('handler', text, { cause }))
        },
        value,
      )
    }
  }
  const { connectTimeout = 10_000, requestTimeout = 10_000, lostAfter = 5_000, debug = false, backoff = {} } = options
  const core = new Core(
    env,
    {
      token: options.token,
      transports: options.transports ?? ['websocket', 'sse', 'poll'],
      outbox: options.outbox,
      schemas: options.schemas,
      connectTimeout,
      requestTimeout,
      lostAfter,
      debug,
      backoff: { min: backoff.min ?? 500, max: backoff.max ?? 30_000 },
      version: VERSION,
    },
    (session): Carrier => {
      const http = createHttp(env, base, session, options)
      return {
        open(transport, events) {
          if (!base) return undefined
          const real = () => http.open(transport, events)
          const isStream = transport === 'sse' || transport === 'stream'
          if (isStream && options.share) return options.share.open(transport, base, events, () => client, real)
          if (transport !== 'websocket') return real()
          return env.WebSocket && openWebSocket(env, `${base.replace(/^http/, 'ws')}/v1/ws`, events)
        },
        online: resumed => http.online(resumed),
        offline: leave => http.offline(leave),
        mayLeave: channel => http.mayLeave(channel),
        end: () => http.end(),
      }
    },
    emit,
  )
  const client: Client<App> = {
    get state() {
      return core.state
    },
    connect: () => core.connect(),
    close: () => core.close(),
    on(event, handler) {
      const all = listeners.get(event) ?? new Set()
      listeners.set(event, all.add(handler as Listener))
      return () => void all.delete(handler as Listener)
    },
    channel: name => core.channel(name) as never,
    rpc: (method, data, { timeout } = {}) =>
      core.ask(
        { type: 'rpc', method, ...(data !== undefined && { data }) },
        reply => (reply as { data?: unknown }).data,
        timeout === undefined ? {} : { timeout },
      ),
    setToken: token => core.setToken(token),
    probe: () => core.probe(),
    pending: () => core.outbox.pending(),
    report: () => core.reportOf(),
  }
  return client
}

/**
 * `http(s)://host[/prefix]`, from what may be said for it. Empty where that is the page's own host and there is no
 * page: on a server that renders, a client is made and opens nothing.
 */
function baseOf(url: string | undefined): string {
  const page = (globalThis as { location?: { origin?: string } }).location?.origin
  if (page === undefined && (url === undefined || url.startsWith('/'))) return ''
  const text = (url ?? page ?? '').replace(/^ws/, 'http').replace(/(\/v1\/ws)?\/*$/, '')
  const full = text.startsWith('/') || text === '' ? (page ?? '') + text : text
  if (/^https?:\/\/[^/?#]+(\/[^?#]*)?$/.test(full)) return full
  throw new FanfareError(
    'bad_argument',
    `\`url\` is ${JSON.stringify(url)}: an address such as https://example.com is needed`,
  )
}
