// Socket.IO as its own client sees it: `socket.io-client` from npm, by both transports and
// from one to the other, and the built-in events.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { Socket as Engine } from 'engine.io-client'
import { io } from 'socket.io-client'
import { startServer } from './support/server.mjs'
import { join, next, nextWith } from './support/socketio.mjs'

const options = { timeout: 60_000 }
let server
// One test says four thousand messages.
const rate = { rates: 'default', env: { FANFARE__LIMITS__MESSAGES_PER_CONNECTION: '1000/s' } }
before(async () => (server = await startServer(rate)), options)
after(() => server.stop(), options)

const clients = []
const openClient = (settings = {}) => {
  const client = io(server.url, { transports: ['websocket'], forceNew: true, ...settings })
  clients.push(client)
  return client
}
after(() => clients.forEach(client => client.disconnect()))

/** A client that is connected. */
async function connect(settings) {
  const client = openClient(settings)
  await once(client, 'connect')
  return client
}

describe('the example of a chat room', options, () => {
  test('a client connects, with an id of its own for the socket', async () => {
    const client = await connect()
    assert.ok(client.id)
    assert.notEqual(client.id, client.io.engine.id)
  })

  test('a room hears who joins, speaks and types', async () => {
    const [ada, bob] = [await connect(), await connect()]
    await join(ada, 'lobby')
    const joined = next(ada, 'user-joined')
    bob.emit('join-room', 'lobby')
    const { userId, timestamp } = await joined
    assert.equal(userId, bob.id)
    assert.equal(typeof timestamp, 'number')

    const said = Promise.all([nextWith(ada, 'message', 'text'), nextWith(bob, 'message', 'text')])
    bob.emit('message', { text: 'hello', n: [1, { deep: true }] })
    for (const message of await said) {
      assert.equal(typeof message.timestamp, 'number')
      delete message.timestamp
      assert.deepEqual(message, { text: 'hello', n: [1, { deep: true }], userId: bob.id })
    }

    const typing = next(ada, 'user-typing')
    bob.emit('typing', true)
    assert.deepEqual(await typing, { userId: bob.id, isTyping: true })
  })

  test('another room hears nothing of it', async () => {
    const [ada, bob] = [await connect(), await connect()]
    await join(ada, 'one')
    await join(bob, 'two')
    const heard = []
    bob.onAny((name, data) => heard.push([name, data]))
    ada.emit('typing', true)
    await join(ada, 'one')
    await join(bob, 'two')
    assert.ok(heard.every(([name, data]) => name === 'message' && data.userId === bob.id), JSON.stringify(heard))
  })

  test('binary data passes both ways', async () => {
    const [ada, bob] = [await connect(), await connect()]
    await join(ada, 'files')
    await join(bob, 'files')
    const got = Promise.all([nextWith(ada, 'message', 'parts'), nextWith(bob, 'message', 'parts')])
    ada.emit('message', { name: 'a', parts: [Buffer.from([0, 255]), Buffer.from('text')] })
    for (const message of await got) {
      assert.deepEqual(message.parts.map(part => [...part]), [[0, 255], [...Buffer.from('text')]])
      assert.equal(message.userId, ada.id)
    }
  })

  test('a token is ignored in dev mode, where nobody checks it', async () => {
    const client = await connect({ auth: { token: 'any' } })
    assert.ok(client.connected)
  })

  test('messages that were emitted before the connection was there are sent in order', async () => {
    const client = openClient()
    client.emit('join-room', 'early')
    for (let n = 0; n < 20; n++) client.emit('message', { n })
    const numbers = []
    await new Promise(resolve => client.on('message', ({ n }) => numbers.push(n) === 20 && resolve()))
    assert.deepEqual(numbers, Array.from({ length: 20 }, (_, n) => n))
  })
})

describe('a client that only polls', options, () => {
  test('it meets clients with a WebSocket, and binary data passes', async () => {
    const [ada, bob] = [await connect(), await connect({ transports: ['polling'] })]
    assert.equal(bob.io.engine.transport.name, 'polling')
    await join(ada, 'mixed')
    await join(bob, 'mixed')
    const got = Promise.all([nextWith(ada, 'message', 'file'), nextWith(bob, 'message', 'file')])
    bob.emit('message', { file: Buffer.from([1, 2, 3]) })
    for (const message of await got) assert.deepEqual([[...message.file], message.userId], [[1, 2, 3], bob.id])
    const typing = next(bob, 'user-typing')
    ada.emit('typing', false)
    assert.deepEqual(await typing, { userId: ada.id, isTyping: false })
  })

  test('a hundred messages in one direction each come once and in order', async () => {
    const [ada, bob] = [await connect({ transports: ['polling'] }), await connect({ transports: ['polling'] })]
    await join(ada, 'many')
    await join(bob, 'many')
    const numbers = []
    const all = new Promise(resolve => {
      bob.on('message', ({ n }) => n !== undefined && numbers.push(n) === 100 && resolve())
    })
    for (let n = 0; n < 100; n++) ada.emit('message', { n })
    await all
    assert.deepEqual(numbers, Array.from({ length: 100 }, (_, n) => n))
  })
})

