// Engine.IO 4, the limit of a payload: `maxPayload` of the open packet holds for a POST and for a WebSocket's message.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames, Poller, SEPARATOR, request } from '../support/engineio.mjs'
import { enteredByPolling, joined, said } from '../support/packets.mjs'
import { CONTINUATION, TEXT, frame } from '../support/raw.mjs'

const maxPayload = 50_000
const sized = (size, text = '') => `42["message",{"text":"${text.padEnd(size - '42["message",{"text":""}]'.length, 'x')}"}]`

conformance('payloads', { maxPayload }, port => {
  test('the open packet says the limit', async () => {
    assert.equal((await Poller.open(port())).open.maxPayload, maxPayload)
    const frames = await Frames.session(port())
    assert.equal(frames.handshake.maxPayload, maxPayload)
    frames.close()
  })

  test('a message of a WebSocket may be as long as the limit', async () => {
    const frames = await joined(port(), 'longest')
    frames.send(sized(maxPayload))
    assert.equal(`42["message",{"text":"${said(await frames.next()).text}"}]`.length, maxPayload)
    frames.close()
  })

  test('a longer one ends the session with 1009', async () => {
    const frames = await joined(port(), 'too-long')
    frames.send(sized(maxPayload + 1))
    assert.deepEqual(await frames.rest(), [])
    assert.equal(frames.code, 1009)
  })

  test('fragments count together', async () => {
    const frames = await joined(port(), 'fragments')
    frames.write(frame(TEXT, sized(maxPayload), { fin: false }))
    frames.write(frame(CONTINUATION, 'x'))
    assert.deepEqual(await frames.rest(), [])
    assert.equal(frames.code, 1009)
  })

  test('a POST may be as long as the limit', async () => {
    const session = await enteredByPolling(port())
    await session.send('42["join-room","posts"]')
    await session.send(sized(maxPayload))
    assert.equal(`42["message",{"text":"${said(await session.next()).text}"}]`.length, maxPayload)
  })

  test('a longer one is refused with 413 and ends the session', async () => {
    const session = await Poller.open(port())
    const answer = await session.post(sized(maxPayload + 1))
    assert.equal(answer.status, 413)
    const { status, body } = await session.post('3')
    assert.equal(status, 400)
    assert.deepEqual(JSON.parse(body), { code: 1, message: 'Session ID unknown' })
  })

  test('so is one of unknown length', async () => {
    const session = await Poller.open(port())
    const chunk = 'x'.repeat(maxPayload)
    const body = `${chunk.length.toString(16)}\r\n4${chunk.slice(1)}\r\n1\r\nx\r\n0\r\n\r\n`
    const answer = await request(port(), { method: 'POST', query: session.query, headers: { 'Transfer-Encoding': 'chunked' }, body, claimed: null })
    assert.equal(answer.status, 413)
    assert.equal((await session.post('3')).status, 400)
  })

  test('a POST of ten thousand packets is taken in order, or ends the session', async () => {
    const session = await Poller.open(port())
    const packets = Array.from({ length: 10_000 }, () => '3')
    const answer = await session.post(packets.join(SEPARATOR))
    assert.equal(answer.status, 200)
    await session.send('40')
    assert.match(await session.next(), /^40/)
  })
})
