// Socket.IO 5, events: any arguments both ways, names, and which ones a client may not send.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { connect, enteredByPolling, json } from '../support/packets.mjs'

conformance('events', { handlers: 'all' }, port => {
  test('arguments of every kind come back as they were', async () => {
    const frames = await connect(port())
    for (const args of [[], [1], ['1', 2, { 3: ['4'] }], [null, true, false], [0.5, -1, 1e21], ['', '"\\\u0000\u2028', '你好🎉'], [[[[]]], {}], [{ _placeholder: true, num: 0 }]]) {
      frames.send(`42${JSON.stringify(['echo', ...args])}`)
      const got = await frames.next()
      assert.match(got, /^42\[/)
      assert.deepEqual(json(got), ['echoed', ...args])
    }
    frames.close()
  })

  test('white space in the JSON does no harm', async () => {
    const frames = await connect(port())
    frames.send('42 [ "echo" , { "a" :\n1 } ]')
    assert.deepEqual(json(await frames.next()), ['echoed', { a: 1 }])
    frames.close()
  })

  test('events come in the order in which they were sent', async () => {
    const frames = await connect(port())
    for (let n = 0; n < 300; n++) frames.send(`42["echo",${n}]`)
    for (let n = 0; n < 300; n++) assert.equal(await frames.next(), `42["echoed",${n}]`)
    frames.close()
  })

  test('the same by polling', async () => {
    const session = await enteredByPolling(port())
    assert.equal(await session.next(), '42["auth",{}]')
    await session.send(...Array.from({ length: 100 }, (_, n) => `42["echo",${n}]`))
    for (let n = 0; n < 100; n++) assert.equal(await session.next(), `42["echoed",${n}]`)
  })

  test('an event that nobody handles, and one named by a number, do no harm', async () => {
    const frames = await connect(port())
    for (const packet of ['42["unknown"]', '42[1,2]', '42["unknown",{"a":1}]', '42[""]']) frames.send(packet)
    frames.send('42["echo"]')
    assert.equal(await frames.next(), '42["echoed"]')
    frames.close()
  })

  for (const name of ['connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener']) {
    test(`an event named ${name} closes the connection`, async () => {
      const frames = await connect(port())
      frames.send(`42["${name}"]`)
      assert.deepEqual(await frames.rest(), [])
    })
  }

  for (const [name, packet] of [
    ['that is an object', '42{}'],
    ['that is a text', '42"a"'],
    ['without a name', '42[]'],
    ['named by an object', '42[{}]'],
    ['named by null', '42[null]'],
    ['that is half', '42["echo"'],
    ['with text behind it', '42["echo"]x'],
    ['of no kind', '47'],
    ['of no kind, by a letter', '4abc'],
    ['that is empty', '4'],
  ]) {
    test(`a packet ${name} closes the connection, and no other one`, async () => {
      const [bad, good] = [await connect(port()), await connect(port())]
      bad.send(packet)
      assert.deepEqual(await bad.rest(), [])
      good.send('42["echo"]')
      assert.equal(await good.next(), '42["echoed"]')
      good.close()
    })
  }
})
