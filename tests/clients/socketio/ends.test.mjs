// How connections end, as both sides hear it: the word of the server's `disconnect`, the word of the client's, and
// whether the client goes on as the same socket when it comes back. The client is `socket.io-client`; where it would
// never do such a thing itself, the test reaches into its engine. Both servers must say the same.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, test } from 'node:test'
import { io } from 'socket.io-client'
import { conformance } from '../support/conformance.mjs'
import { startProxy } from '../support/proxy.mjs'

const SETTINGS = { handlers: 'all', recovery: 60_000, pingInterval: 25_000, maxPayload: 10_000 }
/** With a heartbeat that a client may miss in the time of a test. */
const QUICK = { ...SETTINGS, pingInterval: 1_000, pingTimeout: 1_000 }

/** The socket below a client that has a WebSocket. */
const tcp = client => client.io.engine.transport.ws._socket
/** Sends a packet of the engine, or what passes for one. */
const say = (client, packet) => client.io.engine.transport.ws.send(packet)
/** Another request for the session of a client that polls. */
const ask = (client, options) => fetch(client.io.engine.transport.uri(), options).then(answer => answer.text(), () => {})
const post = (client, body, headers = { 'content-type': 'text/plain;charset=UTF-8' }) => ask(client, { method: 'POST', body, headers })

/** The client says goodbye by another request, which may overtake the end of its GET. */
const GIVEN_UP = ['transport error', 'transport close']
/** The words of a server whose client breaks the rules while no GET waits, or while one does. */
const FORCED = ['forced close', 'forced server close']

/** name, transport, what happens, the server's word, the client's word, and whether the client goes on as the same socket. */
const ENDS = [
  ['the client leaves', 'websocket', ({ client }) => client.disconnect(), 'client namespace disconnect', 'io client disconnect', false],
  ['the client leaves', 'polling', ({ client }) => client.disconnect(), 'client namespace disconnect', 'io client disconnect', false],
  ['the server disconnects the socket', 'websocket', ({ client }) => client.emit('disconnect-me', false), 'server namespace disconnect', 'io server disconnect', false],
  ['the server disconnects the socket', 'polling', ({ client }) => client.emit('disconnect-me', false), 'server namespace disconnect', 'io server disconnect', false],
  ['the server closes the connection', 'websocket', ({ client }) => client.emit('disconnect-me', true), 'server namespace disconnect', 'io server disconnect', false],
  ['the server closes the connection', 'polling', ({ client }) => client.emit('disconnect-me', true), 'server namespace disconnect', 'io server disconnect', false],
  ['the client closes its engine', 'websocket', ({ client }) => client.io.engine.close(), 'transport close', 'forced close', true],
  ['the client closes its engine', 'polling', ({ client }) => client.io.engine.close(), 'transport close', 'forced close', true],
  ['the connection ends', 'websocket', ({ client }) => tcp(client).end(), 'transport close', 'transport close', true],
  ['the connection is reset', 'websocket', ({ client }) => tcp(client).resetAndDestroy(), 'transport close', 'transport close', true],
  ['the network cuts it', 'websocket', ({ proxy }) => proxy.cut(), 'transport close', 'transport close', true],
  ['the network cuts it', 'polling', ({ proxy }) => proxy.cut(), GIVEN_UP, 'transport error', true],
  ['a second GET', 'polling', ({ client }) => ask(client), 'transport error', 'transport close', true],
  ['a POST beyond the limit', 'polling', ({ client }) => post(client, `42["echo","${'x'.repeat(20_000)}"]`), 'transport error', 'transport close', true],
  ['a POST of bytes', 'polling', ({ client }) => post(client, '42["echo"]', { 'content-type': 'application/octet-stream' }), 'transport error', 'transport close', true],
  ['a message beyond the limit', 'websocket', ({ client }) => client.emit('echo', 'x'.repeat(20_000)), 'transport error', 'transport close', true],
  ['a frame that is none', 'websocket', ({ client }) => tcp(client).write(Buffer.from([0xff, 0xff])), 'transport error', 'transport close', true],
  ['a ping of the client', 'websocket', ({ client }) => say(client, '2'), 'transport error', 'transport close', true],
  ['a ping of the client', 'polling', ({ client }) => post(client, '2'), 'transport error', 'transport close', true],
  ['a packet of no kind', 'websocket', ({ client }) => say(client, 'x'), 'parse error', 'transport close', false],
  ['a packet of no kind', 'polling', ({ client }) => post(client, 'x'), 'parse error', 'transport close', false],
  ['a message that is none', 'websocket', ({ client }) => say(client, '4x'), 'forced close', 'transport close', true],
  ['a message that is none', 'polling', ({ client }) => post(client, '4x'), FORCED, 'transport close', true],
  ['an attachment of no message', 'websocket', ({ client }) => say(client, Buffer.from([1])), 'forced close', 'transport close', true],
  ['a second CONNECT', 'websocket', ({ client }) => say(client, '40'), 'forced close', 'transport close', true],
  ['a second CONNECT', 'polling', ({ client }) => post(client, '40'), FORCED, 'transport close', true],
  ['a namespace that was not entered', 'websocket', ({ client }) => say(client, '42/custom,["echo"]'), 'forced close', 'transport close', true],
]

