// Input of a broken or hostile client: each kind gets its own close code, and all other clients chat on.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import net from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import { ChatClient, freshRoom, stillChats } from './support/chat.mjs'
import { CLOSE, CONTINUATION, frame, handshakeHead, KEY, PING, RawSocket, TEXT } from './support/raw.mjs'
import { runServer, startServer } from './support/server.mjs'

const options = { timeout: 120_000 }
let server
let witness // joined first, and must still be served at the end
const room = freshRoom()

before(async () => {
  server = await startServer({ env: { FANFARE__CHAT__CONTENT_CHARS_MAX: '100000' } })
  witness = await ChatClient.join(server.ws, 'witness', room)
}, options)
after(async () => {
  await witness.close()
  await server.stop()
}, options)

afterEach(async () => {
  assert.ok(server.isRunning, `the server has ended:\n${server.output.slice(-2000)}`)
  await witness.expectSilence()
  await stillChats(server.ws)
}, options)

const upgraded = () => RawSocket.upgraded(server.port)
const join = JSON.stringify({ type: 'join', userId: 'raw', username: 'raw', roomId: freshRoom() })

/** Runs `action`, during which the server's greatest memory may grow by this much and no more. */
async function withinMemory(bytesMax, action) {
  const before = await server.peakBytes()
  await action()
  const grown = (await server.peakBytes()) - before
  assert.ok(grown <= bytesMax, `the server grew by ${grown} bytes, ${bytesMax} are allowed`)
}
/** Some hundred times what one connection may hold (64 KiB coming in, 256 KiB going out), far below what is sent at it. */
const MEMORY_MAX = 32 * 1024 * 1024

async function answerTo(head) {
  const raw = await RawSocket.open(server.port)
  raw.socket.write(head)
  const answer = await raw.head()
  raw.socket.destroy()
  assert.notEqual(answer, null, 'an answer, not just an end')
  return answer
}

