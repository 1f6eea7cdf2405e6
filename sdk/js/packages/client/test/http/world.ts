/**
 * A world for the HTTP transports: a clock that stands until it is moved, and a `fetch` whose requests wait for the
 * test to answer them.
 */

import type { Env, RequestLike, ResponseLike, StreamLike } from '../../src/env.js'
import { createHttp } from '../../src/http.js'
import type { HttpOptions } from '../../src/request.js'
import type { Carrier, Session, Wire, WireEnd } from '../../src/transport.js'
import type { Command, ServerMessage } from '../../src/wire.js'

export const CONNECTED = { type: 'connected', id: 1, client: 'me', ticket: 't1', session_resumed: false, ping: 25_000 }

/** Lets everything happen that is due now. */
export const settle = () => new Promise<void>(resolve => setImmediate(resolve))

type Chunk = { bytes: Uint8Array } | { end: true } | { failure: unknown }

/** A request that was sent. */
export class Sent {
  readonly body: Record<string, unknown>
  aborted = false
  /** The reader was told to stop. */
  cancelled = false
  /** Chunks that the client has taken. */
  taken = 0
  private answer!: (response: ResponseLike) => void
  private fails!: (reason: unknown) => void
  readonly response: Promise<ResponseLike>
  private chunks: Chunk[] = []
  private waiting: ((chunk: Chunk) => void) | undefined

  constructor(
    readonly path: string,
    readonly init: RequestLike,
    readonly at: number,
  ) {
    this.body = JSON.parse(init.body ?? 'null') as Record<string, unknown>
    this.response = new Promise((answer, fails) => {
      this.answer = answer
      this.fails = fails
    })
  }

  abort(): void {
    this.aborted = true
    const reason = Object.assign(new Error('This operation was aborted'), { name: 'AbortError' })
    this.fails(reason)
    this.push({ failure: reason })
  }

  /** There is no answer. */
  async lose(reason: unknown = new TypeError('fetch failed')): Promise<void> {
    this.fails(reason)
    this.push({ failure: reason })
    await settle()
  }

  /** The head of an answer, whose body comes by `chunk`. */
  async head(status: number, headers: Record<string, string> = {}): Promise<void> {
    const body: StreamLike = {
      getReader: () => ({
        read: async () => {
          const chunk = this.chunks.shift() ?? (await new Promise<Chunk>(resolve => (this.waiting = resolve)))
          if ('failure' in chunk) throw chunk.failure
          if ('end' in chunk) return { done: true }
          this.taken++
          return { done: false, value: chunk.bytes }
        },
        cancel: async () => {
          this.cancelled = true
          if (this.aborted) throw new Error('the stream is broken')
        },
      }),
    }
    const text = async () => {
      throw new Error('a body is read with a bound')
    }
    this.answer({ status, headers: { get: name => headers[name] ?? null }, body, text })
    await settle()
  }

  async chunk(text: string | Uint8Array): Promise<void> {
    this.push({ bytes: typeof text === 'string' ? new TextEncoder().encode(text) : text })
    await settle()
  }

  async end(): Promise<void> {
    this.push({ end: true })
    await settle()
  }

  /** A whole answer. */
  async reply(status: number, body: unknown = '', headers: Record<string, string> = {}): Promise<void> {
    const isText = typeof body === 'string'
    await this.head(status, { 'content-type': isText ? 'text/html' : 'application/json', ...headers })
    this.push({ bytes: new TextEncoder().encode(isText ? body : JSON.stringify(body)) })
    await this.end()
  }

  /** The commands of a send. */
  get commands(): Command[] {
    return this.body.commands as Command[]
  }

  private push(chunk: Chunk): void {
    const { waiting } = this
    this.waiting = undefined
    if (waiting) waiting(chunk)
    else this.chunks.push(chunk)
  }
}

/** The answer to a poll, or to a send. */
export const poll = (n: number, ...messages: unknown[]) => ({ n, messages })
export const replies = (n: number, ...list: unknown[]) => ({ n, replies: list })
export const refusal = (code: string, more: object = {}) => ({
  code,
  message: `it is ${code}`,
  retryable: false,
  ...more,
})

interface Timer {
  at: number
  run: () => void
}

export class World {
  time = 1_000_000
  /** What `random` gives. */
  chance = 0.5
  readonly timers = new Set<Timer>()
  readonly sent: Sent[] = []
  readonly session: Session = { page: 'p' }
  readonly env: Env
  readonly carrier: Carrier

