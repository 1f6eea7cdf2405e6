// The demo page's parts that need no page: texts, delays, rooms, and the memory of one's own messages.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, mock, test } from 'node:test'
import { Connection, RETRY_FIRST_MS, RETRY_MAX_MS, retryCeiling } from '../../demos/chat/connection.js'
import { Outbox } from '../../demos/chat/outbox.js'
import { cleanRoom, hashOfRoom, Room, roomBytes, roomOfHash, TYPING_SHOWN_MS } from '../../demos/chat/room.js'
import { inventName, plural, preferredLanguage, setLanguage, t, tables } from '../../demos/chat/strings.js'

describe('words', () => {
  test('both languages have the same keys and the same places for values', () => {
    assert.deepEqual(Object.keys(tables.zh).sort(), Object.keys(tables.en).sort())
    const places = text => [...text.matchAll(/\{\w+\}/g)].map(String).sort()
    for (const key of Object.keys(tables.en)) assert.deepEqual(places(tables.zh[key]), places(tables.en[key]), key)
  })

  for (const [languages, wanted] of [[['zh-CN', 'en'], 'zh'], [['zh-Hant-TW'], 'zh'], [['de', 'zh'], 'zh'], [['en-GB', 'zh'], 'en'], [['de'], 'en'], [[], 'en']]) {
    test(`${JSON.stringify(languages)} speaks ${wanted}`, () => assert.equal(preferredLanguage(languages), wanted))
  }

  test('values are put in as they are, also those that look like places', () => {
    setLanguage('en')
    assert.equal(t('joined', { name: '{name} $& $1' }), '{name} $& $1 joined')
    assert.equal(plural('people', 1), '1 person here')
    assert.equal(plural('people', 2), '2 people here')
  })

  test('invented names fit, at both ends of chance', () => {
    for (const language of ['en', 'zh']) for (const chance of [0, 0.999999]) assert.ok(inventName(language, () => chance).length > 2)
  })
})

describe('rooms', () => {
  for (const [hash, room] of [['', 'general'], ['#', 'general'], ['#general', 'general'], ['#two%20words', 'two words'], ['#%E4%B8%AD', '中'], ['#100%', '100%'], ['#%0A', 'general'], ['##x', 'x']]) {
    test(`${JSON.stringify(hash)} is ${room}`, () => assert.equal(roomOfHash(hash), room))
  }

  test('every room comes back from its address', () => {
    for (const room of ['a b', '中文', '100%', 'a#b', 'a?b&c', '🎉', 'a/b']) assert.equal(roomOfHash(hashOfRoom(room)), room)
  })

  test('the size counts what a channel name must escape as three bytes', () => {
    assert.equal(roomBytes('general'), 7)
    assert.equal(roomBytes('a b'), 5)
    assert.equal(roomBytes('中'), 3)
  })

  test('names are cleaned as people type them', () => assert.equal(cleanRoom('  #tea \u0007time '), 'tea time'))

  const frame = (type, userId, more = {}) => ({ type, userId, username: userId.toUpperCase(), timestamp: 1, ...more })
  const names = room => room.people('en').map(({ userId }) => userId)

  test('a person is here once, however many connections they have, until they leave', () => {
    const room = new Room('me')
    room.handle({ type: 'room_state', users: [{ userId: 'ann', username: 'Ann' }] }, 0)
    assert.equal(room.handle(frame('join', 'ann'), 0), null, 'a second connection is no news')
    assert.deepEqual(room.people('en'), [{ userId: 'ann', username: 'ANN' }], 'the name that was heard last')
    assert.equal(room.handle(frame('leave', 'ann'), 0).show, 'left')
    assert.deepEqual(names(room), [])
    assert.equal(room.handle(frame('leave', 'ann'), 0), null, 'nobody leaves twice')
  })

  test('who speaks or types without having joined is heard, and not here', () => {
    const room = new Room('me')
    room.handle({ type: 'room_state', users: [{ userId: 'ann', username: 'Ann' }] }, 0)
    assert.equal(room.handle(frame('message', 'server', { content: 'x' }), 0).show, 'message')
    room.handle(frame('typing', 'native'), 0)
    assert.deepEqual(room.typing(1), ['NATIVE'])
    assert.deepEqual(names(room), ['ann'])
    assert.equal(room.handle(frame('leave', 'server'), 0), null)
  })

  test('who returns after we were cut off is no news, who is new is', () => {
    const room = new Room('me')
    room.handle({ type: 'room_state', users: [{ userId: 'ann', username: 'Ann' }] }, 0)
    room.interrupted()
    room.handle({ type: 'room_state', users: [] }, 0)
    assert.equal(room.handle(frame('join', 'ann'), 0), null)
    assert.equal(room.handle(frame('join', 'bob'), 0).show, 'joined')
    assert.deepEqual(names(room), ['ann', 'bob'])
  })

  test('typing ends by time, by a message and by leaving', () => {
    const room = new Room('me')
    for (const end of [now => now + TYPING_SHOWN_MS, now => (room.handle(frame('message', 'ann', { content: 'x' }), now), now), now => (room.handle(frame('leave', 'ann'), now), now)]) {
      room.handle(frame('typing', 'ann'), 1_000)
      assert.deepEqual(room.typing(1_000 + TYPING_SHOWN_MS - 1), ['ANN'])
      assert.deepEqual(room.typing(end(1_000)), [])
    }
    room.handle(frame('typing', 'me'), 0)
    assert.deepEqual(room.typing(0), [], 'not oneself')
  })

  test('frames of a wrong shape are ignored', () => {
    const room = new Room('me')
    for (const bad of [{}, { type: 'message' }, frame('message', 'ann'), frame('message', 'ann', { content: 5 }), { type: 'join', userId: 1, username: 'x' }, frame('admin', 'ann')]) {
      assert.equal(room.handle(bad, 0), null)
    }
    assert.equal(room.handle({ type: 'room_state', users: [null, 5, { userId: 1, username: 'x' }, { userId: 'ok', username: 'OK' }] }, 0).show, 'entered')
    assert.deepEqual(names(room), ['ok'])
    assert.equal(room.handle(frame('message', 'ann', { content: 'x', timestamp: 'y' }), 77).timestamp, 77)
  })
})

