// The chat protocol as its clients see it, spoken by the `ws` package from npm.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, test } from 'node:test'
import { ChatClient, freshRoom, stillChats } from './support/chat.mjs'
import { startServer } from './support/server.mjs'

const options = { timeout: 60_000 }
let server
before(async () => (server = await startServer({ rates: 'default', env: { FANFARE__CHAT__CONTENT_CHARS_MAX: '100000' } })), options)
after(() => server.stop(), options)

const open = () => ChatClient.open(server.ws)
const join = (userId, room, username) => ChatClient.join(server.ws, userId, room, username)

/** `names` in one new room, each aware of those that came after: their `join`s are taken. */
async function roomOf(...names) {
  const room = freshRoom()
  const clients = []
  for (const name of names) {
    clients.push(await join(name, room))
    for (const earlier of clients.slice(0, -1)) await earlier.expect('join', { userId: name })
  }
  return clients
}

const closeAll = (...clients) => Promise.all(clients.map(client => client.close()))

describe('join', options, () => {
  test('everyone gets the join, the newcomer too, then the newcomer alone the room state', async () => {
    const room = freshRoom()
    const ada = await open()
    ada.userId = 'ada'
    ada.send({ type: 'join', userId: 'ada', username: 'Ada', roomId: room, timestamp: 1 })
    assert.deepEqual(strip(await ada.next()), { type: 'join', userId: 'ada', username: 'Ada' })
    assert.deepEqual(strip(await ada.next()), { type: 'room_state', users: [] })

    const bob = await open()
    bob.send({ type: 'join', userId: 'bob', username: 'Bob', roomId: room, timestamp: 1 })
    assert.deepEqual(strip(await bob.next()), { type: 'join', userId: 'bob', username: 'Bob' })
    assert.deepEqual(strip(await bob.next()), { type: 'room_state', users: [{ userId: 'ada', username: 'Ada' }] })
    assert.deepEqual(strip(await ada.next()), { type: 'join', userId: 'bob', username: 'Bob' })
    await ada.expectSilence()
    await closeAll(ada, bob)
  })

  test('the room state has no entry of the newcomer\'s own user id', async () => {
    const room = freshRoom()
    const first = await join('ada', room, 'Ada (phone)')
    const bob = await join('bob', room)
    const second = await join('ada', room, 'Ada (desk)')
    assert.deepEqual(second.state.users, [{ userId: 'bob', username: 'bob' }])
    await closeAll(first, bob, second)
  })

  test('without roomId it is the room "general"', async () => {
    const ada = await join('ada', undefined)
    const bob = await join('bob', 'general')
    await ada.expect('join', { userId: 'bob' })
    bob.say('hello general')
    await ada.expect('message', { content: 'hello general' })
    await closeAll(ada, bob)
  })

  test('a second join leaves the first room', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const other = freshRoom()
    const cyd = await join('cyd', other)
    ada.send({ type: 'join', userId: 'ada', username: 'ada', roomId: other, timestamp: 1 })
    await bob.expect('leave', { userId: 'ada', username: 'ada' })
    await cyd.expect('join', { userId: 'ada' })
    await ada.expect('join', { userId: 'ada' })
    await ada.expect('room_state', { users: [{ userId: 'cyd', username: 'cyd' }] })
    bob.say('only for the first room')
    await bob.expect('message')
    await ada.expectSilence()
    await cyd.expect('message', { userId: 'ada' })
    await cyd.expectSilence()
    await closeAll(ada, bob, cyd)
  })

  test('joining the same room under a new name is a leave and a join for the others', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send({ type: 'join', userId: 'ada', username: 'Countess', roomId: ada.room, timestamp: 1 })
    await bob.expect('leave', { userId: 'ada', username: 'ada' })
    await bob.expect('join', { userId: 'ada', username: 'Countess' })
    await ada.expect('join', { userId: 'ada', username: 'Countess' })
    await ada.expect('room_state', { users: [{ userId: 'bob', username: 'bob' }] })
    ada.say('my name is new')
    await bob.expect('message', { username: 'Countess' })
    await closeAll(ada, bob)
  })

  test('before it, other messages are ignored', async () => {
    const [bob] = await roomOf('bob')
    const ada = await open()
    ada.send({ type: 'message', userId: 'ada', username: 'Ada', content: 'too early', roomId: bob.room, timestamp: 1 })
    ada.send({ type: 'typing', userId: 'ada', username: 'Ada', roomId: bob.room, timestamp: 1 })
    ada.send({ type: 'leave', userId: 'ada', username: 'Ada', roomId: bob.room, timestamp: 1 })
    ada.send({ type: 'join', userId: 'ada', username: 'Ada', roomId: bob.room, timestamp: 1 })
    await ada.expect('join', { userId: 'ada' })
    await ada.expect('room_state')
    await bob.expect('join', { userId: 'ada' })
    await bob.expectSilence()
    await closeAll(ada, bob)
  })
})

