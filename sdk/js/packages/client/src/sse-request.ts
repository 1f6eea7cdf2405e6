/**
 * One request for an event stream, from the question to the end of the answer.
 *
 * It always comes to an {@link End} that says why, and never rejects: a deadline for the beginning of the answer, a
 * watch over its silence, and `stop` see to that even where `fetch` knows no `AbortSignal`. After `stop` nothing is
 * told any more.
 */

import type { Env, RequestLike, ResponseLike } from './env.js'
import { textOf } from './errors.js'
import { eventStreamParser, type StreamSink, TooLarge } from './event-stream.js'
import { type IdleWatch, idleWatch } from './sse-idle.js'
import type { SSEConnectOptions, SSEReason } from './sse-types.js'

/** How it ended. */
export interface End {
  reason: SSEReason
  message: string
  /** Another attempt cannot change it. */
  final?: boolean
  status?: number
  cause?: unknown
  /** Ms that the server asks for. */
  after?: number
}

/** What is asked for. */
export interface Question {
  url: string
  options: SSEConnectOptions
  lastEventId: string
  /** An earlier request got a stream from this address. */
  wasOpen: boolean
}

/** What is told on the way. */
export interface Answered extends Omit<StreamSink, 'comment'> {
  open(): void
}

/** A request under way. */
export interface Attempt {
  over: Promise<End>
  stop(): void
}

/** Thrown through what is awaited. */
class Ended {
  constructor(readonly end: End) {}
}

type Read = () => Promise<{ done: boolean; value?: Uint8Array | undefined }>

const TIMER_MAX_MS = 2 ** 31 - 1
const REASON_MAX = 500
const EVENT_MAX = 1024 * 1024
const CONNECT_MS = 20_000

export function attempt(env: Env, question: Question, told: Answered): Attempt {
  const { options, lastEventId } = question
  const abort = env.AbortController && new env.AbortController()
  let end: End | undefined
  let reject = (_: Ended) => {}
  let cancel = () => {}

  const finish = (why: End) => {
    if (end) return
    end = why
    abort?.abort()
    cancel()
    reject(new Ended(end))
  }
  // Not `Promise.race` with one promise for the end: that would keep a reaction for each part of the stream.
  const within = <T>(promise: PromiseLike<T>) =>
    new Promise<T>((resolve, no) => {
      reject = no
      promise.then(resolve, no)
      if (end) no(new Ended(end))
    })

  const run = async (): Promise<End> => {
    const { fetch, TextDecoder } = env
    if (!fetch || !TextDecoder) return unsupported('there is no fetch here, or no TextDecoder')
    const limit = options.connectTimeout ?? CONNECT_MS
    const late = () => finish({ reason: 'timeout', message: `no answer within ${limit} ms` })
    const timer = env.setTimeout(late, Math.min(limit, TIMER_MAX_MS))
    let idle: IdleWatch | undefined
    try {
      const asked = fetch(address(question), await within(request(question, abort?.signal)))
      asked.then(
        response => end && drop(response),
        () => {},
      )
      const response = await within(asked)
      const reader = response.body?.getReader()
      cancel = () => void reader?.cancel().catch(() => {})
      const read: Read | undefined = reader && (() => within(reader.read()))
      const refused = await refusal(env, response, question.wasOpen, read)
      if (refused || !read) return refused ?? unsupported('this fetch cannot stream')
      env.clearTimeout(timer)
      idle = idleWatch(env, options.idleTimeout, ms =>
        finish({ reason: 'silence', message: `nothing came for ${ms} ms` }),
      )
      told.open()
      const max = options.maxEventSize ?? EVENT_MAX
      const feed = eventStreamParser(
        sink(told, () => !end, idle.comment),
        max,
        lastEventId,
      )
      const decoder = new TextDecoder()
      for (;;) {
        const { done, value } = await read()
        if (done) return { reason: 'ended', message: 'the server ended the stream' }
        idle.heard()
        feed(decoder.decode(value, { stream: true }))
      }
    } finally {
      env.clearTimeout(timer)
      idle?.stop()
    }
  }

  const over = run().catch(thrown => (thrown instanceof Ended ? thrown.end : broken(thrown)))
  return {
    over: over.then(why => {
      finish(why)
      return why
    }),
    stop: () => finish({ reason: 'ended', message: 'stopped' }),
  }
}