const SILENCE = ['nothing passes any more', 'websocket', ({ proxy }) => proxy.stall(), 'ping timeout', 'ping timeout', true]

const opened = []
const proxies = []
after(() => {
  opened.forEach(client => client.disconnect())
  return Promise.all(proxies.map(proxy => proxy.stop()))
})

async function open(port, transport, name) {
  const client = io(`http://127.0.0.1:${port}`, { forceNew: true, transports: [transport], auth: { name }, reconnectionDelay: 10, reconnectionDelayMax: 20 })
  opened.push(client)
  await once(client, 'connect')
  return client
}

/** Hears from the server who has gone, and why. */
async function witness(port) {
  const watcher = await open(port, 'websocket', 'the witness')
  await watcher.emitWithAck('join', 'watchers')
  return name => new Promise(resolve => watcher.on('gone', (who, reason) => who === name && resolve(reason)))
}

/** The client has had an event, with an offset. If it polls, a GET is under way, and most likely waits at the server. */
async function settled(client) {
  const echoed = once(client, 'echoed')
  client.emit('echo', 1)
  await echoed
  const { transport } = client.io.engine
  if (transport.name !== 'polling') return
  if (!transport._polling) await once(transport, 'poll')
  await post(client, '3')
}

async function ends(port, [name, transport, act, server, word, recovered]) {
  const gone = await witness(port)
  const who = `${name}, ${transport}`
  const proxy = await startProxy(port)
  proxies.push(proxy)
  const client = await open(proxy.port, transport, who)
  await settled(client)
  const { id } = client
  const [told, heard] = [gone(who), once(client, 'disconnect')]
  act({ client, proxy })
  const [theirs, [ours]] = await Promise.all([told, heard])
  assert.ok([server].flat().includes(theirs), `the server says ${theirs}`)
  assert.equal(ours, word)
  const back = once(client, 'connect')
  proxy.heal()
  if (!client.active) client.connect()
  await back
  assert.deepEqual({ recovered: client.recovered === true, same: client.id === id }, { recovered, same: recovered })
}

conformance('ends', SETTINGS, port => {
  for (const row of ENDS) test(`${row[0]}, by ${row[1]}`, () => ends(port(), row))
})

conformance('ends by silence', QUICK, port => {
  test(`${SILENCE[0]}, by ${SILENCE[1]}`, () => ends(port(), SILENCE))
})

conformance('the end of the server', SETTINGS, (port, _, server) => {
  test('each client hears that its transport was closed', async () => {
    const clients = [await open(port(), 'websocket', 'ada'), await open(port(), 'polling', 'bob')]
    await Promise.all(clients.map(settled))
    const heard = clients.map(client => once(client, 'disconnect'))
    await server().terminate()
    for (const [word] of await Promise.all(heard)) assert.equal(word, 'transport close')
  })
})
