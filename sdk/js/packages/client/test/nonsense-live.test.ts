// What a server may say that is not the protocol, over a real socket of the package `ws`: no exception gets out, and no
// wait is too short.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { type ConnectionState, createClient } from '../src/index.js'
import type { SocketConstructor } from '../src/env.js'

const CONNECTED = { type: 'connected', client: 'c1', session_resumed: false, ping: 25_000 }
let uncaught: unknown[]
const noted = (thrown: unknown) => uncaught.push(thrown)

beforeEach(() => {
  uncaught = []
  process.on('uncaughtException', noted)
})

afterEach(async () => {
  await new Promise(resolve => setTimeout(resolve, 20)) // an `error` event of a socket comes later
  process.off('uncaughtException', noted)
  expect(uncaught).toEqual([])
})

/** Answers `connect` so; resolves with the first state that has a `retryAt` or is an end. */
async function stateAfter(answer: (id: number) => unknown): Promise<ConnectionState> {
  const server = createServer()
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', socket =>
    socket.on('message', text => socket.send(JSON.stringify(answer(JSON.parse(String(text)).id)))),
  )
  await new Promise<void>(resolve => server.listen(0, resolve))
  const url = `http://localhost:${(server.address() as AddressInfo).port}`
  const client = createClient({
    url,
    transports: ['websocket'],
    backoff: { min: 60_000, max: 60_000 },
    env: { WebSocket: WebSocket as unknown as SocketConstructor, random: () => 0.5 },
  })
  const state = await new Promise<ConnectionState>(resolve => {
    client.on('state', state => state.name !== 'connecting' && state.name !== 'connected' && resolve(state))
    client.connect()
  })
  client.close()
  for (const socket of sockets.clients) socket.terminate()
  server.close()
  return state
}

test('limits that are none', async () => {
  expect(await stateAfter(id => ({ ...CONNECTED, id, limits: null }))).toMatchObject({ name: 'error' })
})

test.each(['never', -1e15, 0, 1e15, null, {}])('a server that asks for the wait %s', async retry_after => {
  const refusal = { type: 'error', code: 'overloaded', message: 'later', retryable: true, retry_after }
  const state = await stateAfter(id => ({ ...refusal, id }))
  const wait = state.name === 'disconnected' ? (state.retryAt ?? 0) - Date.now() : 0
  expect(wait).toBeGreaterThan(10_000)
  expect(wait).toBeLessThan(2 ** 31)
})

test('a client that is closed while it connects', async () => {
  const server = createServer(() => {})
  server.on('upgrade', () => {})
  await new Promise<void>(resolve => server.listen(0, resolve))
  const url = `http://localhost:${(server.address() as AddressInfo).port}`
  const client = createClient({ url, env: { WebSocket: WebSocket as unknown as SocketConstructor } })
  client.connect()
  await new Promise(resolve => server.once('upgrade', resolve))
  client.close()
  await new Promise(resolve => setTimeout(resolve, 20))
  server.closeAllConnections()
  server.close()
})

test.each([
  ['a page', 200, { 'content-type': 'text/html' }],
  ['a redirect', 302, { location: '/login' }],
  ['a login', 401, { 'content-type': 'text/html' }],
])('%s in place of the server is an error that says so, and passes', async (_, status, headers) => {
  const server = createServer((_request, answer) => void answer.writeHead(status, headers).end('<html>Sign in</html>'))
  await new Promise<void>(resolve => server.listen(0, resolve))
  const url = `http://localhost:${(server.address() as AddressInfo).port}`
  const client = createClient({ url, env: { WebSocket: WebSocket as unknown as SocketConstructor } })
  const state = await new Promise<ConnectionState>(resolve => {
    client.on('state', state => state.name !== 'connecting' && resolve(state))
    client.connect()
  })
  client.close()
  server.closeAllConnections()
  server.close()
  expect(state).toMatchObject({ name: 'error', retryAt: expect.any(Number) })
  expect(state.reason?.message).toContain(`answered ${status}`)
})
