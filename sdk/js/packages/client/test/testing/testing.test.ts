// What users' tests do with the fake server.

import { afterEach, describe, expect, test, vi } from 'vitest'
import { createClient, FanfareError } from '../../src/index.js'
import { createFakeServer, type FakeServer, type FakeServerOptions } from '../../src/testing.js'

let server: FakeServer
const clients: { close(): void }[] = []
const start = (options: FakeServerOptions = {}) => (server = createFakeServer(options))
const join = (options: Parameters<FakeServer['client']>[0] = {}) => {
  const client = server.client(options)
  clients.push(client)
  return client
}

afterEach(() => {
  for (const client of clients.splice(0)) client.close()
  server.close()
  vi.useRealTimers()
})

/** Follows a channel, and notes everything. */
function follow(client: ReturnType<typeof join>, name = 'chat:a', options = {}) {
  const seen: unknown[] = []
  const subscription = client.channel(name).subscribe({
    message: ({ data }) => seen.push(data),
    gap: ({ reason }) => seen.push(reason),
    signal: ({ event }) => seen.push(event),
    ended: ({ code }) => seen.push(code),
    ...options,
  })
  return { seen, ...subscription }
}

describe('createFakeServer', () => {
  test('hands publications and signals to its clients', async () => {
    start()
    const one = follow(join())
    const other = join()
    await one.ready
    expect(server.publish('chat:a', { n: 1 })).toEqual({ epoch: 'epoch1', offset: 1 })
    await expect(other.channel('chat:a').publish({ n: 2 })).resolves.toMatchObject({ position: { offset: 2 } })
    server.signal('chat:a', 'typing')
    await server.settled()
    expect(one.seen).toEqual([{ n: 1 }, { n: 2 }, 'typing'])
    expect(server.channel('chat:a')).toMatchObject({
      position: { offset: 2 },
      publications: [{ data: { n: 1 } }, { data: { n: 2 }, from: { client: 'c000000000000002' } }],
      subscribers: ['c000000000000001'],
    })
    expect(server.channels).toEqual(['chat:a'])
    expect(server.received.map(({ command }) => command.type)).toEqual(['connect', 'connect', 'publish'])
  })

  test('says where the history has lost messages after a place', async () => {
    start({ history: 2 })
    const chat = join().channel('chat:a')
    const epoch = server.publish('chat:a', 1).epoch
    for (const n of [2, 3, 4]) server.publish('chat:a', n)
    const from = async (offset: number) => {
      const { messages, gap, more, reset } = await chat.history({ since: { epoch, offset }, limit: 1 })
      return { data: messages.map(message => message.data), gap, more, reset }
    }
    expect(await from(1)).toEqual({ data: [3], gap: true, more: true, reset: false })
    expect(await from(2)).toEqual({ data: [3], gap: false, more: true, reset: false })
    expect(await from(4)).toEqual({ data: [], gap: false, more: false, reset: false })
    expect(await from(5)).toEqual({ data: [], gap: false, more: false, reset: true })
    await expect(chat.history({ limit: 1 })).resolves.toMatchObject({ more: true, gap: false })
  })

  test('carries bytes, event names and keys', async () => {
    start()
    const client = join()
    const messages: unknown[] = []
    await client.channel('files').subscribe(message => messages.push(message)).ready
    server.publish('files', new Uint8Array([1, 2, 255]), { event: 'photo', key: 'k' })
    await server.settled()
    expect(messages).toMatchObject([{ event: 'photo', key: 'k', data: new Uint8Array([1, 2, 255]) }])
  })

  test('recovers what was missed, in the same session', async () => {
    vi.useFakeTimers()
    start()
    const client = join()
    const { seen, ready } = follow(client)
    await ready
    server.drop()
    server.publish('chat:a', 'missed')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(client.state).toMatchObject({ name: 'connected', resumed: true })
    expect(seen).toEqual(['missed'])
  })

  test('tells a gap where it has forgotten too much, or was restarted', async () => {
    vi.useFakeTimers()
    start()
    const client = join()
    const { seen, ready } = follow(client)
    await ready
    server.drop()
    server.publish('chat:a', 'lost')
    server.forget('chat:a')
    await vi.advanceTimersByTimeAsync(2_000)
    server.restart()
    await vi.advanceTimersByTimeAsync(2_000)
    expect(client.state).toMatchObject({ name: 'connected', resumed: false })
    expect(server.publish('chat:a', 'new').epoch).not.toBe('epoch1')
    server.gap('chat:a')
    await server.settled()
    expect(seen).toEqual(['unrecovered', 'unrecovered', 'new'])
    server.publish('chat:a', 'never delivered', {})
    server.gap('chat:a', { reset: true })
    await server.settled()
    expect(seen.slice(3)).toEqual(['never delivered', 'gap'])
  })

  test('plays presence', async () => {
    start()
    const client = join({ token: 'ada' })
    const changes: unknown[] = []
    await client.channel('room').subscribe({ presence: ({ count }, { type }) => changes.push([type, count]) }).ready
    const entry = join({ token: 'bob' }).channel('room').enter({ mood: 'good' })
    await entry.ready
    expect(server.channel('room').members).toEqual([
      { client: 'c000000000000002', user: 'bob', data: { mood: 'good' } },
    ])
    entry.leave()
    await server.settled()
    expect(changes).toEqual([
      ['sync', 0],
      ['join', 1],
      ['leave', 0],
    ])
  })

  test('tokens expire, and are renewed', async () => {
    vi.useFakeTimers()
    let n = 0
    start({ identify: token => ({ user: 'ada', info: { token }, expires: 60_000 }) })
    const client = join({ token: () => `token ${++n}` })
    client.connect()
    await vi.advanceTimersByTimeAsync(50_000)
    expect(server.received.map(({ command }) => [command.type, command.token])).toContainEqual(['refresh', 'token 2'])
    await vi.advanceTimersByTimeAsync(50_000)
    expect(client.state).toMatchObject({ name: 'connected', user: 'ada' })
  })

  test('a token that is not one of its own ends in `needs-auth`', async () => {
    start({ identify: token => (token === 'good' ? { user: 'ada' } : { code: 'unauthorized' }) })
    const client = join({ token: 'bad' })
    client.connect()
    await server.settled()
    expect(client.state).toMatchObject({ name: 'needs-auth', reason: { code: 'unauthorized' } })
    client.setToken('good')
    await server.settled()
    expect(client.state).toMatchObject({ name: 'connected', user: 'ada' })
  })

  test('refuses as often as it is told to', async () => {
    start()
    server.refuse('publish', { code: 'denied', message: 'read only' }, 1)
    const channel = join().channel('chat:a')
    await expect(channel.publish(1)).rejects.toMatchObject({ code: 'denied', retryable: false })
    await expect(channel.publish(2)).resolves.toMatchObject({ duplicate: false })
    const stop = server.refuse('subscribe', ({ channel }) => (channel === 'secret' ? { code: 'denied' } : undefined))
    await expect(follow(join(), 'secret').ready).rejects.toBeInstanceOf(FanfareError)
    stop()
    await expect(follow(join(), 'secret').ready).resolves.toMatchObject({ count: 0 })
  })

  test('stores a publication once for each key', async () => {
    vi.useFakeTimers()
    start({ latency: 10 })
    const client = join({ token: 'ada' })
    const published = client.channel('chat:a').publish('once')
    await vi.advanceTimersByTimeAsync(45) // stored; the answer is on its way
    expect(server.channel('chat:a').publications).toHaveLength(1)
    server.drop()
    await vi.advanceTimersByTimeAsync(5_000)
    await expect(published).resolves.toMatchObject({ duplicate: true, position: { offset: 1 } })
    expect(server.channel('chat:a').publications).toHaveLength(1)
  })

  test('answers calls', async () => {
    start()
    server.rpc('add', ([a, b]: [number, number]) => a + b)
    server.rpc('late', async () => 'later')
    server.rpc('broken', () => {
      throw new FanfareError('invalid_data', 'no')
    })
    const client = join()
    await expect(client.rpc('add', [1, 2])).resolves.toBe(3)
    await expect(client.rpc('late')).resolves.toBe('later')
    await expect(client.rpc('broken')).rejects.toMatchObject({ code: 'invalid_data' })
    await expect(client.rpc('none')).rejects.toMatchObject({ code: 'not_found' })
  })

  test('subscribes and unsubscribes clients by itself', async () => {
    start()
    const client = join()
    const granted: string[] = []
    client.on('subscribed', ({ channel }) => granted.push(channel))
    const { seen, ready } = follow(client)
    await ready
    const [me] = server.clients
    expect(me).toEqual({ client: 'c000000000000001', connected: true, channels: ['chat:a'] })
    server.subscribe(me!.client, 'news')
    server.unsubscribe(me!.client, 'chat:a', { code: 'denied', message: 'banned' })
    await server.settled()
    expect(granted).toEqual(['news'])
    expect(seen).toEqual(['denied'])
  })

  test('ends connections as the server does', async () => {
    vi.useFakeTimers()
    start()
    const client = join()
    client.connect()
    await server.settled()
    server.disconnect('c000000000000001', 4000, { delay: 1_000 })
    await server.settled()
    expect(client.state).toMatchObject({ name: 'disconnected', reason: { code: 'shutdown' } })
    await vi.advanceTimersByTimeAsync(999)
    expect(client.state.name).toBe('disconnected')
    await vi.advanceTimersByTimeAsync(2)
    expect(client.state).toMatchObject({ name: 'connected', resumed: true })
    server.disconnect('c000000000000001', 4503)
    await server.settled()
    expect(client.state).toMatchObject({ name: 'error', reason: { code: 'kicked' } })
    expect(server.clients).toEqual([])
  })

  test('may be away, or silent', async () => {
    vi.useFakeTimers()
    start({ ping: 1_000 })
    server.offline()
    const client = join()
    client.connect()
    await vi.advanceTimersByTimeAsync(5_000)
    expect(client.state.name).not.toBe('connected')
    server.online()
    await vi.advanceTimersByTimeAsync(30_000)
    expect(client.state.name).toBe('connected')
    server.freeze()
    await vi.advanceTimersByTimeAsync(1_500)
    expect(client.state.name).toBe('connected')
    await vi.advanceTimersByTimeAsync(3_000)
    expect(client.state).toMatchObject({ name: 'connected', resumed: true })
  })

  test('gathers batches', async () => {
    vi.useFakeTimers()
    start()
    const { seen, ready } = follow(join(), 'ticks', { batch: { size: 10, delay: 100 } })
    await ready
    server.publish('ticks', 1)
    server.publish('ticks', 2)
    await server.settled()
    expect(seen).toEqual([])
    await vi.advanceTimersByTimeAsync(100)
    expect(seen).toEqual([1, 2])
  })

  test('takes `createClient` too, and leaves no timer behind', async () => {
    vi.useFakeTimers()
    start()
    const client = createClient({ url: server.url, env: server.env, token: 'ada' })
    const { ready } = follow(client)
    await ready
    client.close()
    await server.settled()
    expect(server.clients).toEqual([])
    server.close()
    expect(vi.getTimerCount()).toBe(0)
  })
})
