/**
 * From a store to a component: `useSyncExternalStore`, with a selector.
 *
 * Server and first client render have the same snapshot, `server`, so hydration finds what it expects. A selector may
 * be inline and may make new objects: where `equal` holds, the component keeps the former value and does not render.
 */

import { useCallback, useInsertionEffect, useMemo, useRef, useSyncExternalStore } from 'react'
import { useRegistry } from './context.js'
import type { Registry, Store } from './store.js'
import type { Selecting } from './types.js'

/** A ref that always holds the value of the last render that counted. */
export function useLatestRef<T>(value: T): { readonly current: T } {
  const ref = useRef(value)
  useInsertionEffect(() => {
    ref.current = value
  })
  return ref
}

/**
 * The part of a source that the component wants.
 *
 * `read` and `server` give the same object until something changes, and are the same functions until the source does.
 */
export function useSource<S, T>(
  subscribe: (listener: () => void) => () => void,
  read: () => S,
  server: () => S,
  { select, equal = Object.is }: Selecting<S, T> = {},
): T {
  const rendered = useRef<{ value: T } | undefined>(undefined)
  const [get, getServer] = useMemo(() => {
    const selected = (source: () => S) => {
      let last: { from: S; value: T } | undefined
      return () => {
        const from = source()
        if (last && Object.is(last.from, from)) return last.value
        const value = select ? select(from) : (from as unknown as T)
        const before = last ?? rendered.current
        last = { from, value: before && equal(before.value, value) ? before.value : value }
        return last.value
      }
    }
    return [selected(read), selected(server)]
  }, [read, server, select, equal])
  const value = useSyncExternalStore(subscribe, get, getServer)
  useInsertionEffect(() => {
    rendered.current = { value }
  }, [value])
  return value
}

/**
 * What the store with this key holds. `null`: nothing is asked for. `empty` is shown until the store is there, and by
 * the server; it counts as it is when the key changes.
 */
export function useStore<S, T = S>(
  key: string | null,
  make: (registry: Registry) => Store<S>,
  empty: S,
  selecting?: Selecting<S, T>,
): T {
  const registry = useRegistry()
  const latest = useLatestRef(make)
  // `empty` may be a new object with each render: the first one for this key counts.
  const shown = useMemo(() => empty, [registry, key])
  const subscribe = useCallback(
    (listener: () => void) => (key === null ? () => {} : registry.use(key, latest.current).listen(listener)),
    [registry, key, latest],
  )
  const read = useCallback(() => {
    const store = key === null ? undefined : registry.peek<Store<S>>(key)
    return store ? store.snapshot() : shown
  }, [registry, key, shown])
  const server = useCallback(() => shown, [shown])
  return useSource(subscribe, read, server, selecting)
}