describe('the outbox', () => {
  const storage = () => {
    const held = new Map()
    return { get: key => held.get(key) ?? null, set: (key, value) => held.set(key, value) }
  }
  const states = (outbox, room = 'r') => outbox.inRoom(room).map(({ content, state }) => `${content} ${state}`)

  test('sends in order, stops where it cannot, and lets go at the copy', () => {
    const outbox = new Outbox(storage(), () => {})
    for (const content of ['a', 'b', 'b', 'c']) outbox.add('r', content)
    outbox.add('other', 'x')
    let room = 3
    outbox.flush('r', () => room-- > 0)
    assert.deepEqual(states(outbox), ['a pending', 'b pending', 'b pending', 'c queued'])
    assert.ok(outbox.confirm('r', 'b'))
    assert.ok(outbox.confirm('r', 'a'))
    assert.ok(!outbox.confirm('r', 'c'), 'what was not sent has no copy: that one is from another tab')
    assert.deepEqual(states(outbox), ['b pending', 'c queued'])
    assert.deepEqual(states(outbox, 'other'), ['x queued'])
  })

  test('a broken connection makes it unsure, and only the writer decides', () => {
    const outbox = new Outbox(storage(), () => {})
    outbox.add('r', 'a')
    outbox.add('r', 'b')
    outbox.flush('r', () => true)
    outbox.unsettle()
    assert.equal(outbox.oldestPendingSince(), null)
    outbox.flush('r', () => true)
    assert.deepEqual(states(outbox), ['a unsure', 'b unsure'], 'not sent twice by itself')
    const [a, b] = outbox.inRoom('r')
    outbox.sendAgain(a.id)
    outbox.discard(b.id)
    assert.deepEqual(states(outbox), ['a queued'])
  })

  test('survives the page; what was under way is unsure then', () => {
    const kept = storage()
    const first = new Outbox(kept, () => {})
    first.add('r', 'a')
    first.flush('r', () => true)
    first.add('r', 'b')
    assert.deepEqual(states(new Outbox(kept, () => {})), ['a unsure', 'b queued'])
    kept.set('fanfare.chat.outbox', '{broken')
    assert.deepEqual(states(new Outbox(kept, () => {})), [])
  })
})

