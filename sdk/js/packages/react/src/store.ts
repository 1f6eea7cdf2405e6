/**
 * Stores: what components read of a client, as immutable snapshots that change at most once a frame.
 *
 * A store is made when the first component subscribes to it, never by rendering. Components that ask for the same
 * thing share it. It stays for {@link LINGER_MS} after the last one, so a page that mounts anew sends nothing and
 * keeps what it has shown. What happens goes into a store at once, so nothing is lost and nothing is queued; the
 * snapshot is made, and React told, with the next frame.
 */

import type { Client } from '@fanfare/client'
import { later, type Schedule } from './frame.js'

/** As long as the client itself keeps a subscription. */
export const LINGER_MS = 1_000

/** The stores of one client. */
export class Registry {
  readonly client: Client
  readonly #schedule: Schedule
  readonly #stores = new Map<string, Store<unknown>>()
  #changed = new Set<Store<unknown>>()

  constructor(client: Client, schedule: Schedule) {
    this.client = client
    this.#schedule = schedule
  }

  /** The store with this key, if some component has one. For rendering: makes nothing. */
  peek<K extends Store<unknown>>(key: string): K | undefined {
    return this.#stores.get(key) as K | undefined
  }

  /** The store with this key. Never while rendering. */
  use<K extends Store<unknown>>(key: string, make: (registry: Registry) => K): K {
    let store = this.peek<K>(key)
    if (!store) {
      store = make(this)
      const made = store
      this.#stores.set(key, made)
      made.dropped = () => this.#stores.get(key) === made && this.#stores.delete(key)
    }
    return store
  }

  /** The store has changed: its components learn of it with the next frame. */
  mark(store: Store<unknown>): void {
    const first = this.#changed.size === 0
    this.#changed.add(store)
    if (first) this.#schedule(() => this.#flush())
  }

  /** All snapshots are made before anyone is told: components see one state of all of them. */
  #flush(): void {
    const changed = [...this.#changed]
    this.#changed = new Set()
    for (const store of changed) store.renew()
    for (const store of changed) store.tell()
  }
}

export abstract class Store<S> {
  protected readonly registry: Registry
  /** Takes it out of the registry. */
  dropped: () => void = () => {}
  readonly #listeners = new Set<() => void>()
  #snapshot: S
  #isOpen = false
  #cancel: () => void = () => {}

  constructor(registry: Registry, empty: S) {
    this.registry = registry
    this.#snapshot = empty
  }

  /** The same until the next frame in which something changed. */
  snapshot(): S {
    return this.#snapshot
  }

  /** A component comes; it goes by the returned function. */
  listen(listener: () => void): () => void {
    const own = () => listener() // the same listener may come twice
    this.#listeners.add(own)
    this.#cancel()
    if (!this.#isOpen) {
      this.#isOpen = true
      this.open()
    } else this.joined()
    return () => {
      if (!this.#listeners.delete(own) || this.#listeners.size > 0) return
      this.#cancel()
      this.#cancel = later(LINGER_MS, () => {
        this.#isOpen = false
        this.close()
        this.tidy()
      })
    }
  }

  /** For the registry. */
  renew(): void {
    this.#snapshot = this.build()
  }

  /** For the registry. One of those who are told may be the end of another. */
  tell(): void {
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener()
  }

  /** Something happened. */
  protected mark(): void {
    this.registry.mark(this as Store<unknown>)
  }

  /** Forgets the store where nobody needs it. */
  protected tidy(): void {
    if (!this.#isOpen && !this.keeps()) this.dropped()
  }

  /** The first component came. */
  protected abstract open(): void
  /** Another component came. */
  protected joined(): void {}
  /** The last component left a while ago. */
  protected abstract close(): void
  /** True while it is of use without components. */
  protected keeps(): boolean {
    return false
  }
  /** The snapshot of what is so now. */
  protected abstract build(): S
}
