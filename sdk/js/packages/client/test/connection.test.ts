// The connection's state machine, against the fake server and under a fake clock.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Client, ClientOptions, Connectivity, ConnectionState } from '../src/index.js'
import { Order } from '../src/order.js'
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

function newClient(options: ClientOptions = {}) {
  const client = server.client({ transports: ['websocket'], ...options })
  const states: ConnectionState[] = []
  const told: Connectivity[] = []
  client.on('state', state => states.push(state))
  client.on('connectivity', event => told.push(event))
  clients.push(client)
  return { client, states, told, names: () => states.map(state => state.name) }
}

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)

describe('the state', () => {
  test('goes from connecting to connected, and back after a cut', async () => {
    const { client, names } = newClient()
    client.connect()
    await later(0)
    expect(names()).toEqual(['connecting', 'connected'])
    server.drop()
    await later(1_000)
    expect(names()).toEqual(['connecting', 'connected', 'disconnected', 'connecting', 'connected'])
    expect(client.state).toMatchObject({ resumed: true })
  })

  test('a handler may close the client at any state', async () => {
    for (const name of ['connecting', 'connected', 'disconnected'] as const) {
      const { client, names } = newClient()
      client.on('state', state => state.name === name && state.reason?.code !== 'closed' && client.close())
      client.connect()
      await later(0)
      server.drop()
      await later(60_000)
      expect(names().at(-1), name).toBe('disconnected')
      expect(client.state.reason?.code, name).toBe('closed')
      expect(server.clients.filter(session => session.connected)).toEqual([])
    }
  })

  test.each([
    [4503, 'error', 'kicked'],
    [4505, 'error', 'left'],
    [4502, 'needs-auth', 'unauthorized'],
    [4007, 'needs-auth', 'expired'],
    [4000, 'disconnected', 'shutdown'],
  ])('close code %i is %s', async (code, name, reason) => {
    const { client, told } = newClient()
    client.connect()
    await later(0)
    server.disconnect((client.state as { client: string }).client, code, { delay: 3_000 })
    await later(0)
    expect(client.state).toMatchObject({ name, reason: { code: reason } })
    await later(2_000)
    expect(client.state.name).toBe(name)
    if (name === 'disconnected') {
      await later(1_500)
      expect(client.state.name, 'it comes back after the delay that the server chose').toBe('connected')
    } else {
      expect(told).toMatchObject([{ name: 'failed' }])
      client.setToken('another')
      client.connect()
      await later(0)
      expect(client.state.name).toBe('connected')
    }
  })

  test('a loop is found, stopped and explained', async () => {
    const { client } = newClient()
    client.on('state', state => {
      if (state.name === 'connected') server.disconnect(state.client, 4008, { delay: 100 })
    })
    client.connect()
    await later(60_000)
    expect(client.state).toMatchObject({ name: 'error', reason: { code: 'reconnect_loop' } })
    expect(client.state.reason?.message).toContain('10 connections within 30000 ms ended at once')
  })
})

describe('connectivity', () => {
  test('a short cut is not told; a long one once, although attempts go on, and its end with its length', async () => {
    const { client, told } = newClient()
    client.connect()
    await later(0)
    server.drop()
    await later(3_000)
    expect(told).toEqual([])
    server.offline()
    await later(4_900)
    expect(told).toEqual([])
    await later(200)
    expect(told).toMatchObject([{ name: 'lost' }])
    await later(20_000)
    expect(told).toHaveLength(1)
    server.online()
    await later(30_000)
    expect(told).toMatchObject([{ name: 'lost' }, { name: 'restored' }])
    expect((told[1] as { after: number }).after).toBeGreaterThanOrEqual(25_000)
  })
})

describe('sleep', () => {
  test('overdue timers do not end a good connection', async () => {
    const { client, names } = newClient()
    client.connect()
    await later(0)
    vi.setSystemTime(Date.now() + 3_600_000) // all timers are late by an hour
    await later(120_000)
    expect(names()).toEqual(['connecting', 'connected'])
  })

  test('a dead one is found within two heartbeats, or at once by a probe', async () => {
    const { client, names } = newClient()
    client.connect()
    await later(0)
    server.freeze()
    await later(80_000)
    expect(names().filter(name => name === 'connected')).toHaveLength(2)
    server.freeze()
    const good = client.probe()
    await later(2_000)
    expect(await good).toBe(false)
    await later(1_000)
    expect(client.state.name).toBe('connected')
    const again = client.probe()
    await later(0)
    expect(await again).toBe(true)
  })
})