describe('the handshake', options, () => {
  test('a right one is accepted, with the RFC\'s own example', async () => {
    const answer = await answerTo(handshakeHead(server.port))
    assert.equal(answer.status, 101)
    assert.equal(answer.headers['sec-websocket-accept'], 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
    assert.equal(answer.headers.upgrade.toLowerCase(), 'websocket')
    assert.equal(answer.headers['sec-websocket-extensions'], undefined, 'none was offered')
    assert.equal(answer.headers['sec-websocket-protocol'], undefined, 'none was offered')
  })

  test('names and values of headers are compared as the RFC says', async () => {
    const head = `GET / HTTP/1.1\r\nhOST: 127.0.0.1:${server.port}\r\nCONNECTION: keep-alive, upgrade\r\nupgrade: WebSocket\r\nsec-websocket-VERSION: 13\r\nSEC-websocket-key: ${KEY}\r\n\r\n`
    assert.equal((await answerTo(head)).status, 101)
  })

  test('byte by byte it is the same handshake', async () => {
    const raw = await RawSocket.open(server.port)
    for (const byte of Buffer.from(handshakeHead(server.port))) raw.socket.write(Buffer.from([byte]))
    assert.equal((await raw.head()).status, 101)
    raw.socket.destroy()
  })

  test('frames that follow it in the same packet are not lost', async () => {
    const raw = await RawSocket.open(server.port)
    raw.socket.write(Buffer.concat([Buffer.from(handshakeHead(server.port)), frame(TEXT, join)]))
    assert.equal((await raw.head()).status, 101)
    assert.equal(JSON.parse((await raw.frame()).payload).type, 'join')
    raw.socket.destroy()
  })

  for (const [name, lines] of [
    ['without a key', { 'Sec-WebSocket-Key': undefined }],
    ['with a key that is not 16 bytes', { 'Sec-WebSocket-Key': 'c2hvcnQ=' }],
    ['with a key that is not base64', { 'Sec-WebSocket-Key': '************************' }],
    ['with an empty key', { 'Sec-WebSocket-Key': '' }],
  ]) {
    test(`${name}: 400`, async () => assert.equal((await answerTo(handshakeHead(server.port, lines))).status, 400))
  }

  for (const version of ['8', '14', 'x']) {
    test(`version ${version}: 426, and the version that is spoken`, async () => {
      const answer = await answerTo(handshakeHead(server.port, { 'Sec-WebSocket-Version': version }))
      assert.equal(answer.status, 426)
      assert.equal(answer.headers['sec-websocket-version'], '13')
    })
  }

  // RFC 9110, 7.8: an HTTP/1.0 request has no upgrades, so this one asks for the page.
  test('HTTP/1.0: the page, and no WebSocket', async () => {
    assert.equal((await answerTo(handshakeHead(server.port).replace('HTTP/1.1', 'HTTP/1.0'))).status, 200)
  })

  for (const method of ['POST', 'PUT', 'BREW']) {
    test(`${method}: 400 or 405`, async () => {
      const { status } = await answerTo(handshakeHead(server.port, { 'Content-Length': '0' }).replace('GET', method))
      assert.ok(status === 400 || status === 405, `400 or 405, not ${status}`)
    })
  }

  test('a head over 16 KB: 431', async () => {
    assert.equal((await answerTo(handshakeHead(server.port, { 'X-Long': 'x'.repeat(17_000) }))).status, 431)
  })

  test('a head that never ends: 431 as soon as it is over 16 KB', async () => {
    assert.equal((await answerTo(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ${'x'.repeat(20_000)}`)).status, 431)
  })

  test('more than 100 headers: 431', async () => {
    const many = Object.fromEntries(Array.from({ length: 120 }, (_, n) => [`X-${n}`, '1']))
    assert.equal((await answerTo(handshakeHead(server.port, many))).status, 431)
  })

  test('no HTTP at all: 400, or the end', async () => {
    const raw = await RawSocket.open(server.port)
    raw.socket.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is no HTTP\r\n\r\n')
    const answer = await raw.head()
    assert.ok(answer === null || answer.status === 400, `400 or the end, not ${answer?.text}`)
    raw.socket.destroy()
  })
})

describe('frames', options, () => {
  async function refused(bytes, code) {
    const raw = await upgraded()
    raw.socket.write(bytes)
    assert.equal(await raw.closeCode(), code)
    // After the close frame the server ends the connection, even if the client says nothing more.
    raw.socket.end()
    await raw.closed
  }

  const cases = [
    ['an unmasked frame', frame(TEXT, join, { mask: false }), 1002],
    ...[1, 2, 4, 7].map(rsv => [`reserved bits ${rsv}`, frame(TEXT, join, { rsv }), 1002]),
    ...[3, 7, 11, 15].map(opcode => [`the reserved opcode ${opcode}`, frame(opcode, 'x'), 1002]),
    ['a ping in fragments', frame(PING, 'x', { fin: false }), 1002],
    ['a ping of 126 bytes', frame(PING, 'x'.repeat(126)), 1002],
    ['a continuation of nothing', frame(CONTINUATION, 'x'), 1002],
    ['a text inside a text', Buffer.concat([frame(TEXT, 'x', { fin: false }), frame(TEXT, 'y')]), 1002],
    ['a close of one byte', frame(CLOSE, 'x'), 1002],
    ...[999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].map(code => [`a close with the code ${code}`, frame(CLOSE, Buffer.from([code >> 8, code & 255])), 1002]),
    ['a close whose reason is no UTF-8', frame(CLOSE, Buffer.from([0x03, 0xe8, 0xff])), 1007],
    ['text that is no UTF-8', frame(TEXT, Buffer.from([0x22, 0xc3, 0x28, 0x22])), 1007],
    ['text with a surrogate in UTF-8', frame(TEXT, Buffer.from([0xed, 0xa0, 0x80])), 1007],
    ['text that ends inside a character', frame(TEXT, Buffer.from([0xe4, 0xb8])), 1007],
    ['text whose second fragment is no UTF-8', Buffer.concat([frame(TEXT, 'x', { fin: false }), frame(CONTINUATION, Buffer.from([0xff]))]), 1007],
    ['a length of 2^63-1', frame(TEXT, '', { length: 0x7fff_ffff_ffff_ffffn }), 1009],
    ['a length of 100 MB, announced only', frame(TEXT, '', { length: 100_000_000n }), 1009],
    ['70,000 bytes', frame(TEXT, 'x'.repeat(70_000)), 1009],
  ]
  for (const [name, bytes, code] of cases) test(`${name}: ${code}`, () => refused(bytes, code))

  test('a length of 2^64-1: refused', async () => {
    const raw = await upgraded()
    raw.socket.write(frame(TEXT, '', { length: 0xffff_ffff_ffff_ffffn }))
    const code = await raw.closeCode()
    assert.ok(code === 1002 || code === 1009, `1002 or 1009, not ${code}`)
    raw.socket.destroy()
  })

  test('100 MB in fragments: 1009 long before the end, and never in memory', () => withinMemory(MEMORY_MAX, async () => {
    const raw = await upgraded()
    const piece = 'x'.repeat(16_384)
    let code
    raw.closeCode().then(found => (code = found ?? 'ended'))
    raw.socket.write(frame(TEXT, piece, { fin: false }))
    for (let sent = 0; sent < 100_000_000 && code === undefined && !raw.ended; sent += piece.length) {
      if (!raw.socket.write(frame(CONTINUATION, piece, { fin: false }))) await Promise.race([once(raw.socket, 'drain'), raw.closed]).catch(() => {})
    }
    await raw.closed
    // The reset that answers our unread bytes may overtake the close frame: any end counts.
    assert.ok(code === 1009 || code === 'ended' || code === undefined, `1009, not ${code}`)
  }))

  test('50,000 empty fragments are one message', async () => {
    const raw = await upgraded()
    raw.socket.write(frame(TEXT, '{"type":"join","userId":"raw",', { fin: false }))
    const empty = frame(CONTINUATION, '', { fin: false })
    raw.socket.write(Buffer.concat(Array(50_000).fill(empty)))
    raw.socket.write(frame(CONTINUATION, `"username":"raw","roomId":"${freshRoom()}"}`))
    assert.equal(JSON.parse((await raw.frame()).payload).type, 'join')
    raw.socket.destroy()
  })
})

describe('abuse', options, () => {
  test('50,000 pings: answered or closed, others chat on meanwhile', async () => {
    const raw = await upgraded()
    const pings = Buffer.concat(Array(1_000).fill(frame(PING, 'ping')))
    for (let n = 0; n < 50 && !raw.ended; n++) raw.socket.write(pings)
    await stillChats(server.ws)
    // The server may answer each ping or only the latest (RFC 6455 §5.5.3): the ping after all of them is answered.
    raw.socket.write(frame(PING, 'last'))
    for (;;) {
      const next = await raw.frame()
      if (next === null || next.opcode === CLOSE || next.payload.toString() === 'last') break
    }
    raw.socket.destroy()
  })

  test('a peer that never reads does not hold up the room, nor fill the memory', () => withinMemory(MEMORY_MAX, async () => {
    const busy = freshRoom()
    const stalled = await upgraded()
    stalled.socket.pause()
    stalled.socket.write(frame(TEXT, JSON.stringify({ type: 'join', userId: 'stalled', username: 'stalled', roomId: busy })))
    const ada = await ChatClient.join(server.ws, 'ada', busy)
    const bob = await ChatClient.join(server.ws, 'bob', busy)
    await ada.expect('join', { userId: 'bob' })
    // 40 MB: far more than the kernel takes for a client that does not read.
    const content = 'z'.repeat(40_000)
    for (let n = 0; n < 1_000; n++) {
      ada.say(content)
      // One at a time, as in a real room: the client that does not read must fall behind, not ada.
      await bob.until('message', { userId: 'ada' })
      await ada.until('message', { userId: 'ada' })
    }
    stalled.socket.destroy()
    await Promise.all([ada.close(), bob.close()])
  }))

  test('one that only announces a message holds up nobody', async () => {
    const raw = await upgraded()
    raw.socket.write(frame(TEXT, 'x'.repeat(60_000)).subarray(0, 30_000))
    await stillChats(server.ws)
    raw.socket.destroy()
    await raw.closed
  })

  test('2,000 connections reset at once, then a new client is served', async () => {
    const sockets = []
    // In hundreds, so that the test does not overflow its own kernel's accept queue.
    for (let hundred = 0; hundred < 20; hundred++) {
      sockets.push(...(await Promise.all(Array.from({ length: 100 }, () => upgraded()))))
    }
    for (const raw of sockets) raw.socket.write(frame(TEXT, join))
    for (const raw of sockets) raw.socket.resetAndDestroy()
    await Promise.all(sockets.map(raw => raw.closed))
    await stillChats(server.ws)
  })

  test('2,000 connections that never say a word do not keep a new client out', async () => {
    const sockets = []
    for (let hundred = 0; hundred < 20; hundred++) {
      const batch = Array.from({ length: 100 }, () => net.connect(server.port, '127.0.0.1').on('error', () => {}))
      await Promise.all(batch.map(socket => once(socket, 'connect')))
      sockets.push(...batch)
    }
    await stillChats(server.ws)
    for (const socket of sockets) socket.resetAndDestroy()
  })
})

test('a port in use: exit 1, one sentence and a hint', options, async () => {
  const { code, stderr } = await runServer('dev', '--listen', new URL(server.url).host)
  assert.equal(code, 1, stderr)
  assert.match(stderr, new RegExp(String(server.port)), 'it names the port')
  assert.match(stderr, /^hint: /m)
})
