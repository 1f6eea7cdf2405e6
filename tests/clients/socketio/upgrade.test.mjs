// Engine.IO 4, the upgrade: a session goes from polling to a WebSocket, and everything that may go wrong before it has.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames, request } from '../support/engineio.mjs'
import { joined, joinedByPolling, json } from '../support/packets.mjs'
import { CLOSE, frame } from '../support/raw.mjs'

const upgradeTimeout = 1_000
const said = packet => {
  assert.match(packet, /^42\["message",/)
  return json(packet)[1]
}

/** A session by WebSocket, in a room, with nothing to take. */
async function talker(port, room) {
  const frames = await joined(port, room)
  frames.send('42["message",{"joined":true}]')
  while (!(await frames.next()).includes('"joined":true')) {}
  return frames
}

/** The WebSocket of a session, with its probe answered. */
async function probed(port, session) {
  const frames = await Frames.upgrade(port, session.sid)
  frames.send('2probe')
  assert.equal(await frames.next(), '3probe')
  return frames
}

/** The session polls as before. */
async function stillPolls(session, name) {
  await session.send(`42["message",{"still":${JSON.stringify(name)}}]`)
  for (;;) {
    const packet = await session.next()
    if (packet.includes(`"still":${JSON.stringify(name)}`)) return
    assert.ok(packet === '6' || packet.startsWith('42['), packet)
  }
}

conformance('upgrade', { upgradeTimeout }, port => {
  test('a session that polls is told that it may upgrade, and goes on with a WebSocket', async () => {
    const [ada, session] = [await talker(port(), 'goes on'), await joinedByPolling(port(), 'goes on')]
    assert.deepEqual(session.open.upgrades, ['websocket'])
    assert.match(await ada.next(), /^42\["user-joined",/)
    assert.equal(said(await ada.next()).joined, true)
    const waits = session.get()
    const frames = await probed(port(), session)
    const released = await waits.answer
    assert.equal(released.status, 200)
    assert.equal(released.body, '6')
    // Nobody polls now: what is said is held, and comes in order.
    for (let n = 0; n < 5; n++) ada.send(`42["message",{"n":${n}}]`)
    for (let n = 0; n < 5; n++) assert.equal(said(await ada.next()).n, n)
    frames.send('5')
    for (let n = 0; n < 5; n++) assert.equal(said(await frames.next()).n, n)
    frames.send('42["message",{"n":5}]')
    assert.equal(said(await frames.next()).n, 5)
    assert.equal(said(await ada.next()).n, 5)
    frames.send('451-["message",{"file":{"_placeholder":true,"num":0}}]')
    frames.send(Buffer.from([1, 2, 3]))
    assert.match(await frames.next(), /^451-/)
    assert.deepEqual([...(await frames.next())], [1, 2, 3])
    frames.close()
    ada.close()
  })

  test('bytes that were held come in binary frames', async () => {
    const [ada, session] = [await talker(port(), 'held'), await joinedByPolling(port(), 'held')]
    const frames = await probed(port(), session)
    ada.send('451-["message",{"file":{"_placeholder":true,"num":0}}]')
    ada.send(Buffer.from([1, 2, 3]))
    for (let packet; typeof packet !== 'object'; ) packet = await ada.next()
    frames.send('5')
    assert.match(await frames.next(), /^451-/)
    assert.deepEqual([...(await frames.next())], [1, 2, 3])
    frames.close()
    ada.close()
  })

  test('after the upgrade a poll is refused, and the session goes on', async () => {
    const session = await joinedByPolling(port(), 'no polls')
    const frames = await probed(port(), session)
    frames.send('5')
    frames.send('42["message",{"n":1}]')
    assert.equal(said(await frames.next()).n, 1)
    for (const answer of [await session.poll(), await session.post('42["message",{}]')]) {
      assert.equal(answer.status, 400)
      assert.deepEqual(JSON.parse(answer.body), { code: 3, message: 'Bad request' })
    }
    frames.send('42["message",{"n":2}]')
    assert.equal(said(await frames.next()).n, 2)
    frames.close()
  })

  test('a second WebSocket is closed, before the upgrade and after it', async () => {
    const session = await joinedByPolling(port(), 'second')
    const frames = await probed(port(), session)
    for (const done of [false, true]) {
      if (done) {
        frames.send('5')
        frames.send('42["message",{"n":1}]')
        assert.equal(said(await frames.next()).n, 1)
      }
      const second = await Frames.upgrade(port(), session.sid)
      assert.deepEqual(await second.rest(), [])
      assert.notEqual(second.code, undefined)
    }
    frames.send('42["message",{"n":2}]')
    assert.equal(said(await frames.next()).n, 2)
    frames.close()
  })

  const breaks = [
    ['a message', ['40']],
    ['a message behind the probe', ['2probe', '42["message",{"stolen":true}]']],
    ['another ping', ['2']],
    ['a pong', ['3probe']],
    ['a close', ['1']],
    ['a noop', ['6']],
    ['a packet of no kind', ['x']],
    ['bytes', [Buffer.from([4])]],
  ]
  for (const [name, packets] of breaks) {
    test(`${name} before the upgrade closes the WebSocket, and the session polls on`, async () => {
      const session = await joinedByPolling(port(), `breaks ${name}`)
      const frames = await Frames.upgrade(port(), session.sid)
      for (const packet of packets) frames.send(packet)
      const answers = await frames.rest()
      assert.deepEqual(answers, packets.length > 1 ? ['3probe'] : [])
      await stillPolls(session, name)
      const again = await probed(port(), session)
      again.send('5')
      again.send('42["message",{"n":1}]')
      while (said(await again.next()).n !== 1) {}
      again.close()
    })
  }

  test('a WebSocket that its client ends before the upgrade leaves the session polling', async () => {
    const session = await joinedByPolling(port(), 'ends')
    const frames = await probed(port(), session)
    frames.write(frame(CLOSE, Buffer.from([0x03, 0xe8])))
    assert.deepEqual(await frames.rest(), [])
    await stillPolls(session, 'ends')
    const cut = await Frames.upgrade(port(), session.sid)
    cut.close()
    await stillPolls(session, 'cut')
  })

  test('an upgrade that is not done in time is closed, and the session polls on', async () => {
    const session = await joinedByPolling(port(), 'late')
    const frames = await probed(port(), session)
    assert.deepEqual(await frames.rest(), [])
    await stillPolls(session, 'late')
  })

  test('a WebSocket for an unknown session is refused', async () => {
    for (const sid of ['unknown', 'A'.repeat(30)]) {
      const answer = await request(port(), {
        query: `?EIO=4&transport=websocket&sid=${sid}`,
        headers: { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==' },
      })
      assert.equal(answer.status, 400)
      assert.match(answer.body, /Session ID unknown/)
    }
  })

  test('the heartbeat goes on by the WebSocket', async () => {
    const session = await joinedByPolling(port(), 'heartbeat')
    const frames = await probed(port(), session)
    frames.send('5')
    frames.send(`42["message",{"n":1}]`)
    assert.equal(said(await frames.next()).n, 1)
    frames.send('2')
    assert.deepEqual(await frames.rest(), [], 'a ping of the client is an error on this transport too')
  })

  test('a packet that the client posts before its upgrade comes before those that it sends after it', async () => {
    const [ada, session] = [await talker(port(), 'order'), await joinedByPolling(port(), 'order')]
    await session.send(...Array.from({ length: 50 }, (_, n) => `42["message",{"n":${n}}]`))
    const frames = await probed(port(), session)
    frames.send('5')
    for (let n = 50; n < 100; n++) frames.send(`42["message",{"n":${n}}]`)
    for (let n = 0; n < 100; ) {
      const packet = await ada.next()
      if (!packet.includes('"n":')) continue
      assert.equal(said(packet).n, n++)
    }
    frames.close()
    ada.close()
  })
})
