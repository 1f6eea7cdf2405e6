// A server in memory that speaks enough of the protocol for these tests: channels, history, presence, signals.
//
// Its sockets answer within microtasks, so `await act(async () => {…})` sees the whole exchange. `sent` holds every
// command of every client, but for those that keep a connection alive.

import type { Env, SocketLike } from '../../../client/src/env.js'

export interface Sent {
  type: string
  id?: number
  channel?: string
  [field: string]: unknown
}

interface Publication {
  offset: number
  data: unknown
  event?: string
  idempotency_key?: string
  ts: number
}

interface Room {
  epoch: string
  log: Publication[]
  seq: number
  present: Map<string, unknown>
}

interface Socket extends SocketLike {
  client: string
  channels: Set<string>
  presence: Set<string>
  say(message: object): void
}

export class FakeServer {
  readonly sent: Sent[] = []
  readonly #rooms = new Map<string, Room>()
  readonly #sockets = new Set<Socket>()
  /** Channels that nobody may follow. */
  readonly denied = new Set<string>()
  /** Publications wait until this is called. */
  hold: (() => void)[] | undefined
  refusePublish: { code: string; message: string; retryable: boolean } | undefined
  #clients = 0
  #epochs = 0
  #isOffline = false

  get env(): Partial<Env> {
    const server = this
    class WebSocket implements SocketLike {
      readyState = 0
      bufferedAmount = 0
      onopen: (() => void) | null = null
      onmessage: ((event: { data: unknown }) => void) | null = null
      onclose: ((event: { code?: number; reason?: string }) => void) | null = null
      onerror: (() => void) | null = null
      client = ''
      channels = new Set<string>()
      presence = new Set<string>()
      constructor() {
        void Promise.resolve().then(() => {
          if (server.#isOffline) return this.onclose?.({ code: 1006 })
          this.readyState = 1
          server.#sockets.add(this)
          this.onopen?.()
        })
      }
      send(text: string) {
        const command = JSON.parse(text) as Sent
        void Promise.resolve().then(() => server.#sockets.has(this) && server.#command(this, command))
      }
      close() {
        this.readyState = 3
        server.#gone(this)
      }
      say(message: object) {
        void Promise.resolve().then(() => this.onmessage?.({ data: JSON.stringify(message) }))
      }
    }
    return { WebSocket }
  }

  /** The types of what was sent, without `connect`. */
  get asked(): string[] {
    return this.sent.filter(command => command.type !== 'connect').map(command => command.type)
  }

  /** Connections are cut. */
  cut(): void {
    for (const socket of [...this.#sockets]) {
      this.#gone(socket)
      socket.onclose?.({ code: 1006 } as never)
    }
  }

  /** Cuts, and lets nobody in until the returned function is called. */
  offline(): () => void {
    this.#isOffline = true
    this.cut()
    return () => (this.#isOffline = false)
  }

  /** What was is forgotten: another epoch. */
  restart(): void {
    this.#rooms.clear()
    this.cut()
  }

  publish(channel: string, data: unknown, event?: string, key?: string): Publication {
    const room = this.#room(channel)
    const publication: Publication = { offset: room.log.length + 1, data, ts: 1 }
    if (event !== undefined) publication.event = event
    if (key !== undefined) publication.idempotency_key = key
    room.log.push(publication)
    this.#tell(channel, { type: 'message', channel, ...publication })
    return publication
  }

  /** Publishes, and nobody is told of it but by a gap. */
  lose(channel: string, ...all: unknown[]): void {
    const room = this.#room(channel)
    for (const data of all) room.log.push({ offset: room.log.length + 1, data, ts: 1 })
    this.#tell(channel, { type: 'gap', channel, epoch: room.epoch, offset: room.log.length })
  }

  signal(channel: string, event: string, data: unknown, client = 'other'): void {
    this.#tell(channel, { type: 'signal', channel, event, data, from: { client } })
  }

  join(channel: string, client: string, data: unknown): void {
    const room = this.#room(channel)
    const type = room.present.has(client) ? 'presence_update' : 'join'
    room.present.set(client, data)
    this.#tellPresent(channel, { type, channel, seq: ++room.seq, client, data })
  }

  leave(channel: string, client: string): void {
    const room = this.#room(channel)
    if (room.present.delete(client)) this.#tellPresent(channel, { type: 'leave', channel, seq: ++room.seq, client })
  }

  /** Ends the subscriptions to it. */
  end(channel: string, code = 'denied'): void {
    this.#tell(channel, { type: 'unsubscribed', channel, code, message: 'not any more' })
    for (const socket of this.#sockets) socket.channels.delete(channel)
  }

  position(channel: string): { epoch: string; offset: number } {
    const { epoch, log } = this.#room(channel)
    return { epoch, offset: log.length }
  }

  present(channel: string): [string, unknown][] {
    return [...this.#room(channel).present]
  }

  #room(name: string): Room {
    let room = this.#rooms.get(name)
    if (!room) {
      const epoch = `e${++this.#epochs}`
      this.#rooms.set(name, (room = { epoch, log: [], seq: 0, present: new Map() }))
    }
    return room
  }

  #tell(channel: string, message: object): void {
    for (const socket of this.#sockets) if (socket.channels.has(channel)) socket.say(message)
  }

  #tellPresent(channel: string, message: object): void {
    for (const socket of this.#sockets) if (socket.presence.has(channel)) socket.say(message)
  }

  #gone(socket: Socket): void {
    if (!this.#sockets.delete(socket)) return
    for (const channel of this.#rooms.keys()) this.leave(channel, socket.client)
  }

  #command(socket: Socket, command: Sent): void {
    const { type, id } = command
    if (type === 'pong') return
    this.sent.push(command)
    const channel = command.channel ?? ''
    switch (type) {
      case 'connect': {
        socket.client = `c${++this.#clients}`
        socket.say({ type: 'connected', id, client: socket.client, session_resumed: false, ping: 25_000 })
        for (const options of (command.subscribe as Sent[] | undefined) ?? []) this.#subscribe(socket, options)
        return
      }
      case 'subscribe':
        return this.#subscribe(socket, command)
      case 'unsubscribe':
        socket.channels.delete(channel)
        socket.presence.delete(channel)
        return socket.say({ type: 'unsubscribed', id, channel, code: 'left' })
      case 'publish': {
        if (this.refusePublish) return socket.say({ type: 'error', id, channel, ...this.refusePublish })
        const answer = () => {
          // The reply comes before the publisher's own copy.
          const { epoch, log } = this.#room(channel)
          socket.say({ type: 'published', id, epoch, offset: log.length + 1 })
          this.publish(channel, command.data, command.event as string | undefined, command.idempotency_key as string)
        }
        if (this.hold) this.hold.push(answer)
        else answer()
        return
      }
      case 'history': {
        const { epoch, log } = this.#room(channel)
        const since = command.since as { epoch: string; offset: number } | undefined
        const page = since ? log.slice(since.offset) : log.slice(-((command.limit as number | undefined) ?? 100))
        const reset = since !== undefined && since.epoch !== epoch
        return socket.say({ type: 'history', id, channel, epoch, offset: log.length, publications: page, reset })
      }
      case 'presence': {
        const { seq, present } = this.#room(channel)
        const entries = [...present].map(([client, data]) => ({ client, data }))
        return socket.say({ type: 'presence', id, channel, seq, count: entries.length, entries })
      }
      case 'presence_set':
        socket.say({ type: 'result', id })
        return this.join(channel, socket.client, command.data)
      case 'presence_clear':
        socket.say({ type: 'result', id })
        return this.leave(channel, socket.client)
      case 'signal':
        return
      default:
        return socket.say({ type: 'error', id, code: 'unknown_type', message: type, retryable: false })
    }
  }

  #subscribe(socket: Socket, { id, channel = '', since, recent, presence }: Sent): void {
    if (this.denied.has(channel))
      return socket.say({ type: 'error', id, channel, code: 'denied', message: 'not for you', retryable: false })
    const { epoch, log } = this.#room(channel)
    const from = since as { epoch: string; offset: number } | undefined
    const recovered = from?.epoch === epoch
    const publications = recovered ? log.slice(from.offset) : recent ? log.slice(-(recent as number)) : []
    socket.channels.add(channel)
    if (presence) socket.presence.add(channel)
    const offset = log.length
    socket.say({ type: 'subscribed', id, channel, epoch, offset, publications, ...(from && { recovered }) })
  }
}
