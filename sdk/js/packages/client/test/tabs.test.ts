// Several tabs share one connection: the leader has it, the others follow, and another one leads when it is gone.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type Client, createClient } from '../src/index.js'
import { type LocksLike, type PostLike, sharedStream } from '../src/tabs.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'
import { openWebSocket } from '../src/websocket.js'

/** Locks and broadcast channels of one browser. */
function browser() {
  const holders = new Map<string, Promise<unknown>>()
  const locks: LocksLike = {
    async request(name, { ifAvailable, signal }, run) {
      while (holders.has(name)) {
        if (ifAvailable) return run(null)
        await holders.get(name)
        if ((signal as AbortSignal | undefined)?.aborted) throw new Error('aborted')
      }
      const held = Promise.resolve(run({}))
      holders.set(
        name,
        held.then(() => void holders.delete(name)),
      )
      await holders.get(name)
      return undefined
    },
  }
  const posts = new Set<PostLike>()
  const open = (): PostLike => {
    const post: PostLike = {
      onmessage: null,
      postMessage: message => {
        const data: unknown = structuredClone(message)
        for (const other of posts)
          if (other !== post) queueMicrotask(() => posts.has(other) && other.onmessage?.({ data } as never))
      },
      close: () => void posts.delete(post),
    }
    posts.add(post)
    return post
  }
  return { locks, open, posts }
}

describe('tabs that share a stream', () => {
  let server: FakeServer
  let shared: ReturnType<typeof browser>
  const clients: Client[] = []

  beforeEach(() => {
    vi.useFakeTimers()
    server = createFakeServer()
    shared = browser()
  })

  afterEach(() => {
    for (const client of clients.splice(0)) client.close()
    server.close()
    vi.useRealTimers()
  })

  /** The stream is played by a WebSocket: what it is made of does not matter to the tabs. */
  const tab = (user = 'ada') => {
    const { locks, open } = shared
    const share = sharedStream({ user, locks, open })
    const client = createClient({
      url: server.url,
      env: server.env,
      transports: ['sse'],
      share: {
        open: (transport, url, events, own) =>
          share.open(transport, url, events, own, () =>
            openWebSocket({ ...server.env } as never, 'ws://fanfare.test/v1/ws', events),
          ),
      },
    })
    clients.push(client)
    return client
  }
  const until = (what: () => void) => vi.waitFor(what, { timeout: 60_000, interval: 20 })
  const connections = () => server.clients.filter(client => client.connected).length
  const texts = (client: Client, options = {}) => {
    const seen: unknown[] = []
    client.channel('chat:a').subscribe({
      ...options,
      message: ({ data }) => seen.push(data),
      gap: () => seen.push('gap'),
    })
    return seen
  }

  test('eight tabs have one connection, and each gets each message once', async () => {
    const tabs = Array.from({ length: 8 }, () => tab())
    const seen = tabs.map(client => texts(client))
    await until(() => tabs.forEach(client => expect(client.state.name).toBe('connected')))
    await until(() => tabs.forEach(client => expect(client.channel('chat:a').state).toBe('live')))
    expect(connections()).toBe(1)
    for (let n = 0; n < 5; n++) server.publish('chat:a', n)
    await until(() => seen.forEach(list => expect(list).toEqual([0, 1, 2, 3, 4])))
  })

  test('a follower with `since` hears of what the history has lost', async () => {
    const leader = tab()
    texts(leader)
    await until(() => expect(leader.channel('chat:a').state).toBe('live'))
    const since = server.publish('chat:a', 1)
    for (const n of [2, 3, 4]) server.publish('chat:a', n)
    server.forget('chat:a', 1)
    const follower = tab()
    const seen = texts(follower, { since })
    await until(() => expect(follower.channel('chat:a').state).toBe('live'))
    server.publish('chat:a', 5)
    await until(() => expect(seen).toEqual(['gap', 5]))
  })

  test('a follower publishes, enters, signals, reads and calls like any client', async () => {
    const [leader, follower] = [tab(), tab()]
    const signals: unknown[] = []
    leader.channel('chat:a').subscribe({ signal: ({ event }) => signals.push(event) })
    await until(() => expect(leader.channel('chat:a').state).toBe('live'))
    const seen = texts(follower)
    await until(() => expect(follower.channel('chat:a').state).toBe('live'))
    const published = follower.channel('chat:a').publish('mine', { event: 'message' })
    await until(() => expect(seen).toEqual(['mine']))
    await expect(published).resolves.toMatchObject({ duplicate: false })
    const entry = follower.channel('chat:a').enter({ name: 'F' })
    await entry.ready
    expect(server.channel('chat:a').members).toMatchObject([{ data: { name: 'F' } }])
    await expect(follower.channel('chat:a').members()).resolves.toMatchObject({ count: 1 })
    await expect(follower.channel('chat:a').history()).resolves.toMatchObject({
      messages: [{ data: 'mine' }],
      reset: false,
    })
    server.rpc('add', ([a, b]: [number, number]) => a + b)
    await expect(follower.rpc('add', [1, 2])).resolves.toBe(3)
    await expect(follower.rpc('none')).rejects.toMatchObject({ code: 'not_found' })
    follower.close()
    await vi.advanceTimersByTimeAsync(2_000)
    expect(server.channel('chat:a').members, 'the entry goes with its tab').toEqual([])
  })

  test('a follower that comes later gets the recent ones, and from a place everything after it', async () => {
    const leader = tab()
    const first = texts(leader)
    await until(() => expect(leader.channel('chat:a').state).toBe('live'))
    for (let n = 0; n < 5; n++) server.publish('chat:a', n)
    await until(() => expect(first).toHaveLength(5))
    const recent = texts(tab(), { recent: 2 })
    await until(() => expect(recent).toEqual([3, 4]))
    const { epoch } = server.channel('chat:a').position
    const after = texts(tab(), { since: { epoch, offset: 1 } })
    await until(() => expect(after).toEqual([1, 2, 3, 4]))
    const lost = texts(tab(), { since: { epoch: 'another', offset: 1 } })
    await until(() => expect(lost).toEqual(['gap']))
    expect(connections()).toBe(1)
  })

  test('when the leader ends, another tab leads, and nobody misses anything', async () => {
    const [leader, ...others] = [tab(), tab(), tab()]
    const seen = others.map(client => texts(client))
    texts(leader as Client)
    await until(() => others.forEach(client => expect(client.channel('chat:a').state).toBe('live')))
    server.publish('chat:a', 1)
    await until(() => seen.forEach(list => expect(list).toEqual([1])))
    leader?.close()
    server.publish('chat:a', 2)
    await until(() => seen.forEach(list => expect(list).toEqual([1, 2])))
    server.publish('chat:a', 3)
    await until(() => seen.forEach(list => expect(list).toEqual([1, 2, 3])))
    await until(() => expect(connections()).toBe(1))
  })

  test('tabs of another user have a session of their own', async () => {
    const [ada, bob] = [tab('ada'), tab('bob')]
    ada.connect()
    bob.connect()
    await until(() => expect(connections()).toBe(2))
  })

  test('a leader that is cut off serves on when it is back', async () => {
    const [leader, follower] = [tab(), tab()]
    texts(leader)
    const seen = texts(follower)
    await until(() => expect(follower.channel('chat:a').state).toBe('live'))
    server.drop()
    server.publish('chat:a', 1)
    await until(() => expect(seen).toEqual([1]))
    expect(connections()).toBe(1)
  })
})