describe('message and typing', options, () => {
  test('a message goes to everyone in the room, the sender too', async () => {
    const [ada, bob, cyd] = await roomOf('ada', 'bob', 'cyd')
    ada.say('hello')
    for (const client of [ada, bob, cyd]) {
      assert.deepEqual(strip(await client.next()), { type: 'message', userId: 'ada', username: 'ada', content: 'hello' })
    }
    await closeAll(ada, bob, cyd)
  })

  test('messages arrive in the order sent', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    for (let n = 0; n < 300; n++) ada.say(String(n))
    for (const client of [ada, bob]) for (let n = 0; n < 300; n++) await client.expect('message', { content: String(n) })
    await closeAll(ada, bob)
  })

  test('everyone in a room sees the same order', async () => {
    const clients = await roomOf('ada', 'bob', 'cyd')
    for (let n = 0; n < 100; n++) for (const client of clients) client.say(`${client.userId} ${n}`)
    const seen = []
    for (const client of clients) {
      const contents = []
      for (let n = 0; n < 300; n++) contents.push((await client.expect('message')).content)
      seen.push(contents)
    }
    assert.deepEqual(seen[1], seen[0])
    assert.deepEqual(seen[2], seen[0])
    await closeAll(...clients)
  })

  test('typing goes to the others only', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send({ type: 'typing', userId: 'ada', username: 'ada', timestamp: 1 })
    assert.deepEqual(strip(await bob.next()), { type: 'typing', userId: 'ada', username: 'ada' })
    await ada.expectSilence()
    await closeAll(ada, bob)
  })

  test('another name in a frame is overwritten by the joined one, unknown fields do not pass', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send({ type: 'message', userId: 'bob', username: 'Mallory', content: 'hi', admin: true, roomId: 'elsewhere', timestamp: 1 })
    assert.deepEqual(strip(await bob.next()), { type: 'message', userId: 'ada', username: 'ada', content: 'hi' })
    ada.send({ type: 'typing', userId: 'bob', username: 'Mallory', admin: true })
    assert.deepEqual(strip(await bob.next()), { type: 'typing', userId: 'ada', username: 'ada' })
    await closeAll(ada, bob)
  })

  test('the time is the server\'s, in milliseconds', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const sent = Date.now()
    ada.say('when?', { timestamp: 12345 })
    const { timestamp } = await bob.expect('message')
    assert.ok(Number.isInteger(timestamp), `an integer, not ${timestamp}`)
    // One machine, one clock: but it may be set while the test runs, so the bounds are wide.
    assert.ok(Math.abs(timestamp - sent) < 3_600_000, `${timestamp} is near ${sent}`)
    await closeAll(ada, bob)
  })

  for (const [name, content, shown = content] of [
    ['emoji, also of several code points', '👩🏽‍💻 🎉 🇨🇳 ❤️'],
    ['Chinese', '实时特性:你好,世界'],
    ['quotes, backslashes and controls', '"\\ \u0000\u0007\n\r\t\u2028\u2029 </script>', '"\\ \n\t\u2028\u2029 </script>'],
    ['right to left, without the mark that turns all that follows', 'שלום \u202eabc', 'שלום abc'],
    ['an empty text', ''],
    ['60,000 bytes', 'x'.repeat(60_000)],
    ['text that is JSON', '{"type":"leave"}'],
  ]) {
    test(`content passes, clean: ${name}`, async () => {
      const [ada, bob] = await roomOf('ada', 'bob')
      ada.say(content)
      await bob.expect('message', { content: shown })
      await ada.expect('message', { content: shown })
      await closeAll(ada, bob)
    })
  }

  test('a text that was cut within an emoji has U+FFFD in the place of the half', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const content = 'cut 😀'.slice(0, -1)
    ada.send(JSON.stringify({ type: 'message', userId: '😀'.slice(0, 1), username: 'ada', content }))
    for (const client of [ada, bob]) await client.expect('message', { content: 'cut \ufffd', userId: 'ada' })
    await closeAll(ada, bob)
  })

  test('a binary frame that holds JSON counts as one', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send(Buffer.from(JSON.stringify({ type: 'message', userId: 'ada', username: 'ada', content: 'binary' })))
    await bob.expect('message', { content: 'binary' })
    await closeAll(ada, bob)
  })
})

