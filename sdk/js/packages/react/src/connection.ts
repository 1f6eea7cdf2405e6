/** The connection's state, and what a banner says of it. */

import type { Connectivity } from '@fanfare/client'
import { useCallback } from 'react'
import { useRegistry } from './context.js'
import { later } from './frame.js'
import { useSource } from './source.js'
import { type Registry, Store } from './store.js'
import type { Connection, Selecting } from './types.js'

const RESTORED_MS = 3_000
const KEY = 'connection'

/** What a server renders, and the first render in the browser. */
const BEFORE: Connection = {
  state: { name: 'disconnected', reason: { code: 'idle', message: 'not begun' }, attempt: 0 },
  connectivity: undefined,
}

class ConnectionStore extends Store<Connection> {
  #connectivity: Connectivity | undefined
  #off: (() => void)[] = []
  #restored: () => void = () => {}

  constructor(registry: Registry) {
    super(registry, { state: registry.client.state, connectivity: undefined })
  }

  protected override open(): void {
    const { client } = this.registry
    this.#off = [
      client.on('state', () => this.#state()),
      client.on('connectivity', connectivity => this.#set(connectivity)),
      () => this.#restored(),
    ]
    this.mark() // it may have changed since it was made
  }

  protected override close(): void {
    for (const off of this.#off.splice(0)) off()
    this.#connectivity = undefined
  }

  protected override build(): Connection {
    const { state } = this.registry.client
    const before = this.snapshot()
    const same = before.state === state && before.connectivity === this.#connectivity
    return same ? before : { state, connectivity: this.#connectivity }
  }

  /** A failure is over with the next connection, an absence with `close()`: neither is told. */
  #state(): void {
    const { name, reason } = this.registry.client.state
    const { name: told } = this.#connectivity ?? {}
    if ((name === 'connected' && told === 'failed') || reason?.code === 'closed') this.#connectivity = undefined
    this.mark()
  }

  #set(connectivity: Connectivity): void {
    this.#restored()
    this.#connectivity = connectivity
    if (connectivity.name === 'restored')
      this.#restored = later(RESTORED_MS, () => {
        this.#connectivity = undefined
        this.mark()
      })
    this.mark()
  }
}

export function connectionOf(registry: Registry): Store<Connection> {
  return registry.use(KEY, () => new ConnectionStore(registry))
}

export function useConnection<T = Connection>(selecting?: Selecting<Connection, T>): T {
  const registry = useRegistry()
  const subscribe = useCallback((listener: () => void) => connectionOf(registry).listen(listener), [registry])
  const read = useCallback(() => registry.peek<Store<Connection>>(KEY)?.snapshot() ?? BEFORE, [registry])
  return useSource(subscribe, read, before, selecting)
}

const before = () => BEFORE
