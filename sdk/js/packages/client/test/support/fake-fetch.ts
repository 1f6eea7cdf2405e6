/**
 * A `fetch` whose answers a test gives by hand, part by part. It counts the streams that are open at a time.
 */

import type { FetchLike, RequestLike, ResponseLike } from '../../src/env.js'

/** One request, and the answer to it. */
export class FakeRequest {
  aborted = false
  private resolve!: (response: ResponseLike) => void
  private reject!: (thrown: unknown) => void
  private readonly parts: (Uint8Array | undefined)[] = []
  private wake: (() => void) | undefined
  private broken: unknown
  readonly response: Promise<ResponseLike>

  constructor(
    readonly url: string,
    readonly request: RequestLike,
    private readonly ended: () => void,
  ) {
    this.response = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }))
    const signal = request.signal as AbortSignal | undefined
    signal?.addEventListener('abort', () => {
      this.aborted = true
      this.fail(new DOMException('This operation was aborted', 'AbortError'))
    })
  }

  /** The status, the headers, and the beginning of a body. */
  answer(status: number, headers: Record<string, string> = {}, text = ''): this {
    if (text) this.send(text)
    const all = new Map(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
    const read = async () => {
      while (!this.parts.length && this.broken === undefined) await new Promise<void>(wake => (this.wake = wake))
      if (!this.parts.length) throw this.broken
      const value = this.parts.shift()
      if (!value) this.ended()
      return { done: !value, value }
    }
    this.resolve({
      status,
      headers: { get: name => all.get(name.toLowerCase()) ?? null },
      body: { getReader: () => ({ read, cancel: async () => this.ended() }) },
      text: async () => text,
    })
    return this
  }

  /** A whole answer. */
  refuse(status: number, headers: Record<string, string> = {}, text = ''): void {
    this.answer(status, headers, text).end()
  }

  /** An event stream. */
  open(text = ''): this {
    return this.answer(200, { 'Content-Type': 'text/event-stream; charset=utf-8' }, text)
  }

  send(text: string | Uint8Array): void {
    this.parts.push(typeof text === 'string' ? new TextEncoder().encode(text) : text)
    this.wake?.()
  }

  end(): void {
    this.parts.push(undefined)
    this.wake?.()
  }

  fail(thrown: unknown): void {
    this.broken = thrown
    this.reject(thrown)
    this.wake?.()
    this.ended()
  }
}

export class FakeFetch {
  readonly requests: FakeRequest[] = []
  openNow = 0
  openMost = 0

  readonly fetch: FetchLike = (url, request) => {
    this.openMost = Math.max(this.openMost, ++this.openNow)
    let isOpen = true
    const one = new FakeRequest(url, request, () => {
      if (isOpen) this.openNow--
      isOpen = false
    })
    this.requests.push(one)
    return one.response
  }

  /** The newest one. */
  get last(): FakeRequest {
    const last = this.requests.at(-1)
    if (!last) throw new Error('nothing was asked for')
    return last
  }
}
