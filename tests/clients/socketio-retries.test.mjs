// `socket.io-client` with `retries`: it says each event again until it is acknowledged. An id with the event lets the
// server tell a repeat: what was said offline, or while the network lost the acks, is heard in order and once.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { io } from 'socket.io-client'
import { startExample } from './support/example.mjs'
import { startProxy } from './support/proxy.mjs'
import { startServer } from './support/server.mjs'

const options = { timeout: 120_000 }
const ROUNDS = 5
const EACH = 10

/** The server, and how its clients say and hear something. */
const SERVERS = {
  'the built-in events': {
    start: () => startServer({ rates: 'default' }),
    enter: client => client.emitWithAck('join-room', 'retries'),
    say: (client, n, ...ack) => client.emit('message', { n }, `id-${n}`, ...ack),
    hear: (client, listener) => client.on('message', ({ n }) => listener(n)),
    said: 'message',
  },
  'a handler in Rust': {
    start: () => startExample('socketio_features'),
    enter: async () => {},
    say: (client, n, ...ack) => client.emit('say once', n, `id-${n}`, ...ack),
    hear: (client, listener) => client.on('said', n => listener(n)),
    said: 'say once',
  },
}

for (const [name, { start, enter, say, hear, said }] of Object.entries(SERVERS)) {
  describe(`retries, ${name}`, options, () => {
    let server
    let proxy
    const clients = []
    before(async () => {
      server = await start()
      proxy = await startProxy(Number(new URL(server.url).port))
    }, options)
    after(async () => {
      clients.forEach(client => client.disconnect())
      await proxy?.stop()
      await server?.stop()
    }, options)

    const open = async (url, who, more) => {
      const client = io(url, { transports: ['websocket'], forceNew: true, auth: { name: who }, reconnectionDelay: 10, reconnectionDelayMax: 20, ...more })
      clients.push(client)
      await once(client, 'connect')
      return client
    }

    test('each event is heard once, in the order in which it was said', options, async () => {
      const bob = await open(server.url, 'bob')
      const heard = []
      const waits = new Set()
      hear(bob, n => {
        heard.push(n)
        waits.forEach(look => look())
      })
      const hears = n =>
        new Promise(resolve => {
          const look = () => heard.includes(n) && (waits.delete(look), resolve())
          waits.add(look)
          look()
        })
      const ada = await open(proxy.url, 'ada', { retries: 1_000, ackTimeout: 10_000 })
      let sent = 0
      ada.onAnyOutgoing(event => (sent += event === said))
      await enter(bob)
      await enter(ada)
      // By this nothing of `ada` waits for its ack.
      await new Promise(resolve => say(ada, 'ready', resolve))
      say(bob, 'ready too')
      await hears('ready too')

      const all = []
      for (let round = 0; round < ROUNDS; round++) {
        const numbers = Array.from({ length: EACH }, (_, at) => round * EACH + at)
        all.push(...numbers)
        // The first one arrives, and its ack does not.
        proxy.mute()
        say(ada, numbers[0])
        await hears(numbers[0])
        const gone = once(ada, 'disconnect')
        proxy.cut()
        await gone
        // The others are said offline.
        for (const n of numbers.slice(1, -1)) say(ada, n)
        await new Promise(resolve => say(ada, numbers.at(-1), resolve))
        await hears(numbers.at(-1))
      }
      assert.ok(sent > all.length + 1, `${sent} were sent, and nothing was said again`)
      assert.deepEqual(heard.filter(n => typeof n === 'number'), all)
    })

    test('an id counts once, whatever the event', options, async () => {
      const [ada, bob] = [await open(server.url, 'ada'), await open(server.url, 'bob')]
      await enter(ada)
      await enter(bob)
      const heard = []
      hear(bob, n => heard.push(n))
      const acked = (client, n, id) => new Promise(resolve => client.emit(said, said === 'message' ? { n } : n, id, resolve))
      await acked(ada, 'first', 'same')
      await acked(ada, 'second', 'same')
      await acked(ada, 'third', 'other')
      await acked(bob, 'last', 'another')
      while (!heard.includes('last')) await once(bob, said === 'message' ? 'message' : 'said')
      assert.deepEqual(heard, ['first', 'third', 'last'])
    })
  })
}
