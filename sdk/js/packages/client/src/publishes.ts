/**
 * Publications on their way: each is sent with its key until it is answered, so that it is stored once and its caller
 * learns where.
 *
 * Of one channel one is on its way at a time, so their order holds whatever fails; of all together {@link
 * FLYING_MAX}. A key is the user's, else the session's: where another one comes back, what was sent before ends as
 * `unknown`, because to send it again could store it twice. So does what was first sent longer ago than the server
 * keeps its key. Wire: docs/protocol.md, "Publishing".
 */

import { type Calls, NO_JSON } from './calls.js'
import type { Env } from './env.js'
import { FanfareError, textOf } from './errors.js'
import { deadline, randomKey, rest } from './timers.js'
import type { OutboxOptions, PendingPublish, Published, PublishOptions, StoredPublish } from './types.js'
import { bytesOf, type Command, fromBase64, jsonOf, toBase64 } from './wire.js'

/** Half of the commands that a server takes without an answer. */
const FLYING_MAX = 16
/** A wire with so many bytes before it gets no more publications. */
const BACKLOG_MAX = 256 << 10

/** The error, where the data has more bytes than the server takes. */
export function tooLargeFor(max: number, bytes: number, channel?: string): FanfareError | undefined {
  if (bytes <= max) return undefined
  const text = `the data has ${bytes} bytes; the server takes ${max} (limits.message_bytes)`
  return new FanfareError('too_large', text, { ...(channel && { channel }) })
}

export interface OutboxHost {
  readonly env: Env
  readonly calls: Calls
  /** Whose keys they are on this connection. */
  scope(): string
  backlog(): number
  /** Bytes of one payload that the server takes. */
  bytesMax(): number
  report(error: FanfareError): void
  changed(pending: readonly PendingPublish[]): void
}

interface Entry {
  stored: StoredPublish
  ordered: boolean
  /** Of its data, where they were counted. */
  bytes?: number
  state: 'queued' | 'sending' | 'resting'
  /** Times that it was sent since it may have been taken. */
  tries: number
  retries: number
  /** The command that is on its way. */
  id?: number
  /** Nobody waits for one that was loaded from the storage. */
  resolve?: (published: Published) => void
  reject?: (error: FanfareError) => void
  cancel?: () => void
  timer?: unknown
}

export class Outbox {
  readonly #host: OutboxHost
  readonly #options: OutboxOptions
  readonly #entries = new Map<string, Entry>()
  #keysMs = 90_000
  #stored = Promise.resolve()
  #ended = false
  #drain: unknown
  #snapshot: readonly PendingPublish[] | undefined

