/**
 * `@fanfare/client/outbox`: publications that outlive the page, in IndexedDB.
 *
 * Each page owns what it has put there, and holds a Web Lock for as long as it lives. `load` gives the entries whose
 * owner is gone, and takes them over: so two tabs do not send the same one, and nothing waits for a page that will not
 * come back. Where there are no locks, all entries are taken: their keys keep a second try from being stored.
 */

import { FanfareError } from './errors.js'
import type { OutboxStorage, StoredPublish } from './types.js'

interface Request<T> {
  readonly result: T
  readonly error: unknown
  onsuccess: ((event: never) => void) | null
  onerror: ((event: never) => void) | null
}

interface Store {
  put(value: Row): Request<unknown>
  delete(key: string): Request<unknown>
  getAll(): Request<Row[]>
}

interface Database {
  createObjectStore(name: string, options: { keyPath: string }): unknown
  transaction(name: string, mode: 'readonly' | 'readwrite'): { objectStore(name: string): Store }
}

/** The part of `indexedDB` that is used. */
export interface IndexedDbLike {
  open(name: string, version: number): Request<Database> & { onupgradeneeded: ((event: never) => void) | null }
}

/** The part of `navigator.locks` that is used. */
interface Locks {
  request(name: string, options: { ifAvailable?: boolean }, run: (lock: unknown) => unknown): Promise<unknown>
}

export interface IndexedDbOutboxOptions {
  /** Of the database. Give each user one of their own: what one has left is not for the next. Default `fanfare`. */
  name?: string
  /** Default: that of the global object. */
  indexedDB?: IndexedDbLike
  locks?: Locks
}

interface Row {
  key: string
  owner: string
  entry: StoredPublish
}

const STORE = 'publications'

/** For `createClient({ outbox: { storage: indexedDbOutbox({ name: userId }), ttl: 86_400_000 } })`. */
export function indexedDbOutbox(options: IndexedDbOutboxOptions = {}): OutboxStorage {
  const g = globalThis as unknown as { indexedDB?: IndexedDbLike; navigator?: { locks?: Locks } }
  const { name = 'fanfare', indexedDB = g.indexedDB, locks = g.navigator?.locks } = options
  const owner = Math.random().toString(36).slice(2)
  const lockOf = (page: string) => `fanfare outbox ${name} ${page}`
  let opening: Promise<Database> | undefined
  const open = () => {
    opening ??= new Promise<Database>((resolve, reject) => {
      if (!indexedDB) throw new FanfareError('handler', 'there is no IndexedDB here')
      const request = indexedDB.open(name, 1)
      request.onupgradeneeded = () => void request.result.createObjectStore(STORE, { keyPath: 'key' })
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
    opening.catch(() => (opening = undefined)) // the next one tries again
    return opening
  }
  const run = async <T>(mode: 'readonly' | 'readwrite', work: (store: Store) => Request<T>): Promise<T> => {
    const request = work((await open()).transaction(STORE, mode).objectStore(STORE))
    return new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
  }
  // For as long as the page lives.
  locks?.request(lockOf(owner), {}, () => new Promise(() => {})).catch(() => {})
  const isGone = (page: string): Promise<unknown> =>
    page === owner || !locks
      ? Promise.resolve(true)
      : locks.request(lockOf(page), { ifAvailable: true }, lock => lock !== null)
  return {
    async load() {
      const rows = await run('readonly', store => store.getAll())
      const mine: StoredPublish[] = []
      for (const { key, owner: page, entry } of rows) {
        if (!(await isGone(page))) continue
        await run('readwrite', store => store.put({ key, owner, entry }))
        mine.push(entry)
      }
      return mine.sort((a, b) => a.since - b.since)
    },
    async put(entry) {
      await run('readwrite', store => store.put({ key: entry.key, owner, entry }))
    },
    async remove(key) {
      await run('readwrite', store => store.delete(key))
    },
  }
}
