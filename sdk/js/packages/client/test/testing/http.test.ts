// The fake server over HTTP: what the page's transcripts do not show.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { FetchLike } from '../../src/env.js'
import { createFakeServer, type FakeServer } from '../../src/testing.js'

let server: FakeServer
let fetch: FetchLike

beforeEach(() => {
  vi.useFakeTimers()
  server = createFakeServer()
  fetch = server.env.fetch!
})

afterEach(() => {
  server.close()
  expect(vi.getTimerCount(), 'timers that are left').toBe(0)
  vi.useRealTimers()
})

const post = (path: string, body: object, more = {}) =>
  fetch(`${server.url}/v1/${path}`, { method: 'POST', headers: {}, body: JSON.stringify(body), ...more })
const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const value = async (answer: Promise<{ text(): Promise<string> }>) => JSON.parse(await (await answer).text()) as never

interface Polled {
  n: number
  messages: { type: string; ticket?: string; data?: unknown }[]
}

async function polled(more = {}): Promise<string> {
  const { messages }: Polled = await value(post('poll', { type: 'connect', id: 1, ...more }))
  return messages[0]!.ticket!
}

test('a poll waits, is answered by a message, and the same bytes come again until they are acknowledged', async () => {
  const ticket = await polled({ subscribe: [{ channel: 'c' }] })
  const waits: Promise<Polled> = value(post('poll', { ticket, ack: 1 }))
  await later(10_000)
  server.publish('c', 'x')
  expect(await waits).toMatchObject({ n: 2, messages: [{ type: 'message', data: 'x' }] })
  expect(await value(post('poll', { ticket, ack: 1 }))).toEqual(await waits)
  const empty: Promise<Polled> = value(post('poll', { ticket, ack: 2, wait: 500 }))
  await later(500)
  expect(await empty).toEqual({ n: 2, messages: [] })
})

test('of two polls the earlier one is answered empty', async () => {
  const ticket = await polled()
  const first: Promise<Polled> = value(post('poll', { ticket, ack: 1 }))
  await later(0)
  const second = post('poll', { ticket, ack: 1, wait: 100 })
  expect(await first).toEqual({ n: 1, messages: [] })
  await later(100)
  expect(await value(second)).toEqual({ n: 1, messages: [] })
})

test('a `connect` that is repeated with its attempt leads to the same session', async () => {
  expect(await polled({ attempt: 'a' })).toBe(await polled({ attempt: 'a' }))
  expect(server.clients).toHaveLength(1)
})

test('the last words of a session wait for one poll; then it is over', async () => {
  const ticket = await polled()
  server.disconnect(server.clients[0]!.client, 4503)
  const { n, messages }: Polled = await value(post('poll', { ticket, ack: 1 }))
  expect([n, messages[0]!.type]).toEqual([2, 'disconnect'])
  expect((await post('poll', { ticket, ack: 2 })).status).toBe(401)
  expect((await post('send', { ticket, commands: [] })).status).toBe(401)
})

test('who does not poll is gone', async () => {
  const ticket = await polled()
  await later(75_000)
  expect(server.clients).toEqual([])
  expect(await value(post('send', { ticket, commands: [] }))).toMatchObject({ code: 'not_connected' })
})

test('numbered sends take effect once, in order; one that comes too early waits', async () => {
  const ticket = await polled()
  const publish = (n: number) =>
    post('send', { ticket, n, commands: { type: 'publish', id: n, channel: 'c', data: n } })
  const second = publish(2)
  await later(1_000)
  const [first, again] = [await value(publish(1)), await value(publish(1))]
  expect(again).toEqual(first)
  expect(await value(second)).toMatchObject({ n: 2, replies: [{ type: 'published', offset: 2 }] })
  expect(server.channel('c').publications.map(({ data }) => data)).toEqual([1, 2])
  const early = publish(5)
  await later(5_000)
  expect((await early).status).toBe(409)
})

test('a stream is read until it is cut, aborted, or ended', async () => {
  const open = async (more = {}) => (await post('stream', { type: 'connect', id: 1 }, more)).body!.getReader()
  const cut = await open()
  expect((await cut.read()).done).toBe(false)
  server.drop()
  await expect(cut.read()).rejects.toThrow('the connection was lost')
  const abort = new AbortController()
  const aborted = await open({ signal: abort.signal })
  await aborted.read()
  const reading = expect(aborted.read()).rejects.toMatchObject({ name: 'AbortError' })
  abort.abort()
  await reading
  const ended = await open()
  await ended.read()
  server.disconnect(server.clients.find(({ connected }) => connected)!.client, 4000)
  await ended.read()
  expect(await ended.read()).toEqual({ done: true })
})

test('offline no request gets through', async () => {
  server.offline()
  await expect(post('poll', { type: 'connect', id: 1 })).rejects.toThrow('Failed to fetch')
})