  constructor(options: HttpOptions = {}, env: Partial<Env> = {}) {
    const { sent } = this
    const now = () => this.time
    this.env = {
      now,
      setTimeout: (run, ms) => {
        const timer = { at: this.time + ms, run }
        this.timers.add(timer)
        return timer
      },
      clearTimeout: timer => void this.timers.delete(timer as Timer),
      random: () => this.chance,
      fetch: (url, init) => {
        const request = new Sent(url.replace('http://server/v1/', ''), init, now())
        sent.push(request)
        ;(init.signal as Set<Sent> | undefined)?.add(request)
        return request.response
      },
      AbortController: class {
        signal = new Set<{ abort(): void }>()
        abort() {
          for (const request of this.signal) request.abort()
        }
      } as never,
      TextDecoder,
      ...env,
    }
    this.carrier = createHttp(this.env, 'http://server', this.session, options)
  }

  /** Moves the clock, and runs the timers that become due, in order. */
  async pass(ms: number): Promise<void> {
    const until = this.time + ms
    for (;;) {
      await settle()
      const due = [...this.timers].filter(timer => timer.at <= until).sort((a, b) => a.at - b.at)[0]
      if (!due) break
      this.timers.delete(due)
      this.time = Math.max(this.time, due.at)
      due.run()
    }
    this.time = until
    await settle()
  }

  /** The requests to this path that have no answer and are not given up. */
  open(path: string): Sent[] {
    return this.sent.filter(sent => sent.path === path && !sent.aborted && !this.done.has(sent))
  }
  private readonly done = new Set<Sent>()

  /** The one request to this path that was not looked at yet. */
  next(path: string): Sent {
    const [first, ...more] = this.open(path)
    if (!first || more.length) throw new Error(`${first ? more.length + 1 : 'no'} requests to ${path}`)
    this.done.add(first)
    return first
  }

  /** All that were not looked at yet. */
  all(path: string): Sent[] {
    const open = this.open(path)
    for (const sent of open) this.done.add(sent)
    return open
  }
}

/** A connection over HTTP: what its wire told. */
export class Connection {
  readonly told: unknown[] = []
  readonly messages: ServerMessage[] = []
  readonly replies: ServerMessage[] = []
  reached = 0
  end: WireEnd | undefined
  /** The commands that were not sent when it ended. */
  unsent: ReadonlySet<number> | undefined
  readonly wire: Wire
  /** Called with each list of messages. */
  on: ((messages: ServerMessage[]) => void) | undefined
  onReplies: ((replies: ServerMessage[]) => void) | undefined

  constructor(
    readonly world: World,
    transport: 'sse' | 'stream' | 'poll',
  ) {
    const alive = () => {
      if (this.end) throw new Error('`closed` is the last')
    }
    const wire = world.carrier.open(transport, {
      reached: () => {
        alive()
        this.reached++
      },
      messages: messages => {
        alive()
        this.messages.push(...messages)
        for (const message of messages) {
          if (message.type !== 'connected') continue
          if (message.ticket) world.session.ticket = message.ticket
          delete world.session.ack
          world.carrier.online(message.session_resumed)
        }
        this.on?.(messages)
      },
      replies: replies => {
        alive()
        this.replies.push(...replies)
        this.onReplies?.(replies)
      },
      closed: end => {
        alive()
        this.end = end
        this.unsent = this.wire.unsent()
        world.carrier.offline()
      },
    })
    if (!wire) throw new Error(`there is no ${transport}`)
    this.wire = wire
    const { ack } = world.session
    wire.connect(() => ({
      type: 'connect',
      id: 1,
      page: 'p',
      ...(world.session.ticket && { ticket: world.session.ticket }),
      ...(ack !== undefined && { ack }),
    }))
  }

  /** What the connection does when it leaves it. */
  close(leave?: boolean): void {
    this.unsent = this.wire.unsent()
    this.wire.close(leave)
    this.world.carrier.offline()
  }

  /** The types of the messages, but for `connected`. */
  get types(): string[] {
    return this.messages.map(message => message.type).filter(type => type !== 'connected')
  }

  /** Sends commands, in a turn of their own. */
  async give(...commands: Command[]): Promise<void> {
    this.wire.send(commands)
    await settle()
  }

  async publish(id: number, data: unknown = 'x'): Promise<void> {
    await this.give({ type: 'publish', id, channel: 'c', data })
  }
}

/** A stream that is online, and its request. */
export async function streaming(world: World, connected: object = {}, transport: 'sse' | 'stream' = 'stream') {
  const connection = new Connection(world, transport)
  const down = world.next(transport)
  await down.head(200, { 'content-type': transport === 'sse' ? 'text/event-stream' : 'application/x-ndjson' })
  const text = JSON.stringify({ ...CONNECTED, ...connected })
  await down.chunk(transport === 'sse' ? `data: ${text}\n\n` : `${text}\n`)
  return { connection, down }
}

/** Polls that are online; the next poll is not looked at yet. */
export async function polling(world: World, connected: object = {}, n = 1) {
  const connection = new Connection(world, 'poll')
  await world.next('poll').reply(200, poll(n, { ...CONNECTED, ...connected }))
  return connection
}
