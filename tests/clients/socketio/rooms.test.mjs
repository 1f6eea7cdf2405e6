// Socket.IO's rooms: who hears what is sent to rooms, except rooms, to all, and what a server does to the sockets of a
// room.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { ask, connect, enteredByPolling, json } from '../support/packets.mjs'

/** Sockets with the rooms that they have joined, by name. */
async function sockets(port, rooms) {
  const all = {}
  for (const [name, joined] of Object.entries(rooms)) {
    all[name] = await connect(port)
    for (const room of joined) await ask(all[name], 'join', room)
  }
  return all
}

/** Which of the sockets have heard `value`: each is asked for an ack, which comes behind everything before it. */
async function hearers(all, value) {
  const heard = []
  for (const [name, frames] of Object.entries(all)) {
    frames.send('4299["ack"]')
    for (;;) {
      const packet = await frames.next()
      if (packet === '4399[]') break
      assert.deepEqual(json(packet), ['sent', value], name)
      heard.push(name)
    }
  }
  return heard.sort()
}

/** A socket of its own sends, so that its ack says that the sending is done. */
async function send(frames, ...event) {
  frames.send(`42${JSON.stringify(event)}`)
  // The events of one socket are handled in order.
  frames.send('4298["ack"]')
  for (;;) if ((await frames.next()) === '4398[]') return
}

