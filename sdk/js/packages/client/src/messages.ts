/**
 * Messages for `for await`: a buffer with a bound, behind which the history waits.
 *
 * When the reader is so slow that {@link BUFFER_MAX} messages wait, no more are taken; when it has read them, it goes
 * on from the history and then with the live ones. So it loses nothing as far as the history reaches, and costs one
 * buffer.
 */

import { FanfareError } from './errors.js'
import type { Local } from './local.js'
import type { Message, SubscribeOptions } from './types.js'

const BUFFER_MAX = 1_024

type Open = (handlers: SubscribeOptions, bind: (local: Local) => void) => () => void

export class Messages<M extends Message> implements AsyncIterableIterator<M> {
  readonly #buffer: M[] = []
  readonly #waiting: { resolve(result: IteratorResult<M>): void; reject(error: unknown): void }[] = []
  #full = false
  #end: { error?: FanfareError } | undefined
  #local: Local | undefined
  #close: () => void

  constructor(open: Open) {
    this.#close = open(
      {
        message: message => this.#push(message as M),
        gap: ({ position, channel }) => {
          const at = `${position.epoch}:${position.offset}`
          this.#stop(new FanfareError('gap', `messages before ${at} are lost: load the channel again`, { channel }))
        },
        ended: error => this.#stop(error.code === 'closed' ? undefined : error),
      },
      local => (this.#local = local),
    )
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<M>> {
    const message = this.#buffer.shift()
    if (message) {
      if (this.#full && !this.#buffer.length) {
        this.#full = false
        this.#local?.catchUp({ since: message.position })
      }
      return Promise.resolve({ done: false, value: message })
    }
    if (this.#end) {
      const { error } = this.#end
      this.#end = {}
      return error ? Promise.reject(error) : Promise.resolve({ done: true, value: undefined })
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  return(): Promise<IteratorResult<M>> {
    this.#buffer.length = 0
    this.#stop()
    this.#end = {}
    return this.next()
  }

  #push(message: M): void {
    const reader = this.#waiting.shift()
    if (reader) return reader.resolve({ done: false, value: message })
    if (this.#buffer.push(message) < BUFFER_MAX || this.#full) return
    this.#full = true
    this.#local?.pause()
  }

  #stop(error?: FanfareError): void {
    if (this.#end) return
    this.#end = error ? { error } : {}
    this.#close()
    for (const { resolve, reject } of this.#waiting.splice(0)) this.next().then(resolve, reject)
  }
}