describe('leaving', options, () => {
  test('an explicit leave tells the others; the connection stays and may join again', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send({ type: 'leave', userId: 'ada', username: 'ada', timestamp: 1 })
    assert.deepEqual(strip(await bob.next()), { type: 'leave', userId: 'ada', username: 'ada' })
    ada.say('nobody hears this')
    ada.send({ type: 'join', userId: 'ada', username: 'ada', roomId: bob.room, timestamp: 1 })
    await ada.expect('join', { userId: 'ada' })
    await ada.expect('room_state', { users: [{ userId: 'bob', username: 'bob' }] })
    await bob.expect('join', { userId: 'ada' })
    await bob.expectSilence()
    await closeAll(ada, bob)
  })

  test('a close tells the others', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    await ada.close()
    await bob.expect('leave', { userId: 'ada', username: 'ada' })
    await bob.close()
  })

  test('a vanished connection tells the others', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.socket.terminate()
    await bob.expect('leave', { userId: 'ada', username: 'ada' })
    await bob.close()
  })

  test('after it the room state no longer has them', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    await ada.close()
    await bob.expect('leave')
    const cyd = await join('cyd', bob.room)
    assert.deepEqual(cyd.state.users, [{ userId: 'bob', username: 'bob' }])
    await closeAll(bob, cyd)
  })

  test('closing one of two tabs says nothing, closing the last one says it; the room state names them once', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const second = await join('ada', bob.room)
    assert.deepEqual(second.state.users, [{ userId: 'bob', username: 'bob' }])
    for (const client of [ada, bob]) await client.expect('join', { userId: 'ada' })
    const cyd = await join('cyd', bob.room)
    assert.deepEqual(cyd.state.users, [{ userId: 'ada', username: 'ada' }, { userId: 'bob', username: 'bob' }])
    for (const client of [ada, bob, second]) await client.expect('join', { userId: 'cyd' })
    await ada.close()
    second.say('still here')
    for (const client of [bob, cyd]) await client.expect('message', { content: 'still here' })
    second.socket.terminate()
    for (const client of [bob, cyd]) await client.expect('leave', { userId: 'ada', username: 'ada' })
    await closeAll(bob, cyd)
  })

  test('two leaves are one', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.send({ type: 'leave', userId: 'ada', username: 'ada' })
    ada.send({ type: 'leave', userId: 'ada', username: 'ada' })
    await bob.expect('leave', { userId: 'ada' })
    await ada.close()
    await bob.expectSilence()
    await bob.close()
  })
})

