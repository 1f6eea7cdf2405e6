// Engine.IO 4, the heartbeat: the server pings, the first time one interval after the open packet; a client that does
// not answer is closed; a client that pings is closed.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames, Poller } from '../support/engineio.mjs'

const pingInterval = 1_000
const settings = { pingInterval, pingTimeout: 1_000 }
/** Timers may fire a little early, and two clocks are read. */
const ALMOST = pingInterval - 100
const now = () => performance.now()

conformance('heartbeat', settings, port => {
  test('a WebSocket is pinged one interval after the open packet, and again after its pong', async () => {
    const frames = await Frames.session(port())
    for (let n = 0; n < 3; n++) {
      const before = now()
      assert.equal(await frames.next(), '2')
      assert.ok(now() - before >= ALMOST, `ping ${n} came after ${now() - before} ms`)
      frames.send('3')
    }
    frames.close()
  })

  test('a client that polls is pinged alike', async () => {
    const session = await Poller.open(port())
    for (let n = 0; n < 3; n++) {
      const before = now()
      assert.equal(await session.next(), '2')
      assert.ok(now() - before >= ALMOST, `ping ${n} came after ${now() - before} ms`)
      await session.send('3')
    }
  })

  test('a WebSocket without a pong is closed after the timeout', async () => {
    const frames = await Frames.session(port())
    const before = now()
    assert.deepEqual(await frames.rest(), ['2'])
    assert.ok(now() - before >= ALMOST * 2, `it was closed after ${now() - before} ms`)
  })

  test('a client that polls and sends no pong loses its session, and its GET is answered', async () => {
    const session = await Poller.open(port())
    assert.equal(await session.next(), '2')
    const { status, body } = await session.poll()
    if (status === 200) assert.match(body, /^[16]$/)
    const { status: after, body: text } = await session.post('3')
    assert.equal(after, 400)
    assert.deepEqual(JSON.parse(text), { code: 1, message: 'Session ID unknown' })
  })

  test('a client that does not poll at all loses its session', async () => {
    const silent = await Poller.open(port())
    const witness = await Frames.session(port())
    // The witness lives through more intervals than the silent one may.
    for (let n = 0; n < 4; n++) {
      assert.equal(await witness.next(), '2')
      witness.send('3')
    }
    const { status, body } = await silent.post('3')
    assert.equal(status, 400)
    assert.deepEqual(JSON.parse(body), { code: 1, message: 'Session ID unknown' })
    witness.close()
  })

  test('events do not stop the pings', async () => {
    const frames = await Frames.session(port())
    frames.send('40')
    assert.match(await frames.next(), /^40/)
    for (let n = 0; n < 2; n++) {
      for (let pinged = false; !pinged; ) {
        frames.send('42["nothing"]')
        pinged = (await frames.next()) === '2'
      }
      frames.send('3')
    }
    frames.close()
  })

  test('a ping of a client ends its session', async () => {
    const frames = await Frames.session(port())
    frames.send('2')
    assert.deepEqual(await frames.rest(), [])
  })
})
