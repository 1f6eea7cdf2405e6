/**
 * The WebSocket behind `useWebSocket`: one that is there while a component is mounted, and comes back by itself.
 *
 * It knows no React. `start` and the function that it returns are an effect and its clean-up; what they change is done
 * in the next microtask, so that mount, unmount, mount (StrictMode) is one connection. At most one socket is there at a
 * time, and a socket that was given up tells nothing any more. Texts that are sent while there is no connection wait,
 * at most {@link QUEUE_MAX} of them, until `onOpen` has run. The next attempt waits for `reconnectInterval`, doubled
 * with each failure, less a random part; after `reconnectAttempts` failures in a row it gives up. `disconnect` ends it
 * until `reconnect`, or another address. Handlers are called only while the component is mounted, and what one throws
 * costs its own message.
 */

import type { Env } from '@fanfare/client'

/** The constructor of a WebSocket. */
export type WebSocketConstructor = NonNullable<Env['WebSocket']>

type Socket = InstanceType<WebSocketConstructor>

export type ConnectionStatus =
  /** The first attempt, or another one, is under way. */
  | 'connecting'
  | 'connected'
  /** Ended by `disconnect`; or lost, and the next attempt comes. */
  | 'disconnected'
  /** It has given up: no attempt comes until `reconnect` is called, or the network is back. */
  | 'error'

/** What can change with each render. */
export interface SocketOptions {
  onMessage?: ((data: unknown) => unknown) | undefined
  onOpen?: (() => unknown) | undefined
  onClose?: (() => unknown) | undefined
  onError?: ((error: Event) => unknown) | undefined
  reconnectAttempts?: number | undefined
  reconnectInterval?: number | undefined
  WebSocket?: WebSocketConstructor | undefined
}

/** Texts that wait for a connection. */
export const QUEUE_MAX = 100
const ATTEMPTS = 5
const INTERVAL_MS = 3_000
const INTERVAL_MAX_MS = 30_000
/** An attempt takes at most this: browsers wait for minutes. */
const CONNECT_MS = 15_000
/** Only a connection that lives so long ends a series of failures. */
const STABLE_MS = 5_000
const OPEN = 1

/** The globals that are used: each may be missing. */
interface Globals {
  WebSocket?: WebSocketConstructor
  Event?: new (type: string) => Event
  console?: { error(...words: unknown[]): void; warn(...words: unknown[]): void }
  setTimeout(run: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
  addEventListener?: (type: string, run: () => void) => void
  removeEventListener?: (type: string, run: () => void) => void
}

const globals = () => globalThis as unknown as Globals

export class ManagedSocket {
  /** Those of the newest render. */
  options: SocketOptions = {}
  private status: ConnectionStatus = 'connecting'
  private readonly listeners = new Set<() => void>()
  /** The address while a component is mounted. */
  private url: string | undefined
  /** The address of the socket, or of the next attempt. */
  private current: string | undefined
  /** The address that `disconnect` was called for. */
  private off: string | undefined
  private socket: Socket | undefined
  private openedAt: number | undefined
  private timer: unknown
  private failures = 0
  private queue: string[] = []
  /** Something has changed, and a microtask will look at it. */
  private isPending = true

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  readonly snapshot = (): ConnectionStatus => this.status

  /** Mounts it, without an address if there is none. Returns the way to unmount it. */
  start(url: string | null): () => void {
    this.url = url ?? undefined
    if (this.url !== this.current && this.url !== this.off) this.become('connecting')
    this.change()
    return () => {
      this.url = undefined
      this.change()
    }
  }

  /** False if it is refused, which the console is told: there is no connection and none comes, or too many wait. */
  readonly send = (data: unknown): boolean => {
    const text = JSON.stringify(data) as string | undefined
    if (text === undefined) throw new TypeError('what is sent must be JSON')
    const comes = this.isPending || (this.current !== undefined && this.status !== 'error')
    if (this.socket?.readyState === OPEN) this.socket.send(text)
    else if (comes && this.queue.length < QUEUE_MAX) this.queue.push(text)
    else return this.warn(comes ? `a message is lost: ${QUEUE_MAX} wait already` : 'a message is lost: not connected')
    return true
  }

  readonly disconnect = (): void => {
    this.off = this.url
    const tell = this.end()
    this.discard()
    this.become('disconnected')
    tell()
  }

  readonly reconnect = (): void => {
    this.off = undefined
    if (this.url === undefined || this.isPending) return
    const tell = this.end()
    this.open()
    tell()
  }

