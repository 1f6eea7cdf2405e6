// SIGTERM to a real `fanfare dev`, seen by native clients: each is told to come back, at different times within the
// window; every client has received all acknowledged publications; the process ends well, and a successor can use its
// port.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { describe, test } from 'node:test'
import WebSocket from 'ws'
import { startServer } from './support/server.mjs'

const CLIENTS = 50
const WINDOW_MS = 10_000 // the value of `fanfare dev`
const CHANNEL = 'news'

/** A native client that keeps everything it is told. */
async function open(url, subscribe = [{ channel: CHANNEL }]) {
  const socket = new WebSocket(url.replace(/^http/, 'ws') + '/v1/ws', ['fanfare.v1'])
  const client = { socket, told: [], closed: once(socket, 'close').then(([code]) => code), wake: () => {} }
  socket.on('message', data => {
    client.told.push(JSON.parse(data.toString()))
    client.wake()
  })
  socket.on('error', () => {}) // `close` follows
  client.of = type => client.told.filter(message => message.type === type)
  client.until = async condition => {
    while (!condition()) {
      await Promise.race([new Promise(resolve => (client.wake = resolve)), client.closed.then(() => { throw new Error('closed') })])
    }
  }
  client.send = message => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(message))
  await once(socket, 'open')
  client.send({ type: 'connect', id: 'connect', subscribe })
  await client.until(() => client.of('connected').length === 1 && client.of('subscribed').length === subscribe.length)
  return client
}

describe('SIGTERM', { timeout: 120_000 }, () => {
  test('sends everybody away in order, and a successor takes them up', async () => {
    const server = await startServer()
    const clients = await Promise.all(Array.from({ length: CLIENTS }, () => open(server.url)))
    const publisher = await open(server.url, [])
    // Each answer starts the next publication, and eight are always on their way, also when the end comes.
    let sent = 0
    const publish = () => publisher.send({ type: 'publish', id: sent, channel: CHANNEL, data: sent++ })
    publisher.socket.on('message', publish)
    for (let n = 0; n < 8; n++) publish()
    await publisher.until(() => publisher.of('published').length >= 50)

    const ended = server.stop()
    const codes = await Promise.all([...clients, publisher].map(client => client.closed))
    assert.deepEqual([...new Set(codes)], [4000])
    assert.deepEqual(await ended, { code: 0, signal: null })

    const acknowledged = publisher.of('published').map(({ id }) => id)
    assert.deepEqual(acknowledged, [...acknowledged.keys()], 'answered in the order sent')
    const delays = clients.map((client, who) => {
      assert.deepEqual(client.of('message').map(({ data }) => data), acknowledged, `what ${who} heard is what was acknowledged`)
      const { delay, ...word } = client.told.at(-1)
      assert.deepEqual(word, { type: 'disconnect', code: 4000, reason: 'shutdown', retry: true })
      return delay
    })
    delays.sort((a, b) => a - b)
    // All of fifty random delays lie beyond a quarter of the window in one of two million runs.
    assert.ok(delays[0] < WINDOW_MS / 4 && delays.at(-1) >= (WINDOW_MS * 3) / 4 && delays.at(-1) < WINDOW_MS, String(delays))

    await server.start()
    const { epoch, offset } = clients[0].of('subscribed')[0]
    const back = await open(server.url, [{ channel: CHANNEL, since: { epoch, offset } }])
    assert.equal(back.of('subscribed')[0].recovered, false, 'memory is gone with its process, and that is said')
    back.socket.close()
    await server.stop()
  })
})