describe('rooms', options, () => {
  test('are isolated from each other', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const [cyd, dan] = await roomOf('cyd', 'dan')
    ada.say('in the first')
    cyd.say('in the second')
    await bob.expect('message', { content: 'in the first' })
    await dan.expect('message', { content: 'in the second' })
    await bob.expectSilence()
    await dan.expectSilence()
    await closeAll(ada, bob, cyd, dan)
  })

  for (const name of ['two words', '中文 房间', 'a:b*', 'a/b?c#d', '{braces}', '100%', '%41', '@at', '$sys', 'tab\tin it', '🎉', '+plus,comma', 'r'.repeat(200), 'ROOM', '..', ':', '::a::']) {
    test(`any name will do: ${JSON.stringify(name).slice(0, 30)}`, async () => {
      const ada = await join('ada', name)
      const bob = await join('bob', name)
      await ada.expect('join', { userId: 'bob' })
      bob.say('here')
      await ada.expect('message', { content: 'here' })
      await closeAll(ada, bob)
    })
  }

  test('names that differ are different rooms, however they are written inside', async () => {
    const names = ['a b', 'a%20b', 'a%2520b', 'A b', 'a+b', 'a  b']
    const clients = []
    for (const [index, name] of names.entries()) {
      const client = await join(`user${index}`, name)
      assert.deepEqual(client.state.users, [], `alone in ${name}`)
      clients.push(client)
    }
    for (const client of clients) client.say('mine')
    for (const client of clients) {
      await client.expect('message', { userId: client.userId })
      await client.expectSilence()
    }
    await closeAll(...clients)
  })

  for (const [name, roomId] of [['300 bytes', 'r'.repeat(300)], ['an empty one', ''], ['a number', 7], ['a list', ['general']]]) {
    test(`a name that cannot be one is ignored: ${name}`, async () => {
      const ada = await open()
      ada.userId = 'ada'
      ada.send({ type: 'join', userId: 'ada', username: 'ada', roomId, timestamp: 1 })
      const room = freshRoom()
      ada.send({ type: 'join', userId: 'ada', username: 'ada', roomId: room, timestamp: 1 })
      await ada.expect('join', { userId: 'ada' })
      await ada.expect('room_state', { users: [] })
      await ada.expectSilence()
      await ada.close()
    })
  }
})

describe('what makes no sense is ignored, never fatal', options, () => {
  for (const [name, frame] of [
    ['no JSON', 'hello'],
    ['an empty frame', ''],
    ['half of it', '{"type":"message","content":'],
    ['two values', '{"type":"typing"} {"type":"typing"}'],
    ['a number', '42'],
    ['null', 'null'],
    ['a list', '[{"type":"message","content":"x"}]'],
    ['a string', '"join"'],
    ['no type', '{"content":"x"}'],
    ['an unknown type', '{"type":"admin","content":"x"}'],
    ['a type of another case', '{"type":"MESSAGE","content":"x"}'],
    ['a type that is a number', '{"type":1,"content":"x"}'],
    ['a message without content', '{"type":"message"}'],
    ['content that is a number', '{"type":"message","content":5}'],
    ['content that is an object', '{"type":"message","content":{"a":1}}'],
    ['content that is null', '{"type":"message","content":null}'],
    ['a join without userId', '{"type":"join","username":"x"}'],
    ['a join without username', '{"type":"join","userId":"x"}'],
    ['a join with a numeric userId', '{"type":"join","userId":1,"username":"x"}'],
    ['a join with a username that is a list', '{"type":"join","userId":"x","username":["x"]}'],
    ['a server\'s type', '{"type":"room_state","users":[]}'],
    ['20,000 open brackets', '['.repeat(20_000)],
    ['deep and whole', '{"type":"message","content":' + '['.repeat(10_000) + ']'.repeat(10_000) + '}'],
    ['prototype names', '{"__proto__":{"type":"message"},"constructor":1}'],
    ['binary that is no text', Buffer.from([0xff, 0xfe, 0x00])],
    ['an empty binary frame', Buffer.alloc(0)],
  ]) {
    test(name, async () => {
      const [ada, bob] = await roomOf('ada', 'bob')
      ada.send(frame)
      await ada.expectSilence()
      await bob.expect('message', { userId: 'ada' })
      await bob.expectSilence()
      await closeAll(ada, bob)
    })
  }

  test('a wrongly typed timestamp does no harm: the server has its own', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.say('now', { timestamp: 'yesterday' })
    // Both readings are correct (the field is ignored, or the frame is wrong), but the connection must live.
    ada.say('and now')
    await bob.until('message', { content: 'and now' })
    await closeAll(ada, bob)
  })
})

