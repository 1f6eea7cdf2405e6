/**
 * One request over `fetch`: a POST of JSON, and its answer, whole or as it comes.
 *
 * `done` is called once, or never after the request was stopped. Nothing is thrown, and no rejection is left over.
 * Bounds: {@link ANSWER_MAX} characters of a good answer, {@link REFUSAL_MAX} of another one, {@link TEXT_MAX} of one
 * message of a stream. Redirects are not followed: they lead to login pages, and a ticket is for one server.
 */

import type { Env, RequestLike, StreamLike } from './env.js'
import { textOf } from './errors.js'
import { backoff, deadline } from './timers.js'
import type { Session } from './transport.js'
import { check, nonsense, TEXT_MAX, type WireError } from './wire.js'

/** A send has up to 32 replies, and pages are among them. */
const ANSWER_MAX = 2 * TEXT_MAX
/** Of a longer refusal this is the beginning. */
const REFUSAL_MAX = 16 << 10
/** A proxy's `Retry-After` may be meant for a page that is fetched once a day. */
export const PATIENCE_MAX = 10 * 60_000
const JSON_TYPE = 'application/json'
/** The status of an answer that did not come, or not whole. */
export const LOST = -1

export interface Answer {
  /** {@link LOST}, or that of HTTP; 0 is a redirect in browsers. */
  status: number
  /** What came, in one line. */
  what: string
  /** The body, where it is a JSON object. */
  json: Record<string, unknown>
  /** The body, where it is an error of the server's. */
  error?: WireError | undefined
  /** It asks for so many ms of patience. */
  after: number
}

export interface How {
  /** Without an answer after so many ms it is lost. False: never. */
  ms?: number | false
  /** It outlives the page. */
  keepalive?: boolean
  /** The head of an answer has come. */
  head?(): void
  /** The type of the answer, where it is a stream; then `feed` gets its text as it comes. Its end is a loss. */
  media?: string
  feed?(text: string): void
}

export interface HttpOptions {
  /** Headers of one's own, such as those that a proxy wants. */
  headers?: Record<string, string>
  /** Default `'same-origin'`. */
  credentials?: 'include' | 'same-origin' | 'omit'
  /** What a request may take, beyond what it asks the server to wait. Default 10,000 ms. */
  requestTimeout?: number
}

/** Sends a request. The returned function stops it. */
export type Request = (path: string, body: string, how: How, done: (answer: Answer) => void) => () => void

/** Requests to `base`, which does not end with a slash. `env.fetch` must be there. */
export function createRequest(env: Env, base: string, session: Session, options: HttpOptions): Request {
  return (path, body, { ms, keepalive, head, media, feed }, done) => {
    let open = true
    let cancel = () => {}
    let reader: ReturnType<StreamLike['getReader']> | undefined
    const controller = env.AbortController && new env.AbortController()
    const stop = () => {
      open = false
      cancel()
      controller?.abort()
      reader?.cancel().catch(() => {}) // it may be aborted already
    }
    const end = (answer: Answer) => {
      if (!open) return
      stop()
      done(answer)
    }
    const lose = (what: string) => end({ status: LOST, what, json: {}, after: 0 })
    const run = async () => {
      const request: RequestLike = {
        method: 'POST',
        headers: {
          ...options.headers,
          'Content-Type': JSON_TYPE,
          Accept: media ? `${media}, ${JSON_TYPE};q=0.9` : JSON_TYPE,
        },
        body,
        credentials: options.credentials ?? 'same-origin',
        redirect: 'manual',
        keepalive: !!keepalive,
      }
      if (controller) request.signal = controller.signal
      const response = await (env.fetch as NonNullable<Env['fetch']>)(base + path, request)
      if (open) head?.()
      const { status } = response
      const header = (name: string) => response.headers.get(name) ?? ''
      const type = header('content-type')
      const isGood = status === 200
      const isStream = isGood && media && type.toLowerCase().startsWith(media)
      let text = ''
      try {
        if (response.body && env.TextDecoder) {
          reader = response.body.getReader()
          const decoder = new env.TextDecoder()
          for (;;) {
            const { done, value } = await reader.read()
            if (!open) return stop() // perhaps it was stopped before there was a reader
            const chunk = decoder.decode(value, { stream: !done })
            if (isStream) feed?.(chunk)
            else text += chunk
            if (text.length > (isGood ? ANSWER_MAX : REFUSAL_MAX)) throw nonsense('an answer without end', text)
            if (done) break
          }
          if (isStream) return lose('the stream has ended')
        } else text = isStream ? 'this `fetch` has no streams' : await response.text()
      } catch (thrown) {
        if (isGood) throw thrown // a refusal is one without its end, too
      }
      let json: Answer['json'] = {}
      let error: WireError | undefined
      try {
        json = Object(JSON.parse(text))
        error = check({ ...json, type: 'error' })[0] as WireError
      } catch {
        // it is none
      }
      const shown = error?.message ?? text.slice(0, 999).trim().slice(0, 80).replace(/\s+/g, ' ')
      const what = `${path} answered ${status || 'with a redirect'} ${header('location') || type}: ${shown}`
      const seconds = +header('retry-after') // a date is not understood
      const after = Math.min(Math.max(seconds * 1000 || Number(error?.retry_after) || 0, 0), PATIENCE_MAX)
      if (open && after && passes(status)) session.notBefore = Math.max(session.notBefore ?? 0, env.now() + after)
      end({ status, what, json, error, after })
    }
    if (ms) cancel = deadline(env, ms, () => lose(`${path} did not answer within ${ms} ms`))
    run().catch(thrown => lose(textOf(thrown)))
    return stop
  }
}

/** A status that the same request may not get later. */
export const passes = (status: number): boolean => [408, 425, 429].includes(status) || status >= 500

/** The wait before a repeat, with so many before it: full jitter, and never zero. */
export const restMs = (env: Env, failures: number, max = 8_000): number => backoff(env, failures, 250, max)

/** Runs it later. The returned function takes that back. */
export function later(env: Env, ms: number, run: () => void): () => void {
  const timer = env.setTimeout(run, ms)
  return () => env.clearTimeout(timer)
}

/**
 * Cuts the body of a stream into messages, however its bytes come: blocks of an event stream, or lines. One that is
 * longer than {@link TEXT_MAX} is given before its end, for `decode` to refuse.
 */
export function splitter(isSse: boolean, message: (text: string) => void): (text: string) => void {
  let line = ''
  let data = ''
  /** A line has ended with a CR: an LF that follows belongs to it. */
  let cut = false
  const whole = () => {
    const text = isSse ? data : line
    if (!isSse || !line) {
      data = ''
      if (text.trim()) message(text)
    } else if (/^data(:|$)/.test(line)) data += (data && '\n') + line.slice(line[5] === ' ' ? 6 : 5)
    line = ''
  }
  return text => {
    if (!text) return
    const parts = (cut && text[0] === '\n' ? text.slice(1) : text).split(/\r\n?|\n/)
    cut = text.endsWith('\r')
    parts.forEach((part, at) => {
      if (at) whole()
      line += part
    })
    if (line.length + data.length > TEXT_MAX) message(data + line)
  }
}