const unsupported = (message: string): End => ({ reason: 'unsupported', message, final: true })

function broken(thrown: unknown): End {
  if (thrown instanceof TooLarge) return { reason: 'too-large', message: thrown.message, final: true }
  return { reason: 'network', message: textOf(thrown), cause: thrown }
}

/** An answer that comes after the end. */
function drop(response: ResponseLike): void {
  if (response.body && !(response as { bodyUsed?: boolean }).bodyUsed) {
    try {
      response.body
        .getReader()
        .cancel()
        .catch(() => {})
    } catch {
      // Somebody reads it.
    }
  }
}

function sink(told: Answered, lives: () => boolean, comment: () => void): StreamSink {
  return {
    event: event => lives() && told.event(event),
    id: id => lives() && told.id(id),
    retry: ms => told.retry(Math.min(ms, TIMER_MAX_MS)),
    comment,
  }
}

async function request({ options, lastEventId }: Question, signal: AbortSignal | undefined): Promise<RequestLike> {
  const { headers: given, credentials, lastEventIdParam } = options
  const headers: Record<string, string> = { Accept: 'text/event-stream' }
  try {
    Object.assign(headers, typeof given === 'function' ? await given() : given)
  } catch (cause) {
    throw new Ended({ reason: 'handler', message: `headers: ${textOf(cause)}`, cause })
  }
  // Bytes of UTF-8, as an EventSource sends them: a header takes no other letters.
  if (lastEventId && !lastEventIdParam) headers['Last-Event-ID'] = unescape(encodeURIComponent(lastEventId))
  return { method: 'GET', headers, cache: 'no-store', ...(credentials && { credentials }), ...(signal && { signal }) }
}

function address({ url, options: { lastEventIdParam: name }, lastEventId }: Question): string {
  if (!name || !lastEventId) return url
  const [before = '', fragment] = url.split('#', 2)
  const pair = `${encodeURIComponent(name)}=${encodeURIComponent(lastEventId)}`
  return before + (before.includes('?') ? '&' : '?') + pair + (fragment === undefined ? '' : '#' + fragment)
}

/** Why this answer is no stream. */
async function refusal(env: Env, response: ResponseLike, wasOpen: boolean, read?: Read): Promise<End | undefined> {
  const { status, headers } = response
  const type = headers.get('content-type') ?? ''
  if (status === 200) {
    if (/^\s*text\/event-stream\s*(;|$)/i.test(type)) return undefined
    // A stream that has been there comes back, after the page that a hotel's network puts before everything.
    const message = `the answer is no event stream: ${type ? `"${type}"` : 'it names no type'}`
    return { reason: 'content-type', message, status, final: !wasOpen }
  }
  if (status === 204) return { reason: 'status', message: '204: there are no more events', status, final: true }
  const passes = status >= 500 || status === 408 || status === 425 || status === 429
  const why = read && !/html/i.test(type) ? await beginning(env, read) : ''
  const message = why ? `${status}: ${why}` : `status ${status}`
  return { reason: 'status', message, status, final: !passes, after: after(env, headers.get('retry-after')) }
}

/** Of a body. What breaks off is worth as much as it is. */
async function beginning({ TextDecoder }: Env, read: Read): Promise<string> {
  const decoder = TextDecoder && new TextDecoder()
  let text = ''
  try {
    while (decoder && text.length < REASON_MAX) {
      const { done, value } = await read()
      if (done) break
      text += decoder.decode(value, { stream: true })
    }
  } catch {
    // The status is the reason.
  }
  return text.trim().slice(0, REASON_MAX)
}

/** `Retry-After`: seconds, or a date. */
function after(env: Env, value: string | null): number {
  const ms = value === null ? 0 : /^\s*\d+\s*$/.test(value) ? +value * 1000 : Date.parse(value) - env.now()
  return ms > 0 ? Math.min(ms, TIMER_MAX_MS) : 0
}
