// More at once than the default rates of Fanfare allow: it takes some seconds, and everything arrives in its order. The
// reference server has no rates.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { joined, joinedByPolling, said } from '../support/packets.mjs'

/** A thousand at once, and a hundred a second. */
const COUNT = 1_500
const NUMBERS = Array.from({ length: COUNT }, (_, n) => n)
const message = n => `42["message",{"n":${n}}]`

/** The numbers of the next messages of a room, of so many. */
async function heard(reader, count) {
  const numbers = []
  while (numbers.length < count) {
    const packet = await reader.next()
    assert.notEqual(packet, undefined, `the end after ${numbers.length}`)
    if (packet.startsWith('42["message"')) numbers.push(said(packet).n)
  }
  return numbers
}

conformance('rates', {}, port => {
  test('the packets of one long POST are taken in, all and in order', async () => {
    const reader = await joined(port(), 'long-post')
    const session = await joinedByPolling(port(), 'long-post')
    const [, own, others] = await Promise.all([
      session.send(...NUMBERS.map(message)),
      heard(session, COUNT),
      heard(reader, COUNT + 1),
    ])
    assert.deepEqual(own, NUMBERS)
    assert.deepEqual(others.slice(1), NUMBERS, 'behind the message with which the sender has joined')
    await session.send(message(COUNT))
    assert.deepEqual(await heard(reader, 1), [COUNT])
  })

  test('the frames of a WebSocket that are sent at once are taken in, all and in order', async () => {
    const reader = await joined(port(), 'many-frames')
    const sender = await joined(port(), 'many-frames')
    NUMBERS.forEach(n => sender.send(message(n)))
    const [own, others] = await Promise.all([heard(sender, COUNT), heard(reader, COUNT + 1)])
    assert.deepEqual([own, others.slice(1)], [NUMBERS, NUMBERS], 'behind the message with which the sender has joined')
  })
})
