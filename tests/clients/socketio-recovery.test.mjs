// Connection state recovery as `socket.io-client` sees it: a client that was cut off is the same socket again.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { io } from 'socket.io-client'
import { startServer } from './support/server.mjs'

const options = { timeout: 60_000 }
let server
before(async () => (server = await startServer()), options)
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

test('hundreds of clients that are cut at once all go on, and nothing is lost or repeated', options, async () => {
  const members = await Promise.all(Array.from({ length: 300 }, () => member('websocket', 'many')))
  const [speaker, ...others] = members
  await Promise.all(others.map((other, at) => say(other, `here ${at}`)))
  const returned = others.map(back)
  others.forEach(({ client, heard }) => {
    heard.length = 0
    client.io.engine.close()
  })
  for (let number = 0; number < 20; number++) await say(speaker, `missed ${number}`)
  await Promise.all(returned)
  assert.ok(others.every(({ client }) => client.recovered))
  await say(speaker, 'live')
  const expected = [...Array.from({ length: 20 }, (_, number) => `missed ${number}`), 'live']
  for (const { client, heard } of others) {
    while (!heard.includes('live')) await once(client, 'message')
    assert.deepEqual(heard.filter(text => !text.startsWith('here')), expected)
  }
})
