// Another user, or none: which session the connection has after `setToken`, whatever it was doing.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Client, ClientOptions } from '../src/index.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'

let server: FakeServer
let client: Client

beforeEach(() => {
  vi.useFakeTimers()
  server = createFakeServer()
})

afterEach(async () => {
  client.close()
  await later(2_000) // what is on its way to a slow server
  server.close()
  expect(vi.getTimerCount(), 'timers that are left').toBe(0)
  vi.useRealTimers()
})

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const user = () => (client.state.name === 'connected' ? (client.state.user ?? 'nobody') : client.state.name)

async function connected(options: ClientOptions = {}) {
  client = server.client({ token: 'ada', ...options })
  client.connect()
  await later(0)
  await later(0)
  expect(user()).toBe('ada')
}

test.each([['websocket'], ['sse'], ['poll']] as const)('who signs out is nobody any more: %s', async transport => {
  await connected({ transports: [transport] })
  client.setToken(null)
  await later(100)
  expect(user()).toBe('nobody')
  expect(server.clients.map(session => session.user)).toEqual([undefined])
  server.drop()
  await later(2_000)
  expect(user()).toBe('nobody')
})

test('who signs out offline does not come back by the ticket', async () => {
  await connected()
  server.drop()
  client.setToken(null)
  await later(2_000)
  expect(user()).toBe('nobody')
})

test.each([['bob'], [async () => 'bob']])('the token of another user makes another session', async token => {
  await connected()
  const errors: string[] = []
  client.on('error', error => errors.push(error.code))
  client.setToken(token)
  await later(100)
  expect(user()).toBe('bob')
  expect(errors).toEqual([])
  expect(server.clients.map(session => session.user)).toEqual(['bob'])
})

test.each([['bob'], [async () => 'bob']])('a token that is given while a connection opens counts', async token => {
  server.latency = 100
  for (const ms of [1, 50, 120, 180, 220, 260]) {
    client = server.client({ token: 'ada' })
    client.connect()
    await later(ms)
    client.setToken(token)
    await later(3_000)
    expect(user(), `${ms} ms`).toBe('bob')
    client.close()
  }
})

test('after a token function that failed, a token is tried at once', async () => {
  const token = () => Promise.reject(new Error('500'))
  client = server.client({ token, backoff: { min: 60_000, max: 60_000 } })
  client.connect()
  await later(0)
  expect(user()).toBe('disconnected')
  client.setToken('ada')
  await later(0)
  expect(user()).toBe('ada')
})