describe('the connection', () => {
  class FakeSocket {
    static OPEN = 1
    static all = []
    readyState = 0
    sent = []
    constructor(url) {
      this.url = url
      FakeSocket.all.push(this)
    }
    open() {
      this.readyState = 1
      this.onopen()
    }
    send(text) {
      this.sent.push(text)
    }
    close() {
      this.readyState = 2
    }
    fail(code = 1006, reason = '') {
      this.readyState = 3
      this.onclose?.({ code, reason })
    }
  }
  const real = globalThis.WebSocket
  let states
  let received

  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] })
    globalThis.WebSocket = FakeSocket
    FakeSocket.all = []
    states = []
    received = []
  })
  afterEach(() => {
    mock.timers.reset()
    globalThis.WebSocket = real
  })
  const make = random => new Connection('ws://x/', { onState: state => states.push(state), onMessage: message => received.push(message) }, random)
  const last = () => FakeSocket.all.at(-1)

  test('the ceilings double from half a second to thirty', () => {
    assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7, 1_000].map(retryCeiling), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
    assert.deepEqual([RETRY_FIRST_MS, RETRY_MAX_MS], [500, 30_000])
  })

  test('each wait is drawn from the whole range below its ceiling', () => {
    for (const chance of [0, 0.25, 0.999]) {
      states = []
      const connection = make(() => chance)
      connection.retry()
      for (let attempt = 0; attempt < 9; attempt++) {
        const before = Date.now()
        last().fail()
        const { name, until } = states.at(-1)
        assert.equal(name, 'waiting')
        assert.equal(until - before, chance * retryCeiling(attempt))
        const sockets = FakeSocket.all.length
        mock.timers.tick(Math.ceil(until - before) + 1)
        assert.equal(FakeSocket.all.length, sockets + 1)
      }
      last().open() // or its own clock would run on into the next round
    }
  })

  test('a connection that held starts again from the shortest wait, one that did not goes on', () => {
    const connection = make(() => 1)
    connection.retry()
    for (const [held, wait] of [[0, 500], [0, 1_000], [6_000, 500], [1_000, 1_000]]) {
      last().open()
      mock.timers.tick(held)
      const before = Date.now()
      last().fail(1001)
      assert.equal(states.at(-1).until - before, wait)
      mock.timers.tick(wait)
    }
  })

  test('one at a time: trying again while one is open or opening does nothing, and a manual try replaces the timer', () => {
    const connection = make(() => 1)
    connection.retry()
    connection.retry()
    last().open()
    connection.retry()
    assert.equal(FakeSocket.all.length, 1)
    last().fail()
    connection.retry()
    assert.equal(FakeSocket.all.length, 2)
    mock.timers.tick(60_000)
    assert.equal(FakeSocket.all.length, 2)
  })

  test('a socket that was let go of has no say any more', () => {
    const connection = make(() => 1)
    connection.retry()
    const first = last()
    first.open()
    connection.abandon()
    assert.equal(states.at(-1).name, 'waiting')
    connection.retry()
    last().open()
    first.fail()
    assert.equal(states.at(-1).name, 'open')
    assert.ok(connection.isOpen)
    connection.abandon()
    connection.abandon()
    mock.timers.tick(60_000)
    assert.equal(FakeSocket.all.length, 3, 'one more, not two')
  })

  test('a handshake that hangs is given up', () => {
    const connection = make(() => 1)
    connection.retry()
    mock.timers.tick(15_000)
    assert.equal(states.at(-1).name, 'waiting')
    mock.timers.tick(500)
    assert.equal(FakeSocket.all.length, 2)
    last().open()
    mock.timers.tick(60_000)
    assert.ok(connection.isOpen, 'one that opened is left alone')
  })

  for (const [code, comesBack] of [[1000, true], [1001, true], [1006, true], [1009, true], [1011, true], [1012, true], [4000, true], [4499, true], [1008, false], [4500, false], [4999, false]]) {
    test(`after ${code} it ${comesBack ? 'comes back' : 'stays away until asked'}`, () => {
      const connection = make(() => 1)
      connection.retry()
      last().open()
      last().fail(code, 'because')
      mock.timers.tick(60_000)
      assert.equal(FakeSocket.all.length, comesBack ? 2 : 1)
      if (comesBack) return
      assert.deepEqual(states.at(-1), { name: 'refused', reason: 'because' })
      connection.retry()
      assert.equal(FakeSocket.all.length, 2)
    })
  }

  test('frames that are no objects are not passed on, and nothing is sent into the void', () => {
    const connection = make(() => 1)
    assert.equal(connection.send({ a: 1 }), false)
    connection.retry()
    assert.equal(connection.send({ a: 1 }), false)
    last().open()
    for (const data of ['', '{', 'null', '5', '"x"', '{"type":"x"}']) last().onmessage({ data })
    assert.deepEqual(received, [{ type: 'x' }])
    assert.equal(connection.send({ a: 1 }), true)
    assert.deepEqual(last().sent, ['{"a":1}'])
  })
})
