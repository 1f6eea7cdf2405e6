/**
 * Commands that wait for their answers, by id: each is settled exactly once.
 *
 * A command that may be repeated waits for the next connection; of another one that was on its way when the connection
 * was lost nobody knows whether it took effect: it fails as `unknown`, or as `not_sent` where the wire knows better.
 */

import type { Env } from './env.js'
import { FanfareError } from './errors.js'
import { deadline } from './timers.js'
import { type Command, errorOf, jsonOf, type ServerMessage } from './wire.js'

/** A cycle or a BigInt would break each connection on which it is sent. */
export const NO_JSON = 'the data cannot be written as JSON'

/** The answer, or why there is none. */
export type Done = (error: FanfareError | undefined, reply?: ServerMessage) => void

export interface AskOptions {
  /** May be sent again on the next connection. */
  repeat?: boolean
  /** Of a channel or the outbox, which know what to do when the connection is lost: then it is forgotten. */
  internal?: boolean
  timeout?: number
}

interface Pending extends AskOptions {
  command: Command
  done: Done
  sent: boolean
  cancel: () => void
}

export class Calls {
  readonly #env: Env
  readonly #send: (command: Command) => void
  readonly #pending = new Map<number, Pending>()
  #last = 0
  /** Commands can be sent. */
  online = false

  constructor(env: Env, send: (command: Command) => void) {
    this.#env = env
    this.#send = send
  }

  get size(): number {
    return this.#pending.size
  }

  /** An id that was never used: a late answer of an earlier connection is of no newer command. */
  nextId(): number {
    return ++this.#last
  }

  ask(command: Command, done: Done, options: AskOptions = {}): number {
    const id = this.nextId()
    const ms = options.timeout ?? 10_000
    // The outbox has made JSON of what it sends.
    if (command.type !== 'publish' && jsonOf(command.data ?? 0) === undefined) {
      done(new FanfareError('bad_argument', NO_JSON))
      return id
    }
    const cancel = deadline(this.#env, ms, () => {
      this.#pending.delete(id)
      done(new FanfareError('timed_out', `no answer to ${command.type} within ${ms} ms`, { retryable: true }))
    })
    const pending = { ...options, command: { ...command, id }, done, sent: this.online, cancel }
    this.#pending.set(id, pending)
    if (this.online) this.#send(pending.command)
    return id
  }

  /** True where it answers something that was asked. */
  reply(message: ServerMessage): boolean {
    const id = 'id' in message ? message.id : undefined
    const pending = id === undefined ? undefined : this.#pending.get(id)
    if (!pending) return id !== undefined
    this.#take(id as number, pending)
    if (message.type === 'error') pending.done(errorOf(message))
    else pending.done(undefined, message)
    return true
  }

  /** Sends those that waited. */
  begin(): void {
    this.online = true
    for (const pending of this.#pending.values()) {
      if (pending.sent) continue
      pending.sent = true
      this.#send(pending.command)
    }
  }

  /** The connection is gone. */
  offline(unsent: ReadonlySet<number>): void {
    this.online = false
    for (const [id, pending] of this.#pending) {
      if (!pending.sent && !pending.internal) continue
      if (pending.repeat && !pending.internal) {
        pending.sent = false
        continue
      }
      this.#take(id, pending)
      if (pending.internal) continue
      const error = unsent.has(id)
        ? new FanfareError('not_sent', 'the connection was lost before it was sent: it took no effect', {
            retryable: true,
          })
        : new FanfareError('unknown', 'the connection was lost before the answer: it may have taken effect or not')
      pending.done(error)
    }
  }

  end(error: FanfareError): void {
    this.online = false
    for (const [id, pending] of this.#pending) {
      this.#take(id, pending)
      if (!pending.internal) pending.done(error)
    }
  }

  #take(id: number, pending: Pending): void {
    this.#pending.delete(id)
    pending.cancel()
  }
}
