// The clients that docs/socketio.md names, each against the reference server and against Fanfare: `socket.io-client`,
// current and 4.0, with the standard parser and with msgpack; `engine.io-client`; Python's `python-socketio`.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { after, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Socket as EngineSocket } from 'engine.io-client'
import * as current from 'socket.io-client'
import * as old from 'socket.io-client-4.0'
import msgpack from 'socket.io-msgpack-parser'
import { conformance } from '../support/conformance.mjs'
import { join, nextWith } from '../support/socketio.mjs'

const HERE = fileURLToPath(new URL('..', import.meta.url))
/** The environment of `cargo xtask test`; made by hand: README.md. */
const PYTHON = process.env.PYTHON_SOCKETIO ?? fileURLToPath(new URL('../../../target/python/tests-clients/bin/python', import.meta.url))
const WAYS = [['websocket'], ['polling'], undefined]

const opened = []
after(() => opened.forEach(client => client.disconnect()))

/** The same conversation for every client of JavaScript. */
function scenario(io, port, settings) {
  const open = async more => {
    const client = io(`http://127.0.0.1:${port()}`, { forceNew: true, ...settings, ...more })
    opened.push(client)
    await once(client, 'connect')
    return client
  }
  for (const transports of WAYS) {
    const way = transports ?? 'as it begins by itself'
    test(`a room hears who joins, speaks and types: ${way}`, async () => {
      const [ada, bob] = [await open({ transports }), await open({ transports })]
      const room = `room ${way}`
      await join(ada, room)
      const joined = nextWith(ada, 'user-joined', 'userId')
      await join(bob, room)
      assert.equal((await joined).userId, bob.id)
      const said = Promise.all([ada, bob].map(client => nextWith(client, 'message', 'text')))
      bob.emit('message', { text: '你好', n: [1, -1, 1.5, null, true, { deep: [] }] })
      for (const message of await said) {
        assert.equal(typeof message.timestamp, 'number')
        delete message.timestamp
        assert.deepEqual(message, { text: '你好', n: [1, -1, 1.5, null, true, { deep: [] }], userId: bob.id })
      }
      const typing = nextWith(ada, 'user-typing', 'userId')
      bob.emit('typing', true)
      assert.deepEqual(await typing, { userId: bob.id, isTyping: true })
    })

    test(`a hundred messages come once and in order: ${way}`, async () => {
      const [ada, bob] = [await open({ transports }), await open({ transports })]
      await join(ada, `order ${way}`)
      await join(bob, `order ${way}`)
      const numbers = []
      const all = new Promise(resolve => bob.on('message', ({ n }) => n !== undefined && numbers.push(n) === 100 && resolve()))
      for (let n = 0; n < 100; n++) ada.emit('message', { n })
      await all
      assert.deepEqual(numbers, Array.from({ length: 100 }, (_, n) => n))
    })

    test(`binary data passes: ${way}`, async () => {
      const [ada, bob] = [await open({ transports }), await open({ transports })]
      await join(ada, `binary ${way}`)
      await join(bob, `binary ${way}`)
      const parts = [Buffer.from([0, 255]), Buffer.alloc(0), Buffer.from('x'.repeat(100_000))]
      const got = Promise.all([ada, bob].map(client => nextWith(client, 'message', 'parts')))
      ada.emit('message', { parts })
      for (const message of await got) {
        assert.deepEqual(message.parts.map(part => Buffer.from(part)), parts)
      }
    })
  }

  test('messages that were emitted before the connection are sent in order', async () => {
    const client = io(`http://127.0.0.1:${port()}`, { forceNew: true, ...settings })
    opened.push(client)
    client.emit('join-room', 'early')
    for (let n = 0; n < 20; n++) client.emit('message', { n })
    const numbers = []
    await new Promise(resolve => client.on('message', ({ n }) => numbers.push(n) === 20 && resolve()))
    assert.deepEqual(numbers, Array.from({ length: 20 }, (_, n) => n))
  })

  test('a namespace that does not exist is refused, and the connection goes on', async () => {
    const client = await open()
    const admin = client.io.socket('/nowhere')
    admin.connect()
    const [error] = await once(admin, 'connect_error')
    assert.equal(error.message, 'Invalid namespace')
    admin.disconnect()
    await join(client, 'still-here')
  })

  test('a client that disconnects leaves its room, and may come back as a new socket', async () => {
    const [ada, bob] = [await open(), await open()]
    await join(ada, 'again')
    await join(bob, 'again')
    const before = ada.id
    ada.disconnect()
    ada.connect()
    await once(ada, 'connect')
    assert.notEqual(ada.id, before)
    const joined = nextWith(bob, 'user-joined', 'userId')
    await join(ada, 'again')
    assert.equal((await joined).userId, ada.id)
  })
}

