// Engine.IO 4 by WebSocket: packets both ways, and what ends a session.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { joined, said } from '../support/packets.mjs'
import { BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame } from '../support/raw.mjs'

conformance('websocket', {}, port => {
  test('a packet is one text frame, both ways and in order', async () => {
    const frames = await joined(port(), 'text')
    for (let n = 0; n < 100; n++) frames.send(`42["message",{"n":${n}}]`)
    for (let n = 0; n < 100; n++) assert.equal(said(await frames.next()).n, n)
    frames.close()
  })

  test('a binary message is one binary frame, both ways', async () => {
    const frames = await joined(port(), 'binary')
    frames.send('452-["message",{"a":{"_placeholder":true,"num":0},"b":{"_placeholder":true,"num":1}}]')
    frames.send(Buffer.from([1, 2, 3, 4]))
    frames.send(Buffer.alloc(0))
    const { a, b } = said(await frames.next())
    assert.deepEqual([a, b], [{ _placeholder: true, num: 0 }, { _placeholder: true, num: 1 }])
    assert.deepEqual([...(await frames.next())], [1, 2, 3, 4])
    assert.equal((await frames.next()).length, 0)
    frames.close()
  })

  test('a text frame of base64 is a binary message too', async () => {
    const frames = await joined(port(), 'base64')
    frames.send('451-["message",{"a":{"_placeholder":true,"num":0}}]')
    frames.send('bAQIDBA==')
    assert.equal(said(await frames.next()).a.num, 0)
    assert.deepEqual([...(await frames.next())], [1, 2, 3, 4])
    frames.close()
  })

  test('a message may come in fragments, with a ping of WebSocket between them', async () => {
    const frames = await joined(port(), 'fragments')
    const text = Buffer.from('42["message",{"text":"你好"}]')
    frames.write(frame(TEXT, text.subarray(0, 24), { fin: false }))
    frames.write(frame(PING, 'between'))
    frames.write(frame(CONTINUATION, text.subarray(24)))
    const pong = await frames.raw.frame()
    assert.equal(pong.opcode, PONG)
    assert.equal(pong.payload.toString(), 'between')
    assert.equal(said(await frames.next()).text, '你好')
    frames.close()
  })

  test('many packets of one segment are each taken', async () => {
    const frames = await joined(port(), 'segment')
    frames.write(Buffer.concat(Array.from({ length: 50 }, (_, n) => frame(TEXT, `42["message",{"n":${n}}]`))))
    for (let n = 0; n < 50; n++) assert.equal(said(await frames.next()).n, n)
    frames.close()
  })

  for (const [name, packet] of [
    ['of no kind', 'abc'],
    ['with a kind that does not exist', '9'],
    ['that is empty', ''],
    ['of the heartbeat in the wrong direction', '2'],
    ['with the probe of an upgrade', '2probe'],
  ]) {
    test(`a packet ${name} ends the session, and no other one`, async () => {
      const [bad, good] = [await joined(port(), `bad ${name}`), await joined(port(), `bad ${name}`)]
      bad.send(packet)
      await bad.rest()
      good.send('42["message",{"still":"here"}]')
      assert.equal(said(await good.next()).still, 'here')
      good.close()
    })
  }

  test('a pong that nobody asked for does no harm', async () => {
    const frames = await joined(port(), 'pong')
    frames.send('3')
    frames.send('3probe')
    frames.send('42["message",{"still":"here"}]')
    assert.equal(said(await frames.next()).still, 'here')
    frames.close()
  })

  test('a close frame is answered, and the session is over', async () => {
    const frames = await joined(port(), 'close')
    frames.write(frame(CLOSE, Buffer.from([0x03, 0xe8])))
    assert.equal(await frames.raw.closeCode(), 1000)
    assert.equal(await frames.raw.frame(), null)
  })

  test('the others of a room go on when a socket is cut', async () => {
    const [cut, stays] = [await joined(port(), 'cut'), await joined(port(), 'cut')]
    cut.close()
    stays.send('42["message",{"still":"here"}]')
    assert.equal(said(await stays.next()).still, 'here')
    stays.close()
  })

  test('broken frames end the session', async () => {
    for (const bytes of [frame(TEXT, '3', { mask: false }), frame(3, '3'), frame(TEXT, '3', { rsv: 1 }), frame(TEXT, Buffer.from([0x34, 0xff])), frame(CONTINUATION, '3'), frame(BINARY, '', { length: 1n << 63n })]) {
      const frames = await joined(port(), 'broken')
      frames.write(bytes)
      await frames.rest()
    }
  })
})
