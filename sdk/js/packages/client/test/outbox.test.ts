// The outbox that outlives a page, on an IndexedDB in memory.

import 'fake-indexeddb/auto'
import { afterEach, describe, expect, test } from 'vitest'
import { type Client, FanfareError } from '../src/index.js'
import { indexedDbOutbox, type IndexedDbLike } from '../src/outbox.js'
import { createFakeServer } from '../src/testing.js'

/** Locks of one browser; `close(page)` is what happens when a page goes. */
function browser() {
  const held = new Map<string, string>()
  const locks = (page: string) => ({
    async request(name: string, { ifAvailable }: { ifAvailable?: boolean }, run: (lock: unknown) => unknown) {
      if (held.has(name)) return ifAvailable ? run(null) : undefined
      if (ifAvailable) return run({})
      held.set(name, page)
      return run({})
    },
  })
  const close = (page: string) => held.forEach((owner, name) => owner === page && held.delete(name))
  return { locks, close }
}

const entry = (key: string, since: number) => ({ key, channel: 'chat:a', data: key, since, expires: since + 1e9 })
let names = 0

describe('indexedDbOutbox', () => {
  const clients: Client[] = []
  afterEach(() => clients.splice(0).forEach(client => client.close()))

  test('a page takes over what the page before it has left, in the order of asking', async () => {
    const { locks, close } = browser()
    const name = `db${names++}`
    const first = indexedDbOutbox({ name, locks: locks('1') })
    await first.put(entry('b', 2))
    await first.put(entry('a', 1))
    await first.put(entry('c', 3))
    await first.remove('c')
    const second = indexedDbOutbox({ name, locks: locks('2') })
    expect(await second.load(), 'the first page lives').toEqual([])
    close('1')
    expect(await second.load()).toMatchObject([{ key: 'a' }, { key: 'b' }])
    const third = indexedDbOutbox({ name, locks: locks('3') })
    expect(await third.load(), 'they are the second page’s now').toEqual([])
  })

  test('without locks all entries are taken', async () => {
    const name = `db${names++}`
    await indexedDbOutbox({ name }).put(entry('a', 1))
    expect(await indexedDbOutbox({ name }).load()).toMatchObject([{ key: 'a' }])
  })

  test('what was asked for offline is sent by the next page, once', async () => {
    const { locks, close } = browser()
    const name = `db${names++}`
    const server = createFakeServer()
    const page = (n: string) => {
      const client = server.client({ outbox: { storage: indexedDbOutbox({ name, locks: locks(n) }), ttl: 1e8 } })
      clients.push(client)
      return client
    }
    server.offline()
    const first = page('1')
    const storage = indexedDbOutbox({ name, locks: locks('look') })
    void first.channel('chat:a').publish('kept')
    await expect.poll(async () => (close('1'), await storage.load())).toHaveLength(1)
    close('look')
    server.online()
    const second = page('2')
    second.connect()
    await expect.poll(() => server.channel('chat:a').publications).toMatchObject([{ data: 'kept' }])
    await expect.poll(() => second.pending()).toEqual([])
  })

  test('a storage that fails costs nothing but the durability', async () => {
    const broken: IndexedDbLike = {
      open() {
        throw new Error('blocked')
      },
    }
    const server = createFakeServer()
    const client = server.client({ outbox: { storage: indexedDbOutbox({ indexedDB: broken }) } })
    clients.push(client)
    const errors: FanfareError[] = []
    client.on('error', error => errors.push(error))
    await expect(client.channel('chat:a').publish(1)).resolves.toMatchObject({ duplicate: false })
    expect(errors.map(error => error.code)).toContain('handler')
    server.close()
  })
})