/** What handlers of the application do, for every client of JavaScript. */
function handled(io, port, settings) {
  const open = async (namespace, more) => {
    const client = io(`http://127.0.0.1:${port()}${namespace}`, { forceNew: true, ...settings, ...more })
    opened.push(client)
    await once(client, 'connect')
    return client
  }
  const ack = (client, ...event) => new Promise(resolve => client.emit(...event, (...args) => resolve(args)))

  for (const transports of WAYS) {
    const way = transports ?? 'as it begins by itself'
    test(`acks come with any arguments: ${way}`, async () => {
      const client = await open('/', { transports })
      assert.deepEqual(await ack(client, 'ack'), [])
      assert.deepEqual(await ack(client, 'ack', 1, 'é', { a: [null, 1.5] }), [1, 'é', { a: [null, 1.5] }])
      const [bytes] = await ack(client, 'ack', Buffer.from([1, 2, 3]))
      assert.deepEqual([...Buffer.from(bytes)], [1, 2, 3])
    })

    test(`the server asks, and gets an answer, bytes, or none: ${way}`, async () => {
      const client = await open('/', { transports })
      client.once('question', (arg, answer) => answer({ got: arg }))
      client.emit('ask', 60_000, 'what?')
      assert.deepEqual((await once(client, 'answer'))[0], { got: 'what?' })
      client.once('question', answer => answer(Buffer.from([7])))
      client.emit('ask-bytes')
      assert.deepEqual([...Buffer.from((await once(client, 'answer'))[0])], [7])
      client.once('question', () => {})
      client.emit('ask', 100, 'silence')
      await once(client, 'no-answer')
    })

    test(`a guard refuses with data, and lets the same client in with a token: ${way}`, async () => {
      const client = io(`http://127.0.0.1:${port()}/guarded`, { forceNew: true, ...settings, transports, auth: { more: true } })
      opened.push(client)
      const [error] = await once(client, 'connect_error')
      assert.equal(error.message, 'not authorized')
      assert.deepEqual(error.data, { content: 'Please retry later', n: 1 })
      client.auth = { token: 'let me in' }
      const heard = once(client, 'auth')
      client.connect()
      assert.deepEqual(await heard, [{ token: 'let me in' }])
    })
  }

  test('namespaces share a connection', async () => {
    const main = await open('/')
    const custom = main.io.socket('/custom')
    const entered = once(custom, 'connect')
    if (!custom.active) custom.connect() // some versions have done it by themselves
    await entered
    assert.notEqual(custom.id, main.id)
    assert.deepEqual(await ack(custom, 'ack', 'custom'), ['custom'])
    assert.deepEqual(await ack(main, 'ack', 'main'), ['main'])
    custom.disconnect()
    assert.deepEqual(await ack(main, 'ack', 'still here'), ['still here'])
  })

  test('a client that the server disconnects is told so, and does not come back by itself', async () => {
    for (const transport of ['websocket', 'polling']) {
      for (const close of [false, true]) {
        const client = await open('/', { transports: [transport] })
        const gone = once(client, 'disconnect')
        client.emit('disconnect-me', close)
        assert.equal((await gone)[0], 'io server disconnect')
        assert.equal(client.active, false)
      }
    }
  })
}

const PYTHON_CLIENT = { timeout: 120_000 }

conformance('clients of the standard parser', {}, port => {
  describe('socket.io-client', () => scenario(current.io, port, {}))
  describe('socket.io-client 4.0', () => scenario(old.io, port, {}))

  for (const transports of WAYS) {
    test(`engine.io-client: ${transports ?? 'as it begins by itself'}`, async () => {
      const socket = new EngineSocket(`http://127.0.0.1:${port()}`, { path: '/socket.io/', ...(transports && { transports }) })
      const packets = []
      const got = text =>
        new Promise(resolve => socket.on('message', data => (packets.push(data), String(data).includes(text) && resolve(data))))
      await once(socket, 'open')
      const connected = got('"sid"')
      socket.send('0')
      assert.match(await connected, /^0\{"sid":"[^"]+"/)
      const said = got('"text"')
      socket.send('2["join-room","engine"]')
      socket.send('2["message",{"text":"hello"}]')
      assert.match(await said, /^2\["message",\{"text":"hello","userId":"[^"]+","timestamp":\d+\}\]$/)
      const closed = once(socket, 'close')
      socket.close()
      assert.equal((await closed)[0], 'forced close')
    })
  }

  test('python-socketio, blocking and with asyncio', PYTHON_CLIENT, async () => {
    await new Promise((resolve, reject) =>
      execFile(PYTHON, [`${HERE}socketio_client.py`, `http://127.0.0.1:${port()}`], PYTHON_CLIENT, (error, stdout, stderr) => {
        if (error) reject(new Error(`${PYTHON} (see README.md): ${error.message}\n${stdout}${stderr}`))
        else resolve()
      }),
    )
  })
})

conformance('handlers and clients of the standard parser', { handlers: 'all' }, port => {
  describe('socket.io-client', () => handled(current.io, port, {}))
  describe('socket.io-client 4.0', () => handled(old.io, port, {}))
})

conformance('handlers and clients of the msgpack parser', { handlers: 'all', parser: 'msgpack' }, port => {
  describe('socket.io-client', () => handled(current.io, port, { parser: msgpack }))
  describe('socket.io-client 4.0', () => handled(old.io, port, { parser: msgpack }))
})

conformance('clients of the msgpack parser', { parser: 'msgpack' }, port => {
  describe('socket.io-client', () => scenario(current.io, port, { parser: msgpack }))
  describe('socket.io-client 4.0', () => scenario(old.io, port, { parser: msgpack }))

  test('a client of the standard parser is disconnected', async () => {
    const client = current.io(`http://127.0.0.1:${port()}`, { forceNew: true, reconnection: false, transports: ['websocket'] })
    opened.push(client)
    const [reason] = await once(client.io, 'close')
    assert.equal(reason, 'transport close')
  })
})