describe('without settings of its own a client polls and goes on with a WebSocket', options, () => {
  const changing = () => openClient({ transports: undefined })
  const upgraded = client =>
    new Promise((resolve, reject) => {
      client.on('connect', () => {
        const { engine } = client.io
        engine.on('upgradeError', reject)
        if (engine.transport.name === 'websocket') return resolve()
        engine.once('upgrade', ({ name }) => resolve(assert.equal(name, 'websocket')))
      })
    })

  test('the same session goes on', async () => {
    const client = changing()
    const changed = upgraded(client)
    await once(client, 'connect')
    const { id } = client
    await changed
    assert.equal(client.io.engine.transport.name, 'websocket')
    await join(client, 'changed')
    assert.equal(client.id, id)
  })

  test('messages that fly both ways during the change each come once and in order, two hundred times', async () => {
    const MESSAGES = 20
    const all = Array.from({ length: MESSAGES }, (_, n) => n)
    const ada = await connect()
    await join(ada, 'the talk')
    const heard = new Map()
    ada.on('message', ({ n, userId }) => n !== undefined && userId !== ada.id && heard.get(userId)?.push(n))
    for (let round = 0; round < 200; round++) {
      const bob = changing()
      const changed = upgraded(bob)
      await once(bob, 'connect')
      heard.set(bob.id, [])
      const numbers = []
      const done = new Promise(resolve => {
        bob.on('message', ({ n, userId, of }) => userId === ada.id && of === round && numbers.push(n) === MESSAGES && resolve())
      })
      const own = new Promise(resolve => bob.on('message', ({ n, userId }) => userId === bob.id && n === MESSAGES - 1 && resolve()))
      await join(bob, 'the talk')
      for (const n of all) {
        ada.emit('message', { n, of: round })
        bob.emit('message', { n })
        if (n % 4 === 0) await new Promise(setImmediate)
      }
      await Promise.all([changed, done, own])
      assert.deepEqual(numbers, all, `round ${round}: from ada`)
      // Bob has heard its own last message; ada hears it from another connection.
      while (heard.get(bob.id).length < MESSAGES) await once(ada, 'message')
      assert.deepEqual(heard.get(bob.id), all, `round ${round}: from bob`)
      bob.disconnect()
    }
  })

  test('engine.io-client by itself changes too, and is told why it ends', async () => {
    const socket = new Engine(server.url, { path: '/socket.io/' })
    await once(socket, 'open')
    const [{ name }] = await once(socket, 'upgrade')
    assert.equal(name, 'websocket')
    socket.send('0')
    const [data] = await once(socket, 'message')
    assert.match(data, /^0\{"sid":/)
    const closed = once(socket, 'close')
    socket.send('no packet')
    assert.equal((await closed)[0], 'transport close')
  })
})

describe('ends and refusals', options, () => {
  test('a namespace that does not exist is refused, and the connection goes on', async () => {
    const client = await connect()
    const admin = client.io.socket('/admin')
    admin.connect()
    const [error] = await once(admin, 'connect_error')
    assert.equal(error.message, 'Invalid namespace')
    await join(client, 'still-here')
  })

  test('a client that disconnects and connects again is a new socket in no room', async () => {
    const [ada, bob] = [await connect(), await connect()]
    await join(ada, 'again')
    await join(bob, 'again')
    ada.disconnect()
    ada.connect()
    await once(ada, 'connect')
    const heard = []
    ada.onAny(name => heard.push(name))
    const said = nextWith(bob, 'message', 'text')
    bob.emit('message', { text: 'nobody else is here' })
    await said
    await join(ada, 'again')
    assert.deepEqual(heard, ['message'])
  })

  test('an old client is refused with a code', async () => {
    const old = await fetch(`${server.url}/socket.io/?EIO=3&transport=polling`)
    assert.equal(old.status, 400)
    assert.deepEqual(await old.json(), { code: 5, message: 'Unsupported protocol version' })
  })

  test('a server that stops makes its clients come back to its successor', async () => {
    const own = await startServer({ rates: 'default' })
    const client = io(own.url, { transports: ['websocket'], forceNew: true, reconnectionDelay: 50, randomizationFactor: 0 })
    clients.push(client)
    await once(client, 'connect')
    const reason = next(client, 'disconnect')
    await own.stop()
    assert.equal(await reason, 'transport close')
    await own.start()
    await once(client, 'connect')
    await join(client, 'back')
    client.disconnect()
    await own.stop()
  })
})
