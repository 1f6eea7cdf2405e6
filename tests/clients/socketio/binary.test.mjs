// Socket.IO 5, attachments: both ways, and every way in which a packet can lie about them.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { ask, connect, enteredByPolling, json } from '../support/packets.mjs'

const place = num => `{"_placeholder":true,"num":${num}}`

conformance('binary', { handlers: 'all' }, port => {
  test('attachments follow their packet, both ways', async () => {
    const frames = await connect(port())
    frames.send(`452-["echo",{"a":${place(0)}},[${place(1)}]]`)
    frames.send(Buffer.from([1, 2, 3, 4]))
    frames.send(Buffer.from([5]))
    const packet = await frames.next()
    assert.match(packet, /^452-\[/)
    assert.deepEqual(json(packet), ['echoed', { a: { _placeholder: true, num: 0 } }, [{ _placeholder: true, num: 1 }]])
    assert.deepEqual([...(await frames.next())], [1, 2, 3, 4])
    assert.deepEqual([...(await frames.next())], [5])
    frames.close()
  })

  test('placeholders may come in any order', async () => {
    const frames = await connect(port())
    frames.send(`452-["echo",${place(1)},${place(0)}]`)
    frames.send(Buffer.from('first'))
    frames.send(Buffer.from('second'))
    const [, a, b] = json(await frames.next())
    const parts = [await frames.next(), await frames.next()].map(String)
    assert.deepEqual([parts[a.num], parts[b.num]], ['second', 'first'])
    frames.close()
  })

  test('ten attachments are allowed, and eleven close the connection', async () => {
    const frames = await connect(port())
    frames.send(`4510-["echo",${Array.from({ length: 10 }, (_, n) => place(n)).join()}]`)
    for (let n = 0; n < 10; n++) frames.send(Buffer.from([n]))
    assert.match(await frames.next(), /^4510-/)
    for (let n = 0; n < 10; n++) assert.deepEqual([...(await frames.next())], [n])
    frames.send(`4511-["echo",${Array.from({ length: 11 }, (_, n) => place(n)).join()}]`)
    assert.deepEqual(await frames.rest(), [])
  })

  test('by polling they are base64', async () => {
    const session = await enteredByPolling(port())
    assert.match(await session.next(), /^42\["auth"/)
    await session.send(`452-["echo",${place(0)},${place(1)}]`, 'bAQID', 'b')
    assert.deepEqual(json(await session.next()), ['echoed', { _placeholder: true, num: 0 }, { _placeholder: true, num: 1 }])
    assert.equal(await session.next(), 'bAQID')
    assert.equal(await session.next(), 'b')
  })

  test('they may come in another POST than their packet', async () => {
    const session = await enteredByPolling(port())
    assert.match(await session.next(), /^42\["auth"/)
    await session.send(`451-["echo",${place(0)}]`)
    await session.send('bAQID')
    assert.match(await session.next(), /^451-/)
    assert.equal(await session.next(), 'bAQID')
  })

  test('pings and pongs may come between them', async () => {
    const frames = await connect(port())
    frames.send(`452-["echo",${place(0)},${place(1)}]`)
    frames.send(Buffer.from([1]))
    frames.send('3')
    frames.send(Buffer.from([2]))
    assert.match(await frames.next(), /^452-/)
    frames.close()
  })

  for (const [name, ...packets] of [
    ['a binary message that no packet announced', Buffer.from([1])],
    ['a text where an attachment is missing', `451-["echo",${place(0)}]`, '42["echo"]'],
    ['more attachments than announced', `451-["echo",${place(0)}]`, Buffer.from([1]), Buffer.from([2])],
    ['a count that is no number', `45x-["echo",${place(0)}]`],
    ['no count', `45["echo",${place(0)}]`],
    ['a huge count', `45999999999999999999999-["echo",${place(0)}]`],
    ['a count of four billion', `454294967295-["echo",${place(0)}]`],
    ['a placeholder out of range', `451-["echo",${place(1)}]`, Buffer.from([1])],
    ['a placeholder below zero', `451-["echo",${place(-1)}]`, Buffer.from([1])],
    ['a placeholder that is a text', `451-["echo",${place('"0"')}]`, Buffer.from([1])],
  ]) {
    test(`${name} closes the connection, and no other one`, async () => {
      const [bad, good] = [await connect(port()), await connect(port())]
      for (const packet of packets) bad.send(packet)
      // Those that came before it may be answered.
      const rest = await bad.rest()
      assert.ok(rest.every(packet => typeof packet !== 'string' || packet.startsWith('451-')), JSON.stringify(rest))
      assert.deepEqual(await ask(good, 'ack', 1), [1])
      good.close()
    })
  }
})