describe('the token function', () => {
  /** Tokens are good for `expires` ms; those in `refused` are not. */
  const withTokens = (expires: number, refused: string[] = []) => {
    server.close()
    const identify = (token?: string) =>
      token === undefined || refused.includes(token)
        ? { code: 'unauthorized', message: 'no', retryable: false }
        : { user: 'ada', expires }
    server = createFakeServer({ identify })
  }

  test('is asked once at a time, and before each end of a token; the connection lives on', async () => {
    withTokens(100_000)
    let calls = 0
    const { client, names } = newClient({ token: async () => `token ${++calls}` })
    client.connect()
    await later(0)
    expect(calls).toBe(1)
    await later(400_000)
    expect(calls).toBeGreaterThanOrEqual(4)
    expect(calls).toBeLessThan(8)
    expect(names()).toEqual(['connecting', 'connected'])
  })

  test('one that has expired before the server could be reached is asked for anew', async () => {
    let asked = 0
    const ends = new Map<string, number>()
    server = createFakeServer({
      identify: (token = '') => (ends.get(token)! > Date.now() ? { user: 'ada' } : { code: 'token_expired' }),
    })
    server.offline()
    const { client } = newClient({
      token: () => {
        ends.set(`${++asked}`, Date.now() + 60_000)
        return `${asked}`
      },
    })
    client.connect()
    await later(120_000)
    expect(asked).toBe(1)
    server.online()
    await later(60_000)
    expect(client.state).toMatchObject({ name: 'connected', user: 'ada' })
    expect(asked).toBe(2)
  })

  test('tokens that are refused end in `needs-auth`, and in no loop', async () => {
    withTokens(100_000, ['bad', 'worse'])
    const tokens = ['good', 'bad', 'worse', 'never']
    let calls = 0
    const { client } = newClient({ token: () => tokens[calls++] ?? null })
    client.connect()
    await later(0)
    expect(client.state.name).toBe('connected')
    await later(400_000)
    expect(client.state).toMatchObject({ name: 'needs-auth' })
    expect(calls).toBeLessThanOrEqual(4)
  })

  test('where the old token ends while the new one is on its way, the new one is shown once more', async () => {
    withTokens(10_000)
    let calls = 0
    const { client, names } = newClient({ token: () => `token ${++calls}` })
    client.connect()
    await later(0)
    server.latency = 3_000 // the renewal comes too late
    await later(11_000)
    server.latency = 0
    await later(20_000)
    expect(names()).not.toContain('needs-auth')
    expect(client.state).toMatchObject({ name: 'connected' })
    expect(calls).toBeLessThan(6)
  })

  test('a fixed token that has expired is `needs-auth`, until there is another', async () => {
    withTokens(10_000)
    const { client } = newClient({ token: 'ada' })
    client.connect()
    await later(11_000)
    expect(client.state).toMatchObject({ name: 'needs-auth', reason: { code: 'expired' } })
    const published = client.channel('a:b').publish('kept')
    client.setToken('ada again')
    await later(0)
    await expect(published).resolves.toMatchObject({ duplicate: false })
  })

  test('that has none is `needs-auth`; one that fails is tried again; another source goes on at once', async () => {
    const none = newClient({ token: () => null })
    none.client.connect()
    await later(0)
    expect(none.client.state).toMatchObject({ name: 'needs-auth', reason: { code: 'token_missing' } })

    let fails = 2
    const flaky = newClient({ token: async () => (fails-- > 0 ? Promise.reject(new Error('503')) : 'ada') })
    flaky.client.connect()
    await later(0)
    expect(flaky.client.state).toMatchObject({ name: 'disconnected', reason: { code: 'token_failed' } })
    await later(10_000)
    expect(flaky.client.state.name).toBe('connected')

    const stuck = newClient({ token: () => new Promise(() => {}) })
    stuck.client.connect()
    await later(0)
    stuck.client.setToken('ada')
    await later(0)
    expect(stuck.client.state.name).toBe('connected')
  })
})

describe('the order of transports', () => {
  test('a server that is away leaves the order as it was', () => {
    const order = new Order(['websocket', 'sse', 'poll'])
    expect(order.failed()).toBe('next')
    expect(order.current).toBe('sse')
    order.abandon()
    expect(order.current).toBe('websocket')
  })

  test('each is tried once in a round; the first reason ends it where no retry helps', () => {
    const order = new Order(['websocket', 'sse', 'poll'])
    expect([order.failed('stripped'), order.failed('404')]).toEqual(['next', 'next'])
    expect(order.failed('405')).toEqual({ reason: 'stripped' })
    expect([order.failed('stripped'), order.failed(), order.failed('405')]).toEqual(['next', 'next', 'wait'])
    expect(order.current).toBe('websocket')
  })

  test('patience that repeats makes a trial of the next one, and no more', () => {
    const order = new Order(['websocket', 'sse', 'poll'])
    const tried = Array.from({ length: 7 }, () => (order.patience(), order.current))
    expect(tried).toEqual(['websocket', 'sse', 'websocket', 'websocket', 'sse', 'websocket', 'websocket'])
  })
})
