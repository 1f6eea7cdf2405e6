// Connection state recovery as `socket.io-client` sees it: a client that was cut off is the same socket again.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { io } from 'socket.io-client'
import { startExample } from './support/example.mjs'
import { startServer } from './support/server.mjs'

const options = { timeout: 60_000 }
let server
before(async () => (server = await startServer({ rates: 'default' })), options)
after(() => server.stop(), options)

const clients = []
after(() => clients.forEach(client => client.disconnect()))

/** A client in a room, and the texts that it has heard there. */
async function member(transport, room) {
  const settings = { transports: [transport], forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 20 }
  const client = io(server.url, settings)
  clients.push(client)
  const heard = []
  client.on('message', ({ text }) => heard.push(text))
  await once(client, 'connect')
  client.emit('join-room', room)
  return { client, heard }
}

/** Says something, and returns when the speaker has heard it. */
async function say({ client, heard }, text) {
  client.emit('message', { text })
  while (!heard.includes(text)) await once(client, 'message')
}

/** The next time that this client is connected. */
const back = ({ client }) => once(client, 'connect')

for (const transport of ['websocket', 'polling']) {
  describe(`recovery, by ${transport}`, options, () => {
    test('a client goes on as the same socket, again and again, with what it missed', async () => {
      const room = `again-${transport}`
      const ada = await member('websocket', room)
      await say(ada, 'before')
      const bob = await member(transport, room)
      // By this bob is known to be in the room.
      await say(bob, 'hello')
      const { id } = bob.client
      assert.equal(bob.client.recovered, false)
      for (const round of ['first', 'second', 'third']) {
        const returned = back(bob)
        bob.client.io.engine.close()
        await say(ada, `${round} missed`)
        await returned
        assert.deepEqual([bob.client.recovered, bob.client.id], [true, id])
        await say(ada, `${round} live`)
        while (!bob.heard.includes(`${round} live`)) await once(bob.client, 'message')
      }
      const rounds = ['first', 'second', 'third'].flatMap(round => [`${round} missed`, `${round} live`])
      assert.deepEqual(bob.heard, ['hello', ...rounds])
    })

    test('a client that has had no event goes on too', async () => {
      const client = io(server.url, { transports: [transport], forceNew: true, reconnectionDelay: 10 })
      clients.push(client)
      await once(client, 'connect')
      const { id } = client
      for (let round = 0; round < 3; round++) {
        const returned = once(client, 'connect')
        client.io.engine.close()
        await returned
        assert.deepEqual([client.recovered, client.id], [true, id])
      }
    })

    test('a client that disconnects is a new socket when it comes back', async () => {
      const bob = await member(transport, `left-${transport}`)
      const { id } = bob.client
      // By polling it has left when the server has taken its last packet.
      const closed = once(bob.client.io.engine, 'close')
      bob.client.disconnect()
      await closed
      bob.client.connect()
      await back(bob)
      assert.equal(bob.client.recovered, false)
      assert.notEqual(bob.client.id, id)
    })
  })
}

/** A client in the room `many` of the conformance example, which expects the numbers that are said there in order. */
class Listener {
  constructor(url) {
    const patience = { reconnectionDelay: 1_000, reconnectionDelayMax: 2_000, timeout: 120_000 }
    this.client = io(url, { transports: ['websocket'], forceNew: true, ...patience })
    this.next = 0
    this.wrong = null
    this.client.on('sent', number => {
      if (number !== this.next) this.wrong ??= `${number} came, not ${this.next}`
      this.next = number + 1
    })
  }

  async join() {
    if (!this.client.connected) await once(this.client, 'connect')
    this.id = this.client.id
    await this.client.emitWithAck('join', 'many')
  }

  /** Its connection is cut; resolves when it is back. */
  cut() {
    const back = once(this.client, 'connect')
    this.client.io.engine.transport.ws._socket.destroy()
    return back
  }
}

test('two thousand clients that are cut at once all go on, and nothing is lost or repeated', { timeout: 300_000 }, async () => {
  const many = await startExample('socketio_conformance', { FANFARE__SOCKETIO__MAX_DISCONNECTION_DURATION: '2m' })
  const [speaker, ...others] = Array.from({ length: 2_001 }, () => new Listener(many.url))
  let said = 0
  const speak = async count => {
    for (const end = said + count; said < end; ) {
      const heard = once(speaker.client, 'sent')
      speaker.client.emit('in', ['many'], [], said++)
      await heard
    }
  }
  try {
    await Promise.all([speaker, ...others].map(listener => listener.join()))
    await speak(5)
    let isBack = false
    const returned = Promise.all(others.map(listener => listener.cut())).then(() => (isBack = true))
    await speak(50)
    while (!isBack) {
      await speak(1)
      await new Promise(setImmediate) // the others have their turn
    }
    await returned
    await speak(5)
    for (const { client, id } of others) assert.deepEqual([client.recovered, client.id], [true, id])
    for (const listener of others) {
      while (listener.next < said && listener.wrong === null) await once(listener.client, 'sent')
      assert.equal(listener.wrong, null)
    }
  } finally {
    for (const { client } of [speaker, ...others]) client.disconnect()
    await many.stop()
  }
})