describe('the WebSocket below', options, () => {
  test('a ping is answered with its own bytes', async () => {
    const ada = await open()
    const pong = once(ada.socket, 'pong')
    ada.socket.ping('are you there')
    assert.equal((await pong)[0].toString(), 'are you there')
    await ada.close()
  })

  for (const code of [1000, 1001, 3000, 4321]) {
    test(`a close with ${code} is answered with ${code}`, async () => {
      const ada = await open()
      assert.equal((await ada.close(code)).code, code)
    })
  }

  test('a close without a code is answered', async () => {
    const ada = await open()
    ada.socket.close()
    const { code } = await ada.closed
    assert.ok(code === 1005 || code === 1000, `1005 or 1000, not ${code}`)
  })

  test('a message over the limit closes with 1009, and only that connection', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    ada.say('x'.repeat(70_000))
    assert.equal((await ada.closed).code, 1009)
    await bob.expect('leave', { userId: 'ada' })
    await bob.expectSilence()
    await bob.close()
  })

  // Compressed, the length of a message is known at its end.
  for (const [how, fragment, last] of [
    ['plain', { fin: false, compress: false }, { fin: false, compress: false }],
    ['compressed', { fin: false }, { fin: true }],
  ]) {
    test(`so does one in ${how} fragments, each below it`, async () => {
      const [ada, bob] = await roomOf('ada', 'bob')
      for (let n = 0; n < 4; n++) ada.socket.send('x'.repeat(20_000), fragment)
      ada.socket.send('x'.repeat(20_000), last)
      assert.equal((await ada.closed).code, 1009)
      await bob.expect('leave', { userId: 'ada' })
      await stillChats(server.ws)
      await bob.close()
    })
  }

  test('a message in fragments is one message', async () => {
    const [ada, bob] = await roomOf('ada', 'bob')
    const text = JSON.stringify({ type: 'message', userId: 'ada', username: 'ada', content: 'in 三 pieces' })
    const bytes = Buffer.from(text)
    ada.socket.send(bytes.subarray(0, 10), { fin: false, binary: false })
    ada.socket.send(bytes.subarray(10, bytes.length - 12), { fin: false, binary: false })
    ada.socket.ping()
    ada.socket.send(bytes.subarray(bytes.length - 12), { fin: true, binary: false })
    await bob.expect('message', { content: 'in 三 pieces' })
    await closeAll(ada, bob)
  })

  test('a client that asks for compression is served, with it or without', async () => {
    const room = freshRoom()
    const ada = await ChatClient.open(server.ws, { perMessageDeflate: { threshold: 0 } })
    ada.userId = 'ada'
    ada.send({ type: 'join', userId: 'ada', username: 'ada', roomId: room })
    await ada.expect('join')
    await ada.expect('room_state')
    ada.say('y'.repeat(10_000))
    await ada.expect('message', { content: 'y'.repeat(10_000) })
    await ada.close()
  })
})

/** The frame without its time, which must be there and be a number. */
function strip({ timestamp, ...frame }) {
  assert.equal(typeof timestamp, 'number', `timestamp of ${JSON.stringify(frame)}`)
  return frame
}
