/**
 * `@fanfare/client/testing`: a server in the process of your tests, which speaks the wire format.
 *
 * ```ts
 * const server = createFakeServer()
 * const client = server.client()
 * const seen: unknown[] = []
 * await client.channel('chat:general').subscribe(message => seen.push(message.data)).ready
 * server.publish('chat:general', { text: 'hello' })
 * await server.settled()
 * ```
 *
 * It keeps channels with positions, history and presence, sessions with tickets and tokens, and idempotency keys, and
 * does what docs/protocol.md says of them. It is deterministic, and has the timers of the moment at which they are set:
 * fake timers of a test runner hold. It does not play rules of channels, audiences, rates and slow readers.
 */

import { createClient, type Client, type ClientOptions } from './client.js'
import { defaultEnv, type Env } from './env.js'
import type { FakeError } from './testing/errors.js'
import { fetchOf } from './testing/http.js'
import { type Refusal, type RpcHandler, Server, type ServerOptions, type Who } from './testing/server.js'
import { type FakeSocket, type Net, socketsOf } from './testing/socket.js'
import type { AppTypes, Member, Position } from './types.js'
import { type Command, toBase64, type WirePublication } from './wire.js'

export type { FakeError } from './testing/errors.js'
export type { Refusal, RpcHandler } from './testing/server.js'
export type { Identity } from './testing/session.js'

export interface FakeServerOptions extends ServerOptions {
  /** What is sent arrives after so many ms. Default 0: in a microtask. */
  latency?: number
  /** Time of one's own, for the server and its clients. Default: that of the global object. */
  env?: Partial<Pick<Env, 'now' | 'setTimeout' | 'clearTimeout' | 'random'>>
}

/** What the server has of a channel. */
export interface FakeChannel {
  readonly position: Position
  /** Kept publications, oldest first, as they are on the wire. */
  readonly publications: readonly WirePublication[]
  readonly members: readonly Member[]
  /** Clients that are subscribed. */
  readonly subscribers: readonly string[]
}

/** What the server has of a client. */
export interface FakeClient {
  readonly client: string
  readonly user?: string
  /** False in the grace after its connection was lost. */
  readonly connected: boolean
  readonly channels: readonly string[]
}

export interface FakeServer {
  /** For `createClient({ url, env })`. */
  readonly env: Partial<Env>
  readonly url: string
  /** A client of this server. */
  client<App extends AppTypes = AppTypes>(options?: ClientOptions): Client<App>
  /** Publishes as the application; bytes are sent as such. */
  publish(channel: string, data: unknown, options?: { event?: string; key?: string }): Position
  /** Sends a signal as the application, to all subscribers or to one client. */
  signal(channel: string, event: string, data?: unknown, options?: { to?: string }): void
  /** What stands in a channel; one that nobody has used is empty. */
  channel(name: string): FakeChannel
  /** Names of the channels that were used. */
  readonly channels: readonly string[]
  /** Sessions, those that may come back too. */
  readonly clients: readonly FakeClient[]
  /** What clients have sent, oldest first: the newest 1,000. */
  readonly received: readonly { readonly client: string | undefined; readonly command: Command }[]
  /** Subscribes a client, as the application may. */
  subscribe(client: string, channel: string): void
  /** Ends a subscription, as the application may. */
  unsubscribe(client: string, channel: string, error?: FakeError): void
  /** Plays a method for `client.rpc`. What it throws is the error: a `code` of it is kept. */
  rpc(method: string, handler: (data: never, who: Who) => unknown): void
  /**
   * Refuses commands of this type (`subscribe` those in `connect` too), or those for which the function has an error:
   * `times` times, or until the returned function is called.
   */
  refuse(type: string, error: Refusal, times?: number): () => void
  /** Ends a connection with a code of docs/protocol.md, such as 4503 (kicked), 4000 (shutdown), 4006 (moved). */
  disconnect(client: string, code: number, options?: { delay?: number }): void
  /** Breaks connections without a word: all of them, or this client's. Sessions live on for the grace. */
  drop(client?: string): void
  /** Connections go silent without an end, as behind a dead access point. */
  freeze(client?: string): void
  /** Nobody gets through until `online()`; the connections break. */
  offline(): void
  online(): void
  /** The server dies and comes back at once: no session, publication or key is left, and epochs are new. */
  restart(): void
  /** Only the newest `keep` publications of the channel are left. */
  forget(channel: string, keep?: number): void
  /** Subscribers hear that publications are lost; `reset`: in a new epoch. */
  gap(channel: string, options?: { reset?: boolean }): void
  /** ms that what is sent from now on takes. */
  latency: number
  /** Resolves when nothing is on its way any more. What waits for a timer (`latency`, `batch`) is not waited for. */
  settled(): Promise<void>
  /** Ends everything: no timer is left. Clients come back in vain; close them too. */
  close(): void
}

