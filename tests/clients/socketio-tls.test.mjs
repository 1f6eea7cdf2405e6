// Socket.IO over TLS: polls over HTTP/2, and the change to a WebSocket, which goes by a connection of HTTP/1.1. The
// clients are `socket.io-client` in Node, with polls over Node's own HTTP/2 client, and in Chromium, which chooses by
// itself.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { after, test } from 'node:test'
import { NodeWebSocket } from 'engine.io-client'
import { io } from 'socket.io-client'
import { connect, polling } from './support/http2.mjs'
import { browser, server, share } from './support/shared.mjs'
import { join, next } from './support/socketio.mjs'

const options = { timeout: 120_000 }
const SCRIPT = fileURLToPath(new URL('node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url))

share(options, { args: ['--tls', { rates: 'default' }], withBrowser: true })

const clients = []
after(() => clients.forEach(client => client.disconnect()))

async function open(transports, more = {}) {
  const client = io(server.url, { transports, forceNew: true, rejectUnauthorized: false, reconnectionDelay: 10, reconnectionDelayMax: 20, ...more })
  clients.push(client)
  await once(client, 'connect')
  return client
}

/** Messages go both ways between two clients, text and bytes, each once and in order. */
async function talk(ada, bob, room) {
  await join(ada, room)
  await join(bob, room)
  const heard = []
  bob.on('message', ({ n }) => n !== undefined && heard.push(n))
  for (let n = 0; n < 100; n++) ada.emit('message', { n })
  while (heard.length < 100) await next(bob, 'message')
  assert.deepEqual(heard, Array.from({ length: 100 }, (_, n) => n))
  // The sender's own copy too, so that nothing is on its way behind this.
  const got = [ada, bob].map(client => new Promise(resolve => {
    client.on('message', data => data.bytes && resolve(data.bytes))
  }))
  bob.emit('message', { bytes: Buffer.from([0, 1, 255]) })
  for (const bytes of await Promise.all(got)) assert.deepEqual([...bytes], [0, 1, 255])
}

test('two clients talk by polls over HTTP/2, one connection each, and one comes back after a cut', options, async () => {
  const sessions = [await connect(server.url), await connect(server.url)]
  for (const session of sessions) assert.equal(session.alpnProtocol, 'h2')
  const [ada, bob] = await Promise.all(sessions.map(session => open([polling(session)], { upgrade: false })))
  await talk(ada, bob, 'h2')
  const { id } = bob
  const back = once(bob, 'connect')
  bob.io.engine.close()
  ada.emit('message', { text: 'missed' })
  const [missed] = await Promise.all([next(bob, 'message'), back])
  assert.deepEqual([missed.text, bob.id, bob.recovered], ['missed', id, true])
  for (const client of [ada, bob]) assert.equal(client.io.engine.transport.name, 'polling')
  for (const client of [ada, bob]) client.disconnect()
  sessions.forEach(session => session.close())
})

test('a client that polls over HTTP/2 goes on with a WebSocket over HTTP/1.1', options, async () => {
  const session = await connect(server.url)
  const upgraded = []
  const transports = [polling(session), NodeWebSocket]
  const [ada, bob] = await Promise.all([open(transports), open(transports)].map(async opened => {
    const client = await opened
    const { engine } = client.io
    if (engine.transport.name !== 'websocket') await once(engine, 'upgrade')
    upgraded.push(engine.transport.ws._socket)
    return client
  }))
  for (const socket of upgraded) {
    assert.ok(socket.encrypted)
    assert.notEqual(socket.alpnProtocol, 'h2')
  }
  await talk(ada, bob, 'upgrade')
  session.close()
})

test('a page of Chromium polls over HTTP/2, goes on with a WebSocket, and talks to a client that only polls', options, async () => {
  const session = await connect(server.url)
  const page = await (await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true })).newPage()
  await page.goto(`${server.url}/healthz`)
  await page.addScriptTag({ path: SCRIPT })
  await page.evaluate(() => {
    window.heard = []
    window.socket = io()
    socket.on('message', ({ text }) => heard.push(text))
    return new Promise(resolve => socket.once('connect', resolve))
  })
  await page.waitForFunction(() => socket.io.engine.transport.name === 'websocket')
  const protocols = await page.evaluate(() =>
    performance.getEntriesByType('resource').filter(({ name }) => name.includes('transport=polling')).map(entry => entry.nextHopProtocol))
  assert.ok(protocols.length > 0)
  assert.deepEqual([...new Set(protocols)], ['h2'])
  const ada = await open([polling(session)], { upgrade: false })
  await join(ada, 'page')
  const greeting = new Promise(resolve => ada.on('message', ({ text }) => text === 'from the page' && resolve()))
  await page.evaluate(() => {
    socket.emit('join-room', 'page')
    socket.emit('message', { text: 'from the page' })
  })
  await greeting
  ada.emit('message', { text: 'to the page' })
  await page.waitForFunction(() => heard.includes('to the page'))
  ada.disconnect()
  session.close()
})