conformance('rooms', { handlers: 'all' }, port => {
  test('a socket is in the room of its id, and in those that it joined, in this order', async () => {
    const frames = await connect(port())
    assert.deepEqual(await ask(frames, 'rooms'), [[frames.id]])
    for (const room of ['b', 'a', 'c', 'a']) await ask(frames, 'join', room)
    assert.deepEqual(await ask(frames, 'rooms'), [[frames.id, 'b', 'a', 'c']])
    await ask(frames, 'leave', 'a')
    await ask(frames, 'leave', 'never joined')
    assert.deepEqual(await ask(frames, 'rooms'), [[frames.id, 'b', 'c']])
    await ask(frames, 'join', 'a')
    assert.deepEqual(await ask(frames, 'rooms'), [[frames.id, 'b', 'c', 'a']])
    frames.close()
  })

  test('to a union of rooms each socket hears it once', async () => {
    const all = await sockets(port(), { one: ['u1'], two: ['u2'], both: ['u1', 'u2'], none: [] })
    const sender = await connect(port())
    await send(sender, 'in', ['u1', 'u2'], [], 'union')
    assert.deepEqual(await hearers(all, 'union'), ['both', 'one', 'two'])
    for (const frames of [...Object.values(all), sender]) frames.close()
  })

  test('except leaves out whole rooms and single sockets', async () => {
    const all = await sockets(port(), { one: ['e1'], two: ['e1', 'e2'], three: ['e1'] })
    const sender = await connect(port())
    await send(sender, 'in', ['e1'], ['e2', all.three.id], 'except')
    assert.deepEqual(await hearers(all, 'except'), ['one'])
    for (const frames of [...Object.values(all), sender]) frames.close()
  })

  test('one socket is a room too', async () => {
    const all = await sockets(port(), { one: ['s1'], two: ['s1'] })
    const sender = await connect(port())
    await send(sender, 'in', [all.two.id], [], 'you')
    assert.deepEqual(await hearers(all, 'you'), ['two'])
    for (const frames of [...Object.values(all), sender]) frames.close()
  })

  test('a socket that sends `to` does not hear it, and one that sends `in` does', async () => {
    const all = await sockets(port(), { sender: ['t1'], other: ['t1'] })
    all.sender.send('42["to",["t1"],[],"to"]')
    assert.deepEqual(json(await all.other.next()), ['sent', 'to'])
    assert.deepEqual(await hearers(all, 'to'), [])
    all.sender.send('42["in",["t1"],[],"in"]')
    assert.deepEqual(json(await all.sender.next()), ['sent', 'in'])
    assert.deepEqual(json(await all.other.next()), ['sent', 'in'])
    for (const frames of Object.values(all)) frames.close()
  })

  test('who has left hears nothing, and who comes back hears it again', async () => {
    const all = await sockets(port(), { stays: ['l1'], leaves: ['l1'] })
    const sender = await connect(port())
    await ask(all.leaves, 'leave', 'l1')
    await send(sender, 'in', ['l1'], [], 1)
    assert.deepEqual(await hearers(all, 1), ['stays'])
    await ask(all.leaves, 'join', 'l1')
    await send(sender, 'in', ['l1'], [], 2)
    assert.deepEqual(await hearers(all, 2), ['leaves', 'stays'])
    for (const frames of [...Object.values(all), sender]) frames.close()
  })

  test('events to a room come to each socket in the order in which they were sent', async () => {
    const all = await sockets(port(), { one: ['o1'], two: ['o1'] })
    for (let n = 0; n < 200; n++) all.one.send(`42["in",["o1"],[],${n}]`)
    for (const frames of Object.values(all)) {
      for (let n = 0; n < 200; n++) assert.deepEqual(json(await frames.next()), ['sent', n])
      frames.close()
    }
  })

  test("what a handler does takes effect in its program's order", async () => {
    const all = await sockets(port(), { asks: ['q1'], other: ['q1'] })
    all.asks.send('42["sequence","q1"]')
    for (const n of [1, 2, 3, 5]) assert.deepEqual(json(await all.asks.next()), ['sent', n])
    for (const n of [1, 3]) assert.deepEqual(json(await all.other.next()), ['sent', n])
    assert.deepEqual(await hearers(all, 4), [])
    assert.deepEqual(await ask(all.other, 'rooms'), [[all.other.id]])
    for (const frames of Object.values(all)) frames.close()
  })

  test('clients by polling and by WebSocket are in one room', async () => {
    const polls = await enteredByPolling(port())
    assert.match(await polls.next(), /^42/)
    await polls.send('421["join","mixed"]')
    assert.equal(await polls.next(), '431[]')
    const { socket } = await sockets(port(), { socket: ['mixed'] })
    await polls.send('42["in",["mixed"],[],"from polling"]')
    assert.equal(await polls.next(), '42["sent","from polling"]')
    assert.equal(await socket.next(), '42["sent","from polling"]')
    socket.send('42["to",["mixed"],[],"from a socket"]')
    assert.equal(await polls.next(), '42["sent","from a socket"]')
    socket.close()
  })

  test('attachments go to a room', async () => {
    const all = await sockets(port(), { one: ['b1'], two: ['b1'] })
    all.one.send('451-["in",["b1"],[],{"_placeholder":true,"num":0}]')
    all.one.send(Buffer.from([1, 2]))
    for (const frames of Object.values(all)) {
      assert.match(await frames.next(), /^451-\["sent",/)
      assert.deepEqual([...(await frames.next())], [1, 2])
      frames.close()
    }
  })

  test('sockets of a room are joined to another one', async () => {
    const all = await sockets(port(), { one: ['j1'], two: ['j1'], other: [] })
    const sender = await connect(port())
    await send(sender, 'sockets-join', 'j1', 'j2')
    await send(sender, 'in', ['j2'], [], 'joined')
    assert.deepEqual(await hearers(all, 'joined'), ['one', 'two'])
    assert.deepEqual(await ask(all.one, 'rooms'), [[all.one.id, 'j1', 'j2']])
    for (const frames of [...Object.values(all), sender]) frames.close()
  })

  test('sockets of a room are fetched with their rooms', async () => {
    const all = await sockets(port(), { one: ['f1', 'f2'], two: ['f1'], other: [] })
    const [found] = await ask(all.other, 'fetch', 'f1')
    const byId = ([a], [b]) => (a < b ? -1 : 1)
    const expected = [[all.one.id, [all.one.id, 'f1', 'f2'].sort()], [all.two.id, [all.two.id, 'f1'].sort()]]
    assert.deepEqual(found.sort(byId), expected.sort(byId))
    for (const frames of Object.values(all)) frames.close()
  })

  test('sockets of a room are disconnected, by a packet or with their connection', async () => {
    const all = await sockets(port(), { one: ['d1'], two: ['d1'], other: [] })
    await send(all.other, 'disconnect-room', 'd1', false)
    for (const frames of [all.one, all.two]) {
      assert.equal(await frames.next(), '41')
      frames.send('40')
      assert.match(await frames.next(), /^40/)
      frames.close()
    }
    const more = await sockets(port(), { one: ['d2'], two: ['d2'] })
    await send(all.other, 'disconnect-room', 'd2', true)
    for (const frames of Object.values(more)) assert.deepEqual((await frames.rest()).slice(0, 1), ['41'])
    assert.deepEqual(await ask(all.other, 'ack', 1), [1])
    all.other.close()
  })

  test('all sockets of the namespace hear what is sent to all, and no others', async () => {
    const all = await sockets(port(), { one: [], two: ['x'] })
    const custom = await connect(port())
    custom.send('41')
    custom.send('40/custom,')
    assert.match(await custom.next(), /^40\/custom,/)
    assert.match(await custom.next(), /^42\/custom,/)
    all.one.send('42["broadcast","others"]')
    assert.deepEqual(json(await all.two.next()), ['sent', 'others'])
    all.one.send('42["all","all"]')
    assert.deepEqual(json(await all.one.next()), ['sent', 'all'])
    assert.deepEqual(json(await all.two.next()), ['sent', 'all'])
    custom.send('42/custom,7["ack"]')
    assert.equal(await custom.next(), '43/custom,7[]')
    for (const frames of [...Object.values(all), custom]) frames.close()
  })
})
