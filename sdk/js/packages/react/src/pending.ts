/**
 * Publishing, and what one has published and not seen yet: `pending`, then `confirmed`, then gone, in the frame in
 * which the message itself is in the list.
 *
 * A failed one stays until it is tried again or dismissed. Entries are found again by the idempotency key.
 */

import type { FanfareError, PendingPublish, PublishOptions, Published } from '@fanfare/client'
import { useCallback } from 'react'
import { channelOf, keyOf } from './channel-store.js'
import { useRegistry } from './context.js'
import { later } from './frame.js'
import { useStore } from './source.js'
import { type Registry, Store } from './store.js'
import type { NameOrNull, PendingMessage, Publish, Selecting } from './types.js'

/** A confirmed one whose message does not come is dropped after so long. */
const CONFIRMED_MS = 10_000
/** Failed ones that are kept. */
const FAILED_MAX = 100

type Any = Record<string, unknown>
type Entry = Omit<PendingMessage, 'retry' | 'dismiss'>

const NONE: readonly PendingMessage[] = []

export class PendingStore extends Store<readonly PendingMessage[]> {
  readonly #name: string
  readonly #entries = new Map<string, PendingMessage>()
  readonly #waits = new Map<string, () => void>()
  #others: readonly PendingMessage[] = []
  #feeds = 0
  #off: () => void = () => {}

  constructor(registry: Registry, name: string) {
    super(registry, NONE)
    this.#name = name
  }

  publish(data: unknown, options: PublishOptions = {}): Promise<Published> {
    const { client } = this.registry
    const key = options.key ?? randomKey()
    const sent = { ...options, key }
    const channel = channelOf(client, this.#name)
    if (this.#entries.get(key)?.state === 'pending') return channel.publish(data as never, sent) // which refuses it
    // As it is now: the caller may change it, and an entry may be tried again.
    const kept = copyOf(data)
    const entry: Entry = { key, event: options.event ?? 'message', data: kept, state: 'pending', since: Date.now() }
    const actions = {
      retry: () => {
        if (this.#entries.get(key)?.state === 'failed') void this.publish(kept, sent)
      },
      dismiss: () => {
        if (this.#entries.get(key)?.state === 'failed') this.#remove(key)
      },
    }
    const set = (change: Partial<Entry>) => this.#set({ ...entry, ...change, ...actions })
    set({})
    const isOurs = () => this.#entries.get(key)?.state === 'pending'
    const promise = channel.publish(kept as never, sent)
    promise.then(
      ({ duplicate }) => {
        if (!isOurs()) return
        // The message of an earlier try may have been seen long ago.
        if (!this.#feeds || options.echo === false || duplicate) return this.#remove(key)
        set({ state: 'confirmed' })
        this.#waits.set(key, later(CONFIRMED_MS, () => this.#remove(key)))
      },
      (error: FanfareError) => {
        if (!isOurs()) return
        set({ state: 'failed', error })
        this.#bound()
      },
    )
    return promise
  }

  /** A list of this channel's messages is there, until the returned function is called. */
  feed(): () => void {
    this.#feeds++
    return () => {
      this.#feeds--
      if (this.#feeds) return
      for (const { key, state } of [...this.#entries.values()]) if (state === 'confirmed') this.#remove(key)
      this.tidy()
    }
  }

  /** The message with this key is in the list. */
  seen(key: string): void {
    if (this.#entries.has(key)) this.#remove(key)
  }

  protected override open(): void {
    this.#off = this.registry.client.on('outbox', pending => this.#foreign(pending))
    this.#foreign(this.registry.client.pending())
  }

  protected override close(): void {
    this.#off()
    this.#others = []
  }

  protected override keeps(): boolean {
    return this.#entries.size > 0 || this.#feeds > 0
  }

  protected override build(): readonly PendingMessage[] {
    const all = [...this.#others, ...this.#entries.values()]
    return all.length ? all : NONE
  }

  /** Those that this store did not publish: of the page before, where the outbox has a storage, and by the client. */
  #foreign(pending: readonly PendingPublish[]): void {
    const mine = pending.filter(entry => entry.channel === this.#name && !this.#entries.has(entry.key))
    if (mine.length === 0 && this.#others.length === 0) return
    this.#others = mine.map(({ key, event = 'message', data, since }) => {
      return { key, event, data, since, state: 'pending', retry: () => {}, dismiss: () => {} }
    })
    this.mark()
  }

  #set(entry: PendingMessage): void {
    this.#entries.set(entry.key, entry)
    this.mark()
  }

  #remove(key: string): void {
    this.#waits.get(key)?.()
    this.#waits.delete(key)
    this.#entries.delete(key)
    this.mark()
    this.tidy()
  }

  #bound(): void {
    const failed = [...this.#entries.values()].filter(entry => entry.state === 'failed')
    for (const { key } of failed.slice(0, -FAILED_MAX)) this.#remove(key)
  }
}

const pendingKey = (name: string) => keyOf('pending', name)

export const pendingOf = (registry: Registry, name: string): PendingStore =>
  registry.use(pendingKey(name), () => new PendingStore(registry, name))

/** For a list: tells that a message is in it. */
export function seen(registry: Registry, name: string, key: string | undefined): void {
  if (key !== undefined) registry.peek<PendingStore>(pendingKey(name))?.seen(key)
}

export function usePublish(name: NameOrNull<string>): Publish<Any> {
  const registry = useRegistry()
  return useCallback<Publish<Any>>(
    (data, options) => {
      if (name === null || name === undefined) return refused('there is no channel to publish to yet')
      return pendingOf(registry, name).publish(data, options)
    },
    [registry, name],
  )
}

export function usePending<T = readonly PendingMessage[]>(
  name: NameOrNull<string>,
  selecting?: Selecting<readonly PendingMessage[], T>,
): T {
  const key = name === null || name === undefined ? null : pendingKey(name)
  return useStore(key, registry => new PendingStore(registry, name as string), NONE, selecting)
}

/** Nobody has to listen. */
export function refused(text: string): Promise<never> {
  const promise = Promise.reject<never>(new Error(text))
  promise.catch(() => {})
  return promise
}

function copyOf(data: unknown): unknown {
  if (data instanceof Uint8Array) return data.slice()
  try {
    const text = JSON.stringify(data)
    return text === undefined ? data : JSON.parse(text)
  } catch {
    return data // the client says what is wrong with it
  }
}

interface Crypto {
  getRandomValues(bytes: Uint8Array): Uint8Array
}

/** An idempotency key: 22 letters and digits. */
function randomKey(): string {
  const { crypto } = globalThis as { crypto?: Crypto }
  const bytes = new Uint8Array(22)
  if (crypto) crypto.getRandomValues(bytes)
  else for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(Math.random() * 256)
  return Array.from(bytes, byte => (byte % 36).toString(36)).join('')
}