  private change(): void {
    this.isPending = true
    void Promise.resolve().then(() => {
      if (!this.isPending) return
      this.isPending = false
      const { url, current } = this
      if (url !== undefined && url === current) return
      const tell = this.end()
      // What waits is for the address of before, unless there was none.
      if (url === undefined || url === this.off || current !== undefined) this.discard()
      const { addEventListener, removeEventListener } = globals()
      removeEventListener?.('online', this.online)
      if (url !== undefined) addEventListener?.('online', this.online)
      if (url !== undefined && url !== this.off) this.open()
      tell()
    })
  }

  private readonly online = () => {
    if (this.current !== undefined && !this.socket) this.reconnect()
  }

  /** Ends what is there, without a word. Gives the way to tell the application of it, for the end of the work. */
  private end(): () => void {
    const { socket, openedAt } = this
    this.current = undefined
    this.socket = undefined
    this.failures = 0
    globals().clearTimeout(this.timer)
    socket?.close(1000)
    return () => socket && openedAt !== undefined && this.call('onClose', this.options.onClose)
  }

  private discard(): void {
    const count = this.queue.splice(0).length
    if (count) this.warn(`${count} messages are lost: not connected`)
  }

  private open(): void {
    const Socket = this.options.WebSocket ?? globals().WebSocket
    let socket: Socket
    globals().clearTimeout(this.timer)
    this.current = this.url
    this.openedAt = undefined
    this.off = undefined
    this.become('connecting')
    try {
      if (!Socket) throw new Error('there is no WebSocket here')
      socket = new Socket(this.current ?? '')
    } catch (thrown) {
      // Another attempt would be the same.
      return this.giveUp(thrown)
    }
    this.socket = socket
    const isNow = () => this.socket === socket && this.url !== undefined
    const late = () => {
      this.lost(socket)
      socket.close()
    }
    this.timer = globals().setTimeout(late, CONNECT_MS)

    socket.onopen = () => {
      if (!isNow()) return
      globals().clearTimeout(this.timer)
      this.openedAt = Date.now()
      this.become('connected')
      // What it sends comes first: who joins a room, for example, before what was said.
      this.call('onOpen', this.options.onOpen)
      while (isNow() && socket.readyState === OPEN && this.queue.length) socket.send(this.queue.shift() as string)
    }
    socket.onmessage = ({ data }: { data: unknown }) => {
      if (!isNow()) return
      const { onMessage } = this.options
      let value: unknown
      try {
        value = JSON.parse(data as string)
      } catch (thrown) {
        return globals().console?.error('useWebSocket: a message is no JSON', thrown)
      }
      this.call('onMessage', onMessage && (() => onMessage(value)))
    }
    socket.onerror = (event: Event) => {
      const { onError } = this.options
      if (isNow()) this.call('onError', onError && (() => onError(event)))
    }
    socket.onclose = () => this.lost(socket)
  }

  private lost(socket: Socket): void {
    if (this.socket !== socket) return
    this.socket = undefined
    globals().clearTimeout(this.timer)
    if (this.openedAt !== undefined && Date.now() - this.openedAt >= STABLE_MS) this.failures = 0
    const { reconnectAttempts = ATTEMPTS, reconnectInterval = INTERVAL_MS } = this.options
    const again = this.failures < reconnectAttempts
    if (again) {
      const most = Math.min(reconnectInterval * 2 ** this.failures++, Math.max(reconnectInterval, INTERVAL_MAX_MS))
      this.timer = globals().setTimeout(() => this.open(), most * (1 - Math.random() / 2))
      this.become('disconnected')
    } else this.giveUp()
    this.call('onClose', this.options.onClose)
  }

  /** `thrown`: there was not even a socket. */
  private giveUp(thrown?: unknown): void {
    this.become('error')
    this.discard()
    if (thrown === undefined) return
    const { onError } = this.options
    const { Event, console } = globals()
    if (onError && Event) this.call('onError', () => onError(Object.assign(new Event('error'), { error: thrown })))
    else console?.error('useWebSocket:', thrown)
  }

  private become(status: ConnectionStatus): void {
    if (status === this.status) return
    this.status = status
    for (const listener of [...this.listeners]) listener()
  }

  /** Runs a handler of the application. */
  private call(name: string, handler: (() => unknown) | undefined): void {
    if (!handler || this.url === undefined) return
    const failed = (thrown: unknown) => globals().console?.error(`useWebSocket: ${name} threw`, thrown)
    try {
      const result = handler()
      if (result instanceof Promise) result.catch(failed)
    } catch (thrown) {
      failed(thrown)
    }
  }

  private warn(text: string): false {
    globals().console?.warn(`useWebSocket: ${text}`)
    return false
  }
}
