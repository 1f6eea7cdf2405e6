// Handlers of Socket.IO in Rust as the clients of npm see them: the chat of crates/server/examples/socketio.rs.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { io } from 'socket.io-client'
import { startExample } from './support/example.mjs'
import { next } from './support/socketio.mjs'

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

for (const transport of ['websocket', 'polling']) {
  describe(`handlers, by ${transport}`, options, () => {
    let server
    before(async () => (server = await startExample('socketio_features')), options)
    after(() => server.stop(), options)
    const clients = []
    after(() => clients.forEach(client => client.disconnect()))

    const openClient = (settings, path = '') => {
      const client = io(server.url + path, { transports: [transport], forceNew: true, ...settings })
      clients.push(client)
      return client
    }
    const connect = async name => {
      const client = openClient({ auth: { name } })
      await once(client, 'connect')
      return client
    }
    const ask = (client, ...event) => client.timeout(30_000).emitWithAck(...event)
    /** The events that come from now on. */
    const record = client => {
      const events = []
      client.onAny((...event) => events.push(event))
      return events
    }

    test('a guard refuses with a message and data, and names the user', async () => {
      const [error] = await once(openClient(), 'connect_error')
      assert.equal(error.message, 'what is your name?')
      assert.deepEqual(error.data, { field: 'name' })
      const ada = await connect('ada')
      assert.equal(await ask(ada, 'who am i'), 'ada')
    })

    test('a middleware sees every event, and its refusal is the ack', async () => {
      const ada = await connect('ada')
      const { error } = await ask(ada, 'secret plan', 1)
      assert.deepEqual(error, { code: 'denied', message: 'this is not for you', data: { event: 'secret plan' } })
      ada.emit('nobody handles this')
      assert.deepEqual(await ask(ada, 'sent'), ['nobody handles this', 'sent'])
    })

    test('acks have the values that handlers return', async () => {
      const ada = await connect('ada')
      assert.deepEqual(await ask(ada, 'echo', 1, 'two', { three: [3] }, null), [1, 'two', { three: [3] }, null])
      const sums = await new Promise(resolve => ada.emit('sum', 7, 2, (...all) => resolve(all)))
      assert.deepEqual(sums, [9, 5])
      assert.equal(await ask(ada, 'later'), 'later')
      assert.equal(await ask(ada, 'join', []), undefined)
      const reversed = await new Promise(resolve => {
        ada.emit('reverse', 'x', Buffer.from([1, 2, 3]), (name, bytes) => resolve([name, bytes]))
      })
      assert.deepEqual(reversed, ['x', Buffer.from([3, 2, 1])])
    })

    test('the server asks, one or many, and waits no longer than it wants', async () => {
      const [ada, bob, eve] = [await connect('ada'), await connect('bob'), await connect('eve')]
      for (const [n, client] of [ada, bob, eve].entries()) {
        client.on('question', (a, b, answer) => answer(10 * n + a + b))
        await ask(client, 'join', ['jury'])
      }
      assert.equal(await ask(ada, 'ask me'), 7)
      const [answers, asked] = await new Promise(resolve => {
        ada.emit('ask the others', 'jury', (...all) => resolve(all.length === 1 ? all[0] : all))
      })
      assert.equal(asked, 2)
      assert.deepEqual(answers.sort(), [17, 27])
      ada.off('question')
      assert.deepEqual(await ask(ada, 'ask me shortly'), { error: 'no ack came within 50ms' })
    })

    test('everything arrives in the order in which a handler did it', async () => {
      const ada = await connect('ada')
      const events = record(ada)
      assert.equal(await ask(ada, 'count', 200), 'counted')
      assert.deepEqual(events, Array.from({ length: 200 }, (_, n) => ['n', n]))
      events.length = 0
      const gone = once(ada, 'disconnect')
      ada.emit('say goodbye')
      const [reason] = await gone
      assert.equal(reason, 'io server disconnect')
      assert.deepEqual(events, [['goodbye']])
      assert.equal(ada.active, false, 'it does not come back by itself')
    })

    test('rooms, those to be left out, and what need not arrive', async () => {
      const [ada, bob, eve] = [await connect('ada'), await connect('bob'), await connect('eve')]
      await ask(bob, 'join', ['a', 'b'])
      await ask(eve, 'join', ['a'])
      assert.deepEqual(await ask(bob, 'rooms'), [bob.id, 'a', 'b'])
      const [told, untold] = [record(eve), record(bob)]
      await ask(ada, 'tell', ['a'], ['b'], 1)
      await ask(ada, 'tell', [bob.id, eve.id], [], 2)
      await ask(bob, 'leave', 'a')
      await ask(ada, 'tell', ['a'], [], 3)
      await ask(bob, 'rooms')
      await ask(eve, 'rooms')
      assert.deepEqual(told, [['told', 1], ['told', 2], ['told', 3]])
      assert.deepEqual(untold, [['told', 2]])
      if (transport === 'websocket') {
        const volatile = once(eve, 'told')
        ada.emit('tell now', 4)
        assert.deepEqual(await volatile, [4])
      }
    })

    test('sockets are listed, moved and closed by others', async () => {
      const [ada, bob, eve] = [await connect('ada'), await connect('bob'), await connect('eve')]
      await ask(bob, 'join', ['old'])
      await ask(eve, 'join', ['old'])
      assert.deepEqual((await ask(ada, 'list', 'old')).sort(), ['bob', 'eve'])
      await ask(ada, 'move', 'old', 'new')
      assert.deepEqual(await ask(ada, 'list', 'old'), [])
      assert.deepEqual(await ask(bob, 'rooms'), [bob.id, 'new'])
      const events = record(bob)
      const gone = [once(bob, 'disconnect'), once(eve, 'disconnect')]
      await ask(ada, 'close', 'new')
      for (const [reason] of await Promise.all(gone)) assert.equal(reason, 'io server disconnect')
      assert.deepEqual(events, [['closing', 'new']])
      assert.deepEqual(await ask(ada, 'list', 'new'), [])
    })

    test('a handler that panics or is slow costs its own event', async () => {
      const [ada, bob] = [await connect('ada'), await connect('bob')]
      assert.equal((await ask(ada, 'panic')).error.code, 'internal')
      const slow = ask(ada, 'sleep', 60_000)
      const behind = ask(ada, 'who am i')
      assert.equal(await ask(bob, 'who am i'), 'bob')
      assert.equal((await slow).error.code, 'timeout')
      assert.equal(await behind, 'ada')
    })

    test('more events than the queue holds are all handled, in order', async () => {
      const ada = await connect('ada')
      const answers = await Promise.all(Array.from({ length: 2_000 }, (_, n) => ask(ada, 'echo', n)))
      assert.deepEqual(answers, Array.from({ length: 2_000 }, (_, n) => [n]))
    })

    test('a namespace by pattern, and one that is not there', async () => {
      const room = openClient({}, '/room-7')
      await once(room, 'connect')
      assert.equal(await ask(room, 'where'), '/room-7')
      const [error] = await once(openClient({}, '/cellar'), 'connect_error')
      assert.equal(error.message, 'Invalid namespace')
    })

    test('others hear who has gone, and why', async () => {
      const [ada, bob] = [await connect('ada'), await connect('bob')]
      const gone = new Promise(resolve => ada.on('gone', (...who) => who[0] === 'bob' && resolve(who)))
      bob.disconnect()
      assert.deepEqual(await gone, ['bob', 'client namespace disconnect'])
    })
  })
}
