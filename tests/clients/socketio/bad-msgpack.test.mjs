// Bad packets of clients with the msgpack parser: each closes its connection, and others go on.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import msgpack from 'socket.io-msgpack-parser'
import { conformance } from '../support/conformance.mjs'
import { Frames, Poller } from '../support/engineio.mjs'

const encode = packet => new msgpack.Encoder().encode(packet)[0]
const decode = bytes => {
  let packet
  const decoder = new msgpack.Decoder()
  decoder.on('decoded', decoded => (packet = decoded))
  decoder.add(bytes)
  return packet
}

const CONNECT = encode({ type: 0, nsp: '/' })
const event = (...data) => encode({ type: 2, nsp: '/', data })

/** A WebSocket in the namespace `/` and the room `room`. */
async function joined(port, room) {
  const frames = await Frames.session(port)
  frames.send(CONNECT)
  assert.equal(decode(await frames.next()).type, 0)
  frames.send(event('join-room', room))
  return frames
}

const PACKETS = [
  ['no bytes', Buffer.alloc(0)],
  ['a byte that begins nothing', Buffer.from([0xc1])],
  ['a map that ends early', event('message', {}).subarray(0, -3)],
  ['a text longer than its packet', Buffer.from([0x81, 0xa4, 0x74, 0x79, 0x70, 0x65, 0xdb, 0xff, 0xff, 0xff, 0xff])],
  ['an array of four thousand million', Buffer.from([0x81, 0xa4, 0x64, 0x61, 0x74, 0x61, 0xdd, 0xff, 0xff, 0xff, 0xff])],
  ['a map of four thousand million', Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff])],
  ['arrays of 100,000 levels', Buffer.concat([Buffer.from([0x83, 0xa4, 0x64, 0x61, 0x74, 0x61]), Buffer.alloc(100_000, 0x91)])],
  ['an array in the place of the packet', Buffer.from([0x90])],
  ['a text in the place of the packet', Buffer.from([0xa1, 0x61])],
  ['a packet without a type', encode({ nsp: '/', data: ['message', {}] })],
  ['a type that does not exist', encode({ type: 5, nsp: '/', data: ['message', {}] })],
  ['a negative type', encode({ type: -1, nsp: '/', data: ['message', {}] })],
  ['a type that is a text', encode({ type: '2', nsp: '/', data: ['message', {}] })],
  ['a packet without a namespace', encode({ type: 2, data: ['message', {}] })],
  ['a namespace that is a number', encode({ type: 2, nsp: 7, data: ['message', {}] })],
  ['an event whose data is no array', encode({ type: 2, nsp: '/', data: { 0: 'message' } })],
  ['an ack whose data is no array', encode({ type: 3, nsp: '/', id: 1, data: 'yes' })],
  ['an event whose id is a text', encode({ type: 2, nsp: '/', id: '1', data: ['message', {}] })],
  ['a DISCONNECT with data', encode({ type: 1, nsp: '/', data: [] })],
  ['a text', '42["message",{}]'],
]

conformance('bad packets of msgpack', { parser: 'msgpack' }, port => {
  /** A socket that goes on, whatever the others do. */
  async function witness(room, attack) {
    const good = await joined(port(), room)
    await attack()
    good.send(event('message', { still: 'here' }))
    const { data } = decode(await good.next())
    assert.equal(data[0], 'message')
    assert.equal(data[1].still, 'here')
    good.close()
  }

  for (const [name, packet] of PACKETS) {
    test(`${name} closes the connection`, () =>
      witness(name, async () => {
        const bad = await joined(port(), `bad ${name}`)
        bad.send(packet)
        assert.deepEqual(await bad.rest(), [])
      }))

    test(`${name} before CONNECT ends a session that polls`, () =>
      witness(`polled ${name}`, async () => {
        const session = await Poller.open(port())
        await session.post(typeof packet === 'string' ? packet : `b${packet.toString('base64')}`)
        while ((await session.get().answer)?.status === 200) {}
        assert.ok(await session.isOver())
      }))
  }
})
