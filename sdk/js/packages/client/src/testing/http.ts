/**
 * A `fetch` that ends in a fake server: streams (`/v1/sse`, `/v1/stream`), polls and sends, by docs/protocol.md.
 *
 * An answer comes `latency` ms after its request, and so does each part of a stream; of two requests any may be first.
 * Not played: `/events`, compression, and the rates of polls.
 */

import type { Env, FetchLike, RequestLike, ResponseLike, StreamLike } from '../env.js'
import type { Command } from '../wire.js'
import { errorFields, type FakeError, statusOf } from './errors.js'
import type { Server } from './server.js'
import type { Connection, Session } from './session.js'
import { type Net, Pipe } from './socket.js'

type Clock = Pick<Env, 'now' | 'setTimeout' | 'clearTimeout'>

interface Answer {
  status: number
  type: string
  text?: string
  body?: StreamLike
  retryAfter?: number
}

/** Messages that wait for the next poll. */
interface Box {
  connection: Connection
  /** The number of the last answer with messages, and its bytes while they are not acknowledged. */
  n: number
  last: string | undefined
  waiting: object[]
  /** The poll that waits: called when there is something, or nothing. */
  poll: { ack: number; answer: () => void } | undefined
  timer: unknown
}

interface Signal {
  readonly aborted?: boolean
  addEventListener?(type: string, run: () => void): void
}

/** Numbered sends of a session. */
interface Sends {
  next: number
  readonly answers: Map<number, Promise<Answer>>
  /** Those that came too early. */
  readonly early: Map<number, () => void>
}

const JSON_TYPE = 'application/json'
const KEPT_MAX = 8
const EARLY_MS = 5_000
const SENDS_MS = 5_000