  constructor(host: OutboxHost, options: OutboxOptions = {}) {
    this.#host = host
    this.#options = options
    const { storage } = options
    if (!storage) return
    this.#store(() =>
      storage.load().then(all => {
        if (this.#ended) return
        for (const stored of all) {
          if (!this.#entries.has(stored.key))
            this.#add({ stored, ordered: true, state: 'queued', tries: stored.sent ? 1 : 0, retries: 0 })
        }
        this.pump()
      }),
    )
  }

  get size(): number {
    return this.#entries.size
  }

  pending(): readonly PendingPublish[] {
    this.#snapshot ??= [...this.#entries.values()].map(({ stored, state }) => ({
      channel: stored.channel,
      key: stored.key,
      data: stored.data64 === undefined ? stored.data : fromBase64(stored.data64),
      ...(stored.event !== undefined && { event: stored.event }),
      state: state === 'sending' ? state : 'queued',
      since: stored.since,
    }))
    return this.#snapshot
  }

  publish(channel: string, data: unknown, options: PublishOptions): Promise<Published> {
    const { env } = this.#host
    const { max = 1_000, ttl = 90_000, storage } = this.#options
    const key = options.key ?? randomKey(env)
    const binary = data instanceof Uint8Array
    const json = binary ? '' : jsonOf(data)
    const fail = (code: 'outbox_full' | 'bad_argument', text: string) =>
      Promise.reject(new FanfareError(code, text, { channel }))
    if (json === undefined) return fail('bad_argument', NO_JSON)
    if (this.#entries.size >= max) return fail('outbox_full', `${max} publications are waiting (outbox.max)`)
    if (this.#entries.has(key)) return fail('bad_argument', `one with the key ${key} is waiting already`)
    const since = env.now()
    const stored: StoredPublish = {
      key,
      channel,
      // As it is now: the caller may change it.
      ...(binary ? { data64: toBase64(data) } : { data: JSON.parse(json) as unknown }),
      ...(options.event !== undefined && options.event !== 'message' && { event: options.event }),
      ...(options.echo !== undefined && { echo: options.echo }),
      since,
      expires: since + (options.ttl ?? ttl),
    }
    return new Promise((resolve, reject) => {
      const ordered = options.ordered !== false
      const bytes = binary ? data.length : bytesOf(json)
      this.#add({ stored, ordered, bytes, state: 'queued', tries: 0, retries: 0, resolve, reject })
      this.pump()
      // One that is sent already has been put as such.
      if (storage && this.#entries.get(key)?.stored === stored) this.#store(() => storage.put(stored))
    })
  }

  /** A connection is there. `keysMs`: how long the server remembers a key. */
  online(keysMs = 120_000): void {
    this.#keysMs = (keysMs * 3) / 4
    this.pump()
  }

  /** The connection is gone: nothing that is on its way will be answered. */
  offline(unsent: ReadonlySet<number>): void {
    this.#host.env.clearTimeout(this.#drain)
    for (const entry of this.#entries.values()) {
      if (entry.state === 'sending' && entry.id !== undefined && unsent.has(entry.id)) entry.tries--
      this.#host.env.clearTimeout(entry.timer)
      entry.state = 'queued'
    }
    this.#changed()
  }

  /** Sends what may be sent. */
  pump(): void {
    const { env, calls } = this.#host
    if (!calls.online) return
    const busy = new Set<string>()
    let flying = 0
    for (const entry of this.#entries.values()) if (entry.state === 'sending') flying++
    for (const entry of this.#entries.values()) {
      const { channel } = entry.stored
      if (entry.state === 'queued' && !(entry.ordered && busy.has(channel))) {
        if (flying >= FLYING_MAX) return
        if (this.#host.backlog() > BACKLOG_MAX) {
          env.clearTimeout(this.#drain)
          this.#drain = env.setTimeout(() => this.pump(), 50)
          return
        }
        if (this.#send(entry)) flying++
      }
      if (entry.ordered && this.#entries.has(entry.stored.key)) busy.add(channel)
    }
  }

  end(error: FanfareError): void {
    this.#ended = true
    for (const entry of this.#entries.values()) {
      entry.cancel?.()
      this.#host.env.clearTimeout(entry.timer)
      const lost = new FanfareError('unknown', 'the client ended before the answer: it may have taken effect or not')
      entry.reject?.(entry.tries ? lost : error)
    }
    this.#entries.clear() // a storage keeps them for the next life
    this.#changed()
  }

  #add(entry: Entry): void {
    const { env } = this.#host
    this.#entries.set(entry.stored.key, entry)
    const ms = Math.min(Math.max(1, entry.stored.expires - env.now()), 2 ** 31 - 1)
    entry.cancel = deadline(env, ms, () => {
      if (entry.tries) return this.#unknown(entry, 'it was given up')
      this.#settle(entry, new FanfareError('timed_out', `it was not sent within ${ms} ms (ttl)`, { retryable: true }))
    })
    this.#changed()
  }

  /** False where it is too late for it. */
  #send(entry: Entry): boolean {
    const { env, calls, scope } = this.#host
    const { stored } = entry
    const now = env.now()
    if (entry.tries > 0 && (stored.scope !== scope() || now - (stored.sent ?? now) > this.#keysMs)) {
      this.#unknown(entry, 'its key does not hold any more')
      return false
    }
    const { data64: binary } = stored
    entry.bytes ??= binary ? (binary.length * 3) / 4 : bytesOf(JSON.stringify(stored.data ?? ''))
    const tooLarge = tooLargeFor(this.#host.bytesMax(), entry.bytes, stored.channel)
    if (tooLarge) {
      this.#settle(entry, tooLarge)
      return false
    }
    const first = entry.tries++ === 0
    if (first) entry.stored = { ...stored, sent: now, scope: scope() }
    entry.state = 'sending'
    const { storage } = this.#options
    if (first && storage) this.#store(() => storage.put(entry.stored))
    const { channel, key, data, data64, event, echo } = stored
    const command: Command = {
      type: 'publish',
      channel,
      idempotency_key: key,
      ...(data64 === undefined ? { data } : { data64 }),
    }
    if (event !== undefined) command.event = event
    if (echo !== undefined) command.echo = echo
    entry.id = calls.ask(
      command,
      (error, reply) => {
        if (entry.state !== 'sending' || !this.#entries.has(key)) return
        if (reply?.type === 'published') {
          const { epoch, offset, duplicate } = reply
          return this.#settle(entry, undefined, { position: { epoch, offset }, key, duplicate: duplicate === true })
        }
        if (!error?.retryable) return this.#settle(entry, error ?? new FanfareError('protocol', 'no answer to publish'))
        // The only time that it was sent, and nothing was done: the next time is the first.
        if (entry.tries === 1 && !/^(unknown|timeout|internal|timed_out)$/.test(error.code)) entry.tries = 0
        entry.state = 'resting'
        entry.timer = env.setTimeout(
          () => {
            entry.state = 'queued'
            this.pump()
          },
          rest(env, entry.retries++, error.retryAfter),
        )
        this.#changed()
      },
      { internal: true },
    )
    this.#changed()
    return true
  }

  #unknown(entry: Entry, why: string): void {
    const text = `it was sent, and the answer was lost; ${why}: it may have taken effect or not`
    this.#settle(entry, new FanfareError('unknown', text, { channel: entry.stored.channel }))
  }

  #settle(entry: Entry, error?: FanfareError, published?: Published): void {
    const { key } = entry.stored
    const { storage } = this.#options
    entry.cancel?.()
    this.#host.env.clearTimeout(entry.timer)
    this.#entries.delete(key)
    if (storage) this.#store(() => storage.remove(key))
    if (published) entry.resolve?.(published)
    else if (error && entry.reject) entry.reject(error)
    else if (error) this.#host.report(error)
    this.#changed()
    this.pump()
  }

  /** One after the other. A storage that fails costs the durability, and nothing else. */
  #store(work: () => Promise<void>): void {
    this.#stored = this.#stored.then(work).catch((cause: unknown) => {
      this.#host.report(new FanfareError('handler', `the outbox's storage failed: ${textOf(cause)}`, { cause }))
    })
  }

  #changed(): void {
    this.#snapshot = undefined
    this.#host.changed(this.pending())
  }
}