const RECEIVED_MAX = 1_000
/** Steps of promises within the client that no text on its way shows. */
const QUIET_STEPS = 50

export function createFakeServer(options: FakeServerOptions = {}): FakeServer {
  const clock = clockOf(options.env)
  const net: Net = { latency: options.latency ?? 0, offline: false, flying: 0 }
  const server = new Server(clock, options)
  const sockets = new Set<FakeSocket>()
  const received: { client: string | undefined; command: Command }[] = []
  server.heard = (command, { session }) => {
    if (received.push({ client: session?.client, command }) > RECEIVED_MAX) received.shift()
  }
  const url = 'http://fanfare.test'
  const env: Partial<Env> = {
    ...options.env,
    random: options.env?.random ?? randomOf(1),
    WebSocket: socketsOf(server, clock, net, sockets),
    fetch: fetchOf(server, clock, net),
    watch: undefined,
  }
  return {
    env,
    url,
    client: <App extends AppTypes>(more: ClientOptions = {}) =>
      createClient<App>({ url, ...more, env: { ...env, ...more.env } }),
    publish: (channel, data, { event, key } = {}) =>
      server.publish(channel, {
        ...(data instanceof Uint8Array ? { data64: toBase64(data) } : { data: copyOf(data) }),
        ...(event !== undefined && { event }),
        ...(key !== undefined && { idempotency_key: key }),
      }),
    signal: (channel, event, data, { to } = {}) =>
      void server.signal(channel, event, copyOf(data), undefined, to),
    channel: name => {
      const log = server.channel(name)
      const subscribers = [...server.sessions.values()].filter(({ subs }) => subs.has(name))
      return {
        position: log.position,
        publications: [...log.entries],
        members: [...log.members.values()],
        subscribers: subscribers.map(({ client }) => client),
      }
    },
    get channels() {
      return [...server.channels.keys()]
    },
    get clients() {
      return [...server.sessions.values()].map(({ client, identity: { user }, connection, subs }) => ({
        client,
        ...(user !== undefined && { user }),
        connected: connection !== undefined,
        channels: [...subs.keys()],
      }))
    },
    received,
    subscribe: (client, channel) => server.subscribe(client, channel),
    unsubscribe: (client, channel, { code, message = code } = { code: 'denied' }) =>
      server.unsubscribe(client, channel, code, message),
    rpc: (method, handler: RpcHandler) => server.rpc(method, handler),
    refuse: (type, error, times = Infinity) => server.refuse(type, error, times),
    disconnect: (client, code, { delay } = {}) => server.disconnect(client, code, delay),
    drop: client => server.cut(client),
    freeze: client => {
      for (const socket of sockets)
        if (client === undefined || socket.connection?.session?.client === client) socket.freeze()
    },
    offline: () => {
      net.offline = true
      server.cut()
    },
    online: () => void (net.offline = false),
    restart: () => server.restart(),
    forget: (channel, keep = 0) => server.channel(channel).forget(keep),
    gap: (channel, { reset = false } = {}) => server.gap(channel, reset),
    get latency() {
      return net.latency
    },
    set latency(ms) {
      net.latency = ms
    },
    settled: async () => {
      for (let quiet = 0; quiet < QUIET_STEPS; quiet = net.flying > 0 ? 0 : quiet + 1) await undefined
    },
    close: () => {
      net.offline = true
      server.close()
    },
  }
}

/** Timers of the moment; those of Node keep no process alive. */
function clockOf(given: FakeServerOptions['env']): Pick<Env, 'now' | 'setTimeout' | 'clearTimeout'> {
  return {
    now: () => (given?.now ?? defaultEnv().now)(),
    setTimeout: (run, ms) => {
      const timer = (given?.setTimeout ?? defaultEnv().setTimeout)(run, ms)
      ;(timer as { unref?: () => void }).unref?.()
      return timer
    },
    clearTimeout: timer => (given?.clearTimeout ?? defaultEnv().clearTimeout)(timer),
  }
}

/** The same numbers on each run. */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

/** As it would be after its way over the wire. */
function copyOf(data: unknown): unknown {
  return data === undefined ? null : (JSON.parse(JSON.stringify(data)) as unknown)
}
