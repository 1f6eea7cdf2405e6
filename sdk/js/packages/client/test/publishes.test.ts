// The outbox and its storage, which is slow, fails, and outlives the page.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Client, OutboxStorage, StoredPublish } from '../src/index.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'

let server: FakeServer
const clients: Client[] = []

beforeEach(() => {
  vi.useFakeTimers()
  server = createFakeServer()
})

afterEach(() => {
  for (const client of clients.splice(0)) client.close()
  server.close()
  expect(vi.getTimerCount(), 'timers that are left').toBe(0)
  vi.useRealTimers()
})

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** Each operation takes as long as its turn says. */
function storageOf(delays: number[] = []) {
  const all = new Map<string, StoredPublish>()
  const calls: string[] = []
  const work = <T>(name: string, run: () => T) =>
    new Promise<T>(resolve => {
      const act = () => {
        calls.push(name)
        resolve(run())
      }
      const ms = delays.shift() ?? 0
      if (ms) setTimeout(act, ms)
      else act()
    })
  const storage: OutboxStorage = {
    load: () => work('load', () => [...all.values()]),
    put: entry => work(`put ${entry.sent === undefined ? 'unsent' : 'sent'}`, () => void all.set(entry.key, entry)),
    remove: key => work('remove', () => void all.delete(key)),
  }
  return { all, calls, storage }
}

function newClient(storage: OutboxStorage, token?: string) {
  const client = server.client({
    transports: ['websocket'],
    outbox: { storage },
    ...(token !== undefined && { token }),
  })
  clients.push(client)
  return client
}

const entry = (key: string, more: Partial<StoredPublish> = {}): StoredPublish => ({
  key,
  channel: 'c',
  data: key,
  since: Date.now(),
  expires: Date.now() + 90_000,
  ...more,
})
const stored = () => server.channel('c').publications.map(({ data }) => data)

test('operations of the storage keep their order, however long each takes', async () => {
  const { all, calls, storage } = storageOf([0, 300, 0])
  const client = newClient(storage)
  client.connect()
  await later(0)
  await client.channel('c').publish('x')
  await later(1_000)
  expect(calls).toEqual(['load', 'put sent', 'remove'])
  expect([...all.keys()]).toEqual([])
})

test('a publication that waits is put before it is sent', async () => {
  const { calls, storage } = storageOf()
  server.offline()
  const published = newClient(storage).channel('c').publish('x')
  await later(0)
  expect(calls).toEqual(['load', 'put unsent'])
  server.online()
  await later(30_000)
  await expect(published).resolves.toMatchObject({ duplicate: false })
  expect(calls).toEqual(['load', 'put unsent', 'put sent', 'remove'])
})

test('one that another session has sent is not sent again, however late it is loaded', async () => {
  const { all, storage } = storageOf([500])
  all.set('a', entry('a', { sent: Date.now(), scope: 'client c000000000000009' }))
  all.set('b', entry('b'))
  const client = newClient(storage)
  const errors: string[] = []
  client.on('error', ({ code }) => errors.push(code))
  client.connect()
  await later(1_000)
  expect(client.state.name).toBe('connected')
  expect(stored()).toEqual(['b'])
  expect(errors).toEqual(['unknown'])
  expect([...all.keys()]).toEqual([])
})

test('one that the same user has sent is sent again, with its key', async () => {
  const { all, storage } = storageOf()
  all.set('a', entry('a', { sent: Date.now(), scope: 'user ada' }))
  newClient(storage, 'ada').connect()
  await later(1_000)
  expect(stored()).toEqual(['a'])
  expect([...all.keys()]).toEqual([])
})

test('what is loaded after the client was closed waits for its next life', async () => {
  const { all, storage } = storageOf([500])
  all.set('a', entry('a'))
  const client = newClient(storage)
  client.connect()
  await later(0)
  client.close()
  await later(1_000)
  expect(stored()).toEqual([])
  expect([...all.keys()]).toEqual(['a'])
})

const OPEN = ['timeout', 'unknown', 'internal']
test.each(OPEN)('after `%s` it may be stored: another session does not send it', async code => {
  const { storage } = storageOf()
  const client = newClient(storage)
  client.connect()
  await later(0)
  server.refuse('publish', { code, retryAfter: 1_000 }, 1)
  const published = client.channel('c').publish('x')
  published.catch(() => {})
  await later(0)
  server.offline()
  await later(20_000) // the session is over
  server.online()
  await later(60_000)
  expect(client.state).toMatchObject({ name: 'connected', resumed: false })
  await expect(published).rejects.toMatchObject({ code: 'unknown' })
  expect(stored()).toEqual([])
})

test('one that is given up while it waits to be repeated leaves no timer', async () => {
  const { storage } = storageOf()
  const client = newClient(storage)
  server.refuse('publish', { code: 'rate_limited', retryAfter: 60_000 }, 1)
  const published = client.channel('c').publish('x', { ttl: 1_000 })
  published.catch(() => {})
  await later(1_000)
  await expect(published).rejects.toMatchObject({ code: 'timed_out' })
})

test('after a refusal that did nothing another session sends it', async () => {
  const { storage } = storageOf()
  const client = newClient(storage)
  client.connect()
  await later(0)
  server.refuse('publish', { code: 'rate_limited', retryAfter: 1_000 }, 1)
  const published = client.channel('c').publish('x')
  await later(0)
  server.offline()
  await later(20_000)
  server.online()
  await later(60_000)
  await expect(published).resolves.toMatchObject({ duplicate: false })
})

test('a storage that throws costs nothing', async () => {
  const broken = () => {
    throw new Error('no quota')
  }
  const client = newClient({ load: broken, put: broken, remove: broken })
  const errors: string[] = []
  client.on('error', ({ code }) => errors.push(code))
  await expect(client.channel('c').publish('x')).resolves.toMatchObject({ duplicate: false })
  await later(0)
  expect(errors).toEqual(['handler', 'handler', 'handler', 'handler']) // load, put, put as sent, remove
})
