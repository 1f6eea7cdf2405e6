/**
 * A `WebSocket` that ends in a fake server, in the same process.
 *
 * What is sent arrives in order, `latency` ms later (0: in a microtask). Events never come from within a call, as in a
 * browser, and none comes of what was sent before a cut and had not arrived.
 */

import type { CloseLike, Env, MessageLike, SocketConstructor, SocketLike } from '../env.js'
import type { Server } from './server.js'
import type { Connection, Peer } from './session.js'

type Clock = Pick<Env, 'now' | 'setTimeout'>

/** The network between the clients and the server. */
export interface Net {
  latency: number
  /** Nobody gets through. */
  offline: boolean
  /** Texts that arrive in a microtask. */
  flying: number
}

/** One direction. */
export class Pipe {
  readonly #clock: Clock
  readonly #net: Net
  readonly #waiting: (() => void)[] = []
  #last = 0
  open = true

  constructor(clock: Clock, net: Net) {
    this.#clock = clock
    this.#net = net
  }

  push(arrive: () => void): void {
    const { latency } = this.#net
    const now = this.#clock.now()
    this.#last = Math.max(this.#last, now + latency)
    this.#waiting.push(arrive)
    const next = () => {
      const run = this.#waiting.shift()
      if (this.open) run?.()
    }
    if (this.#last > now) return void this.#clock.setTimeout(next, this.#last - now)
    this.#net.flying++
    void Promise.resolve().then(() => {
      this.#net.flying--
      next()
    })
  }
}

/** A socket, as the server's side of the world sees it. */
export interface FakeSocket {
  readonly connection: Connection | undefined
  /** Half-open: nothing passes any more, and nobody is told. */
  freeze(): void
}

export function socketsOf(server: Server, clock: Clock, net: Net, sockets: Set<FakeSocket>): SocketConstructor {
  return class FakeWebSocket implements SocketLike, FakeSocket {
    readyState = 0
    bufferedAmount = 0
    onopen: SocketLike['onopen'] = null
    onmessage: ((event: MessageLike) => void) | null = null
    onclose: ((event: CloseLike) => void) | null = null
    onerror: SocketLike['onerror'] = null
    connection: Connection | undefined
    readonly #up = new Pipe(clock, net)
    readonly #down = new Pipe(clock, net)

    constructor(readonly url: string) {
      sockets.add(this)
      this.#down.push(() => {
        if (this.readyState !== 0) return
        if (net.offline) return this.#closed(1006, '')
        this.readyState = 1
        this.connection = server.open(this.#peer())
        this.onopen?.({} as never)
      })
    }

    send(text: string): void {
      if (this.readyState === 0) throw new Error('InvalidStateError: the socket is connecting')
      const { connection } = this
      if (this.readyState === 1 && connection) this.#up.push(() => server.receive(connection, text))
    }

    close(code = 1005, reason = ''): void {
      if (code !== 1005 && code !== 1000 && !(code >= 3000 && code < 5000))
        throw new Error(`InvalidAccessError: ${code} is no code for a page`)
      if (this.readyState > 1) return
      const { connection } = this
      this.readyState = 2
      if (connection) this.#up.push(() => server.lost(connection, code))
      this.#down.push(() => this.#closed(connection ? code : 1006, reason))
    }

    freeze(): void {
      this.#up.open = this.#down.open = false
    }

    #peer(): Peer {
      return {
        send: message => {
          const text = JSON.stringify(message)
          this.#down.push(() => this.readyState === 1 && this.onmessage?.({ data: text }))
        },
        close: (code, reason) => this.#down.push(() => this.#closed(code, reason)),
        cut: () => {
          if (!this.#down.open) return
          this.freeze()
          net.flying++
          void Promise.resolve().then(() => {
            net.flying--
            this.#closed(1006, '')
          })
        },
      }
    }

    #closed(code: number, reason: string): void {
      if (this.readyState === 3) return
      this.readyState = 3
      sockets.delete(this)
      if (code === 1006) this.onerror?.({} as never)
      this.onclose?.({ code, reason })
    }
  }
}
