// permessage-deflate, spoken by the `ws` package from npm in the ways that it can be set up.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import WebSocket from 'ws'
import { startServer } from './support/server.mjs'

const options = { timeout: 60_000 }
let server
before(async () => (server = await startServer({ rates: 'default' })), options)
after(() => server.stop(), options)

/** A client of the native protocol with the settings of `ws` for compression. */
class NativeClient {
  static async open(perMessageDeflate) {
    const socket = new WebSocket(`${server.ws}v1/ws`, 'fanfare.v1', { perMessageDeflate })
    const client = new NativeClient(socket)
    await once(socket, 'open')
    await client.ask({ type: 'connect' })
    return client
  }

  #messages = []
  #waiting = []
  #id = 0

  constructor(socket) {
    this.socket = socket
    socket.on('message', data => {
      const message = JSON.parse(data)
      const waiting = this.#waiting.shift()
      if (waiting === undefined) this.#messages.push(message)
      else waiting(message)
    })
  }

  next() {
    const message = this.#messages.shift()
    return message === undefined ? new Promise(resolve => this.#waiting.push(resolve)) : Promise.resolve(message)
  }

  /** Sends a command and gives its answer, which must be the next message. */
  async ask(command) {
    const id = ++this.#id
    this.socket.send(JSON.stringify({ ...command, id }))
    const answer = await this.next()
    assert.equal(answer.id, id, JSON.stringify(answer))
    assert.notEqual(answer.type, 'error', JSON.stringify(answer))
    return answer
  }

  /** Bytes read from the socket. */
  get bytesRead() {
    return this.socket._socket.bytesRead
  }

  async close() {
    this.socket.close(1000)
    const [code] = await once(this.socket, 'close')
    assert.equal(code, 1000)
  }
}

const SETTINGS = [
  ['not at all', false, ''],
  ['as it does by default', true, 'permessage-deflate'],
  ['everything, also the shortest message', { threshold: 0 }, 'permessage-deflate'],
  [
    'without context takeover',
    { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
    'permessage-deflate',
  ],
  ['with small windows', { threshold: 0, serverMaxWindowBits: 10, clientMaxWindowBits: 10 }, 'permessage-deflate'],
  ['with a window that the server does not have', { serverMaxWindowBits: 8 }, ''],
]

const story = bytes =>
  Array.from({ length: bytes / 64 }, (_, number) => ({ number, user: `user-${number}`, text: 'the quick brown fox 🦊' }))

describe('the ws package compresses', options, () => {
  for (const [name, setting, agreed] of SETTINGS) {
    test(name, options, async () => {
      const [client, plain] = [await NativeClient.open(setting), await NativeClient.open(false)]
      assert.equal(client.socket.extensions, agreed)
      const channel = `compressed:${Math.random()}`
      for (const each of [client, plain]) await each.ask({ type: 'subscribe', channel })
      for (const data of [{ short: true }, story(2_000), story(16_000), story(40_000), '']) {
        await client.ask({ type: 'publish', channel, data })
        const messages = await Promise.all([client.next(), plain.next()])
        for (const message of messages) assert.deepEqual(message.data, data)
      }
      const ratio = client.bytesRead / plain.bytesRead
      if (agreed === '') assert.ok(ratio > 0.95, `${ratio}`)
      else assert.ok(ratio < 0.5, `${ratio} of the bytes`)
      await Promise.all([client.close(), plain.close()])
    })
  }

  test('and many clients at once get the same', options, async () => {
    const channel = `compressed:${Math.random()}`
    const settings = [true, false, { serverMaxWindowBits: 9 }, { threshold: 0 }]
    const clients = await Promise.all(Array.from({ length: 40 }, (_, n) => NativeClient.open(settings[n % 4])))
    for (const client of clients) await client.ask({ type: 'subscribe', channel })
    const [publisher] = clients
    for (let number = 0; number < 20; number++) {
      const data = { number, story: story(100 + 800 * number) }
      publisher.socket.send(JSON.stringify({ type: 'publish', channel, data }))
      for (const client of clients) assert.deepEqual((await client.next()).data, data)
    }
    await Promise.all(clients.map(client => client.close()))
  })
})

test('a bomb ends its connection with 1009', options, async () => {
  const bomb = new WebSocket(`${server.ws}v1/ws`, 'fanfare.v1', { perMessageDeflate: true })
  await once(bomb, 'open')
  bomb.on('error', () => {}) // it may find the connection reset
  bomb.send('0'.repeat(20_000_000))
  const [code] = await once(bomb, 'close')
  assert.equal(code, 1009)
  const other = await NativeClient.open(true)
  await other.close()
})
