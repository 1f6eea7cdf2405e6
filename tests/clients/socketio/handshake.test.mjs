// Engine.IO 4, the handshake: the open packet by both transports, each refusal with its code, CORS.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ORIGIN, conformance } from '../support/conformance.mjs'
import { Frames, PATH, Poller, request } from '../support/engineio.mjs'
import { RawSocket, handshakeHead } from '../support/raw.mjs'

const POLLING = '?EIO=4&transport=polling'
const WEBSOCKET = '?EIO=4&transport=websocket'
const settings = { pingInterval: 12_000, pingTimeout: 7_000, maxPayload: 100_000 }

conformance('handshake', settings, port => {
  test('a GET by polling opens a session', async () => {
    const { status, headers, body } = await request(port(), { query: POLLING })
    assert.equal(status, 200)
    assert.match(headers['content-type'], /^text\/plain; charset=utf-8$/i)
    assert.equal(headers['cache-control'], 'no-store')
    assert.equal(body[0], '0')
    const { sid, ...rest } = JSON.parse(body.slice(1))
    assert.match(sid, /^\S+$/)
    assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: 12_000, pingTimeout: 7_000, maxPayload: 100_000 })
  })

  test('a WebSocket opens a session, which has no further upgrade', async () => {
    const frames = await Frames.session(port())
    const { sid, ...rest } = frames.handshake
    assert.match(sid, /^\S+$/)
    assert.deepEqual(rest, { upgrades: [], pingInterval: 12_000, pingTimeout: 7_000, maxPayload: 100_000 })
    frames.close()
  })

  test('each session has an id of its own, and other parameters do not matter', async () => {
    const sessions = await Promise.all([1, 2, 3].map(n => Poller.open(port(), `&t=${n}&b64=1&unknown=%20`)))
    assert.equal(new Set(sessions.map(({ sid }) => sid)).size, 3)
  })

  const refusals = [
    ['no transport', { query: '?EIO=4' }, 0, 'Transport unknown'],
    ['no query', {}, 0, 'Transport unknown'],
    ['an unknown transport', { query: '?EIO=4&transport=pigeon' }, 0, 'Transport unknown'],
    ['an unknown session', { query: `${POLLING}&sid=unknown` }, 1, 'Session ID unknown'],
    ['an unknown session, by POST', { method: 'POST', body: '4x', query: `${POLLING}&sid=unknown` }, 1, 'Session ID unknown'],
    ['a handshake by POST', { method: 'POST', body: '', query: POLLING }, 2, 'Bad handshake method'],
    ['a handshake by PUT', { method: 'PUT', body: '', query: POLLING }, 2, 'Bad handshake method'],
    ['a handshake by DELETE', { method: 'DELETE', query: POLLING }, 2, 'Bad handshake method'],
    ['a WebSocket without an upgrade', { query: WEBSOCKET }, 3, 'Bad request'],
    ['version 3', { query: '?EIO=3&transport=polling' }, 5, 'Unsupported protocol version'],
    ['no version', { query: '?transport=polling' }, 5, 'Unsupported protocol version'],
  ]
  for (const [name, ask, code, message] of refusals) {
    test(`${name} is refused with code ${code}`, async () => {
      const answer = await request(port(), ask)
      assert.equal(answer.status, 400)
      assert.match(answer.headers['content-type'], /^application\/json/)
      assert.deepEqual(JSON.parse(answer.body), { code, message })
    })
  }

  for (const [name, query] of [
    ['no transport', '?EIO=4'],
    ['an unknown transport', '?EIO=4&transport=pigeon'],
    ['an unknown session', `${WEBSOCKET}&sid=unknown`],
    ['version 3', '?EIO=3&transport=websocket'],
    ['no version', '?transport=websocket'],
  ]) {
    test(`a WebSocket with ${name} is refused`, async () => {
      const raw = await RawSocket.open(port())
      raw.socket.write(handshakeHead(port(), {}, PATH + query))
      const head = await raw.head()
      // For the version the reference upgrades, and closes at once.
      if (head.status === 101) assert.notEqual(await raw.closeCode(), undefined)
      else assert.equal(head.status, 400)
      raw.socket.destroy()
    })
  }

  test('a session keeps its transport: a GET that names another one is refused, and the session goes on', async () => {
    const session = await Poller.open(port())
    const answer = await request(port(), { query: `${WEBSOCKET}&sid=${session.sid}` })
    assert.equal(answer.status, 400)
    assert.deepEqual(JSON.parse(answer.body), { code: 3, message: 'Bad request' })
    await session.send('40')
    assert.match(await session.next(), /^40\{"sid":/)
  })

  test('a session of a WebSocket cannot be polled', async () => {
    const frames = await Frames.session(port())
    for (const method of ['GET', 'POST']) {
      const answer = await request(port(), { method, body: method === 'POST' ? '4x' : undefined, query: `${POLLING}&sid=${frames.sid}` })
      assert.equal(answer.status, 400)
      assert.deepEqual(JSON.parse(answer.body), { code: 3, message: 'Bad request' })
    }
    frames.send('40')
    assert.match(await frames.next(), /^40\{"sid":/)
    frames.close()
  })

  test('a page of an allowed origin may read the answers, and a preflight allows POST', async () => {
    const headers = { Origin: ORIGIN }
    const answer = await request(port(), { query: POLLING, headers })
    assert.equal(answer.status, 200)
    assert.equal(answer.headers['access-control-allow-origin'], ORIGIN)
    const preflight = await request(port(), { method: 'OPTIONS', query: POLLING, headers: { ...headers, 'Access-Control-Request-Method': 'POST', 'Access-Control-Request-Headers': 'content-type' } })
    assert.ok([200, 204].includes(preflight.status), JSON.stringify(preflight))
    assert.equal(preflight.headers['access-control-allow-origin'], ORIGIN)
    assert.match(preflight.headers['access-control-allow-methods'], /POST/)
  })

  test('a page of another origin cannot read the answers', async () => {
    const answer = await request(port(), { query: POLLING, headers: { Origin: 'https://other.example' } })
    assert.notEqual(answer.headers['access-control-allow-origin'], 'https://other.example')
    assert.notEqual(answer.headers['access-control-allow-origin'], '*')
  })
})
