// Handlers of Socket.IO in Rust as the clients of npm see them: the chat of crates/server/examples/socketio.rs.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { io } from 'socket.io-client'
import { startExample } from './support/example.mjs'

const options = { timeout: 60_000 }

for (const transport of ['websocket', 'polling']) {
  describe(`the chat of the example, by ${transport}`, options, () => {
    let chat
    before(async () => (chat = await startExample('socketio')), options)
    after(() => chat.stop(), options)
    const clients = []
    after(() => clients.forEach(client => client.disconnect()))

    const openClient = auth => {
      const client = io(chat.url, { transports: [transport], forceNew: true, auth })
      clients.push(client)
      return client
    }
    const connect = async () => {
      const client = openClient({ token: 'let me in' })
      await once(client, 'connect')
      return client
    }
    const next = async (client, name) => (await once(client, name))[0]

    test('a client without the token is told why', async () => {
      const [error] = await once(openClient({ token: 'guess' }), 'connect_error')
      assert.equal(error.message, '认证错误')
      const [missing] = await once(openClient(), 'connect_error')
      assert.equal(missing.message, '认证错误')
    })

    test('a room hears who joins, speaks and types', async () => {
      const [ada, bob] = [await connect(), await connect()]
      ada.emit('join-room', 'lobby')
      ada.emit('message', { text: 'first' })
      assert.equal((await next(ada, 'message')).text, 'first')
      const joined = next(ada, 'user-joined')
      bob.emit('join-room', 'lobby')
      const { userId, timestamp } = await joined
      assert.equal(userId, bob.id)
      assert.ok(Math.abs(Date.now() - timestamp) < 60_000)

      const typing = next(bob, 'user-typing')
      ada.emit('typing', true)
      assert.deepEqual(await typing, { userId: ada.id, isTyping: true })
      const said = Promise.all([next(ada, 'message'), next(bob, 'message')])
      ada.emit('message', { text: 'hello', userId: 'mallory' })
      for (const message of await said) {
        assert.deepEqual({ ...message, timestamp: 0 }, { text: 'hello', userId: ada.id, timestamp: 0 })
      }
    })

    test('an ack comes when the handler is done', async () => {
      const client = await connect()
      assert.equal(await client.timeout(30_000).emitWithAck('join-room', 'a'), undefined)
      const { error } = await client.timeout(30_000).emitWithAck('join-room', 7)
      assert.equal(error.code, 'bad_request')
    })
  })
}