export function fetchOf(server: Server, clock: Clock, net: Net): FetchLike {
  const boxes = new Map<string, Box>()
  const attempts = new Map<string, Promise<Answer>>()
  const sends = new WeakMap<Session, Sends>()
  const numbers = new WeakMap<Session, number>()

  const json = (status: number, value: object): Answer => ({ status, type: JSON_TYPE, text: JSON.stringify(value) })
  const refuse = (error: FakeError): Answer => {
    const { type: _, retry_after, ...fields } = errorFields(error)
    return { ...json(statusOf(error.code), fields), ...(retry_after !== undefined && { retryAfter: 1 }) }
  }
  const sessionOf = (ticket: unknown): Session | undefined =>
    [...server.sessions.values()].find(({ tickets }) => tickets.has(ticket as string))
  /** A ticket of this server, perhaps of a session that is over. */
  const noSession = (ticket: unknown) =>
    refuse(
      /^ticket-c/.test(String(ticket))
        ? { code: 'not_connected', message: 'the session is over, or has no connection' }
        : { code: 'unauthorized', message: 'this is no ticket of this server' },
    )

  function stream(command: Command, framing: 'sse' | 'stream', aborted: (run: () => void) => void): Answer {
    const down = new Pipe(clock, net)
    const chunks: string[] = []
    let end: 'done' | 'cut' | undefined
    let wake = () => {}
    const write = (message: object) => {
      const text = JSON.stringify(message)
      const chunk = framing === 'sse' ? `data: ${text}\n\n` : `${text}\n`
      down.push(() => (chunks.push(chunk), wake()))
    }
    const over = (how: 'done' | 'cut') => {
      end ??= how
      wake()
    }
    const connection = server.open({
      send: write,
      close: () => down.push(() => over('done')),
      cut: () => {
        down.open = false
        over('cut')
      },
    })
    let refusal: FakeError | undefined
    server.command(connection, command, message => {
      if (message.type === 'error') refusal = message as unknown as FakeError & { retryable: boolean }
      else write(message)
    })
    const type = framing === 'sse' ? 'text/event-stream' : 'application/x-ndjson'
    if (refusal) {
      server.lost(connection)
      if (!refusal.retryable) return { status: statusOf(refusal.code), type: 'text/plain', text: refusal.message ?? '' }
      write({ type: 'disconnect', code: 4004, reason: 'overloaded', retry: true, delay: 1_000 })
      down.push(() => over('done'))
    }
    const cancel = () => {
      down.open = false
      end = 'done'
      server.lost(connection)
      wake()
    }
    let failed = false
    aborted(() => {
      failed = true
      cancel()
    })
    const read = async (): Promise<{ done: boolean; value?: Uint8Array }> => {
      while (!chunks.length && !end) await new Promise<void>(resolve => (wake = resolve))
      if (failed) throw new DOMExceptionLike('AbortError', 'the request was aborted')
      if (chunks.length) return { done: false, value: bytes(chunks.splice(0).join('')) }
      if (end === 'cut') throw new TypeError('the connection was lost')
      return { done: true }
    }
    return { status: 200, type, body: { getReader: () => ({ read, cancel: async () => cancel() }) } }
  }

  /** The first poll: its answer is kept for one that repeats it. */
  function begin(command: Command): Answer {
    const empty: Omit<Box, 'connection'> = { n: 0, last: undefined, waiting: [], poll: undefined, timer: undefined }
    const box = empty as Box
    const put = (message: object) => {
      box.waiting.push(message)
      box.poll?.answer()
    }
    const over = () => {
      clock.clearTimeout(box.timer)
      box.poll?.answer()
    }
    box.connection = server.open({ send: put, close: over, cut: over }, false)
    let refusal: Record<string, unknown> | undefined
    server.command(box.connection, command, message => {
      if (message.type === 'error') refusal = message
      else put(message)
    })
    const { session } = box.connection
    if (refusal || !session) {
      server.lost(box.connection)
      return refuse({ ...refusal, code: String(refusal?.code ?? 'bad_request') })
    }
    box.n = numbers.get(session) ?? 0
    for (const ticket of session.tickets) boxes.set(ticket, box)
    live(box)
    return take(box)
  }

  /** A client that does not poll is gone after a while. */
  function live(box: Box): void {
    const { ping = 25_000 } = server.options
    clock.clearTimeout(box.timer)
    if (box.connection.over) return
    box.timer = clock.setTimeout(() => server.lost(box.connection), 2.5 * (ping || 25_000))
  }

  function take(box: Box): Answer {
    box.n++
    const { session } = box.connection
    if (session) numbers.set(session, box.n)
    box.last = JSON.stringify({ n: box.n, messages: box.waiting.splice(0) })
    return { status: 200, type: JSON_TYPE, text: box.last }
  }

  function poll(request: { ticket?: unknown; ack?: unknown; wait?: unknown }): Answer | Promise<Answer> {
    const { ticket, ack = 0, wait } = request
    const box = boxes.get(ticket as string)
    const session = sessionOf(ticket)
    const isCurrent = box && session?.connection === box.connection
    // The last words of a connection that is over wait for one more poll.
    if (!box || !(isCurrent || box.waiting.length || (box.last && ack !== box.n))) {
      if (session?.connection) return refuse({ code: 'already_connected', message: 'the session is not polled' })
      return noSession(ticket)
    }
    if (typeof ack !== 'number' || ack > box.n) return refuse({ code: 'bad_request', message: '`ack` is too high' })
    box.connection.heard = true
    live(box)
    const empty = json(200, { n: ack, messages: [] })
    if (box.poll) {
      if (box.poll.ack > ack) return empty
      box.poll.answer()
    }
    if (ack < box.n && box.last !== undefined) return { status: 200, type: JSON_TYPE, text: box.last }
    box.last = undefined
    if (box.waiting.length) return take(box)
    const { ping = 25_000 } = server.options
    const most = ping || 25_000
    const ms = typeof wait === 'number' ? Math.min(wait, most) : most
    return new Promise(resolve => {
      const answer = () => {
        clock.clearTimeout(timer)
        if (box.poll === mine) box.poll = undefined
        if (box.waiting.length) return resolve(take(box))
        resolve(box.connection.over ? noSession(ticket) : empty)
      }
      const mine = { ack, answer }
      const timer = clock.setTimeout(answer, ms)
      box.poll = mine
    })
  }

  function send(request: { ticket?: unknown; n?: unknown; commands?: unknown }): Answer | Promise<Answer> {
    const { ticket, n, commands } = request
    const session = sessionOf(ticket)
    const list = (Array.isArray(commands) ? commands : [commands]) as (Command | null)[]
    if (!list.every(command => typeof command === 'object' && command !== null))
      return refuse({ code: 'bad_request', message: '`commands` must be commands' })
    const all = list as Command[]
    if (!session) return noSession(ticket)
    const { connection } = session
    if (!connection) {
      const leaves = all.length === 1 && all[0]?.type === 'disconnect'
      if (leaves) server.disconnect(session.client, 4505)
      return leaves ? json(200, { replies: [{ type: 'result', id: all[0]?.id }] }) : noSession(ticket)
    }
    connection.heard = true
    const box = boxes.get(ticket as string)
    if (box) live(box)
    if (n === undefined) return act(session, all)
    if (typeof n !== 'number') return refuse({ code: 'bad_request', message: '`n` must be a number' })
    let state = sends.get(session)
    if (!state) sends.set(session, (state = { next: 1, answers: new Map(), early: new Map() }))
    return numbered(session, state, n, all)
  }

  function numbered(session: Session, state: Sends, n: number, commands: Command[]): Answer | Promise<Answer> {
    const { next, answers, early } = state
    const lost = { code: 'unknown', message: 'the answer is not kept', retryable: false }
    if (n < next) return answers.get(n) ?? refuse(lost)
    if (n === next) {
      const answer = Promise.resolve(act(session, commands, n))
      state.next++
      answers.set(n, answer)
      answers.delete(n - KEPT_MAX)
      early.get(state.next)?.()
      return answer
    }
    const late = () => {
      const message = `send ${n} came before send ${state.next}: send again all from ${state.next} on`
      return refuse({ code: 'out_of_order', message })
    }
    if (n > next + KEPT_MAX) return late()
    return new Promise(resolve => {
      const timer = clock.setTimeout(() => {
        early.delete(n)
        resolve(late())
      }, EARLY_MS)
      early.set(n, () => {
        clock.clearTimeout(timer)
        early.delete(n)
        resolve(numbered(session, state, n, commands))
      })
    })
  }

  /** Carries commands out, and waits for the replies. */
  function act(session: Session, commands: Command[], n?: number): Promise<Answer> {
    const replies: object[] = []
    return new Promise(resolve => {
      let left = 1 + commands.filter(({ id }) => id !== undefined).length
      const done = () => {
        clock.clearTimeout(timer)
        resolve(json(200, { ...(n !== undefined && { n }), replies }))
      }
      const timer = clock.setTimeout(done, SENDS_MS)
      const settle = () => --left === 0 && done()
      for (const command of commands) {
        const { connection } = session
        if (!connection) break
        server.command(connection, command, message => {
          replies.push(message)
          if ('id' in message) settle()
        })
      }
      if (session.connection) settle()
      else done()
    })
  }

  function route(url: string, request: RequestLike, aborted: (run: () => void) => void): Answer | Promise<Answer> {
    const [, path = '', query] = /^[^?]*?(\/v1\/\w+)(?:\?(.*))?$/.exec(url) ?? []
    const framing = path === '/v1/sse' ? 'sse' : path === '/v1/stream' ? 'stream' : undefined
    const isGet = request.method === 'GET'
    const plain = (status: number, text: string): Answer => ({ status, type: 'text/plain', text })
    if (!framing && path !== '/v1/poll' && path !== '/v1/send') return plain(404, 'not found')
    if (isGet ? !framing : request.method !== 'POST') return plain(405, 'not this method')
    let value: unknown
    try {
      const named = /(?:^|&)connect=([^&]*)/.exec(query ?? '')?.[1]
      const text = isGet ? named && decodeURIComponent(named) : request.body
      value = JSON.parse(text || '{"type":"connect","id":1}')
    } catch {
      return refuse({ code: 'bad_request', message: 'this is not JSON' })
    }
    const body = (Array.isArray(value) && value.length === 1 ? value[0] : value) as Command & { attempt?: string }
    if (isGet && body.ticket !== undefined) return plain(400, 'a GET shows no ticket')
    if (framing) return stream(body, framing, aborted)
    if (path === '/v1/send') return send(body as Record<string, unknown>)
    if (body.type !== 'connect') return poll(body as Record<string, unknown>)
    if (body.id === undefined) return refuse({ code: 'bad_request', message: 'a `connect` needs an `id`' })
    const { attempt } = body
    const known = attempt === undefined ? undefined : attempts.get(attempt)
    const answer = known ?? Promise.resolve(begin(body))
    if (attempt !== undefined) attempts.set(attempt, answer)
    return answer
  }

  return (url, request) =>
    new Promise<ResponseLike>((resolve, reject) => {
      const up = new Pipe(clock, net)
      const down = new Pipe(clock, net)
      let onAbort = () => {}
      const signal = request.signal as Signal | undefined
      const abort = () => {
        up.open = down.open = false
        onAbort()
        reject(new DOMExceptionLike('AbortError', 'the request was aborted'))
      }
      if (signal?.aborted) return abort()
      signal?.addEventListener?.('abort', abort)
      up.push(() => {
        if (net.offline) return down.push(() => reject(new TypeError('Failed to fetch')))
        const answered = route(url, request, run => (onAbort = run))
        void Promise.resolve(answered).then(answer => down.push(() => resolve(responseOf(answer))))
      })
    })
}

function responseOf({ status, type, text = '', body, retryAfter }: Answer): ResponseLike {
  let left = text
  const read = async () => {
    if (!left) return { done: true }
    const value = bytes(left)
    left = ''
    return { done: false, value }
  }
  const headers: Record<string, string | undefined> = {
    'content-type': type,
    'retry-after': retryAfter === undefined ? undefined : String(retryAfter),
  }
  return {
    status,
    headers: { get: name => headers[name.toLowerCase()] ?? null },
    body: body ?? { getReader: () => ({ read, cancel: async () => {} }) },
    text: async () => text,
  }
}

class DOMExceptionLike extends Error {
  constructor(name: string, message: string) {
    super(message)
    this.name = name
  }
}

/** UTF-8. */
function bytes(text: string): Uint8Array {
  const escaped = unescape(encodeURIComponent(text))
  return Uint8Array.from(escaped, char => char.charCodeAt(0))
}

declare function unescape(text: string): string
