/** Polls: one at a time, repeated until they are answered, less often where nothing comes. */

import { describe, expect, test } from 'vitest'
import { CONNECTED, Connection, poll, polling, refusal, type Sent, settle, World } from './world.js'

const PING = { type: 'ping' }

describe('the first poll', () => {
  test('is a `connect` with an attempt, and is repeated as it was', async () => {
    const world = new World()
    const connection = new Connection(world, 'poll')
    const first = world.next('poll')
    expect(first.body).toEqual({ type: 'connect', id: 1, page: 'p', attempt: expect.stringMatching(/^\w{1,64}$/) })
    expect(first.init.headers).toEqual({ 'Content-Type': 'application/json', Accept: 'application/json' })
    await first.lose()
    const second = world.next('poll')
    expect(second.init.body).toBe(first.init.body)
    await second.head(200)
    await second.lose()
    expect(world.all('poll')).toEqual([])
    await world.pass(500)
    const third = world.next('poll')
    expect(third.init.body).toBe(first.init.body)
    await third.reply(200, poll(1, CONNECTED))
    expect(connection.messages).toEqual([CONNECTED])
    expect(world.next('poll').body).toEqual({ ticket: 't1', ack: 1, wait: 25_000 })
  })

  test('another one has another attempt', async () => {
    const world = new World()
    const attempts = [0.1, 0.2].map(chance => {
      world.chance = chance
      new Connection(world, 'poll').close()
      return world.sent.at(-1)?.body.attempt
    })
    expect(attempts[0]).not.toBe(attempts[1])
  })

  test('is given up where nothing ever answers', async () => {
    const world = new World()
    const connection = new Connection(world, 'poll')
    for (let n = 0; n < 3; n++) {
      await world.next('poll').lose()
      await world.pass(1_000)
    }
    expect(connection.end).toEqual({ kind: 'lost', message: 'fetch failed' })
    expect(connection.reached).toBe(0)
    expect(world.timers.size).toBe(0)
  })

  test('has no deadline of its own', async () => {
    const world = new World()
    const connection = new Connection(world, 'poll')
    await world.pass(60_000)
    await world.next('poll').reply(200, poll(1, CONNECTED))
    expect(connection.messages).toEqual([CONNECTED])
  })

  test('an answer without messages is asked for again, later and later', async () => {
    const world = new World()
    const connection = new Connection(world, 'poll')
    const first = world.next('poll')
    await first.reply(200, poll(0))
    for (let n = 0; n < 4; n++) {
      const again = world.next('poll')
      expect(again.init.body).toBe(first.init.body)
      await again.reply(200, poll(0))
      expect(world.all('poll')).toEqual([])
      await world.pass(250 * 2 ** n + 1)
    }
    expect(connection.end).toBeUndefined()
  })

  test('one that was overtaken by its repeat is asked again', async () => {
    const world = new World()
    new Connection(world, 'poll')
    const first = world.next('poll')
    await first.reply(409, refusal('already_connected'))
    expect(world.next('poll').init.body).toBe(first.init.body)
  })

  const rows: [number, unknown, Record<string, string>, object][] = [
    [200, '<html>', {}, { kind: 'refused' }],
    [200, { n: 1 }, {}, { kind: 'refused' }],
    [200, { n: '1', messages: [] }, {}, { kind: 'refused' }],
    [0, '', {}, { kind: 'refused' }],
    [302, '', { location: '/login' }, { kind: 'refused' }],
    [404, refusal('not_found'), {}, { kind: 'refused' }],
    [405, '', {}, { kind: 'refused' }],
    [400, refusal('bad_request'), {}, { kind: 'error', error: { code: 'bad_request' } }],
    [401, refusal('unauthorized'), {}, { kind: 'error', error: { code: 'unauthorized' } }],
    [403, refusal('denied'), {}, { kind: 'error', error: { code: 'denied' } }],
    [413, refusal('too_large'), {}, { kind: 'error' }],
    [421, 'no such host', {}, { kind: 'refused' }],
    [408, '', {}, { kind: 'unavailable' }],
    [429, '', { 'retry-after': '3' }, { kind: 'unavailable', retryAfter: 3000 }],
    [503, refusal('overloaded'), { 'retry-after': '4' }, { kind: 'unavailable', retryAfter: 4000 }],
  ]
  test.each(rows)('%i %j ends it', async (status, body, headers, end) => {
    const world = new World()
    const connection = new Connection(world, 'poll')
    await world.next('poll').reply(status, body, headers)
    expect(connection.end).toMatchObject(end)
    expect(world.all('poll')).toEqual([])
    expect(world.timers.size).toBe(0)
  })
})

describe('the next polls', () => {
  test('acknowledge, one at a time', async () => {
    const world = new World()
    const connection = await polling(world, { ping: 60_000 })
    const next = world.next('poll')
    expect(next.body).toEqual({ ticket: 't1', ack: 1, wait: 30_000 })
    world.session.ticket = 't2'
    await next.reply(200, poll(2, [PING, PING], PING))
    expect(connection.types).toEqual(['ping', 'ping', 'ping'])
    expect(world.next('poll').body).toMatchObject({ ticket: 't2', ack: 2 })
  })

  test('an answer that comes twice counts once', async () => {
    const world = new World()
    const connection = await polling(world, {}, 5)
    await world.next('poll').reply(200, poll(4, PING))
    expect(world.next('poll').body).toMatchObject({ ack: 5 })
    expect(connection.types).toEqual(['ping'])
  })

  test('a lost answer is asked for with the same acknowledgement, at once and without a wait', async () => {
    const world = new World()
    const connection = await polling(world)
    await world.next('poll').lose()
    const again = world.next('poll')
    expect(again.body).toEqual({ ticket: 't1', ack: 1, wait: 0 })
    await again.lose()
    await world.pass(250)
    expect(world.all('poll')).toEqual([])
    await world.pass(1)
    await world.next('poll').reply(200, poll(2, PING))
    expect(world.next('poll').body).toEqual({ ticket: 't1', ack: 2, wait: 25_000 })
    expect(connection.end).toBeUndefined()
  })

  test('the waits between repeats are never nothing but for the first', async () => {
    const world = new World()
    world.chance = 0
    await polling(world)
    const at: number[] = []
    for (let n = 0; n < 9; n++) {
      const next = world.next('poll')
      at.push(next.at)
      await next.lose()
      if (n) await world.pass(900)
    }
    expect((at[1] ?? 0) - (at[0] ?? 0)).toBe(0)
    for (let n = 2; n < at.length; n++) expect((at[n] ?? 0) - (at[n - 1] ?? 0)).toBeGreaterThanOrEqual(1)
  })

  test('what is half an answer, or a page of a proxy, is a lost one', async () => {
    for (const body of ['{"n":2,"mess', '<html>', { n: 2 }, { messages: [] }, '']) {
      const world = new World()
      const connection = await polling(world)
      await world.next('poll').reply(200, body)
      expect(world.next('poll').body).toEqual({ ticket: 't1', ack: 1, wait: 0 })
      expect(connection.end).toBeUndefined()
    }
  })

  test('an answer may be as long as several pages', async () => {
    const world = new World()
    const connection = await polling(world)
    await world.next('poll').reply(200, poll(2, { type: 'news', text: 'x'.repeat(1 << 20) }))
    expect(connection.types).toEqual(['news'])
  })

  test('an answer without end is not kept, and is a lost one', async () => {
    const world = new World()
    await polling(world)
    const next = world.next('poll')
    await next.head(200, { 'content-type': 'application/json' })
    for (let n = 0; n < 100; n++) await next.chunk('x'.repeat(1 << 20))
    expect(next.taken).toBeLessThan(20)
    expect(next.cancelled).toBe(true)
    expect(world.next('poll').body).toMatchObject({ ack: 1, wait: 0 })
  })

  test('each has a deadline, 10 s beyond its wait', async () => {
    const world = new World()
    await polling(world)
    const next = world.next('poll')
    await world.pass(34_999)
    expect(next.aborted).toBe(false)
    await world.pass(1)
    expect(next.aborted).toBe(true)
    const again = world.next('poll')
    expect(again.body).toMatchObject({ ack: 1, wait: 0 })
    await again.head(200)
    await world.pass(10_000)
    expect(again.aborted).toBe(true)
  })

  test('what is cut while it waits waits for half of it from then on, but not below 5 s', async () => {
    const world = new World()
    await polling(world)
    const waits: unknown[] = []
    for (let n = 0; n < 5; n++) {
      const next = world.next('poll')
      waits.push(next.body.wait)
      await world.pass(Number(next.body.wait) / 2)
      await next.lose()
      await world.next('poll').reply(200, poll(1, PING))
    }
    expect(waits).toEqual([25_000, 12_500, 6_250, 5_000, 5_000])
  })

  test('what is cut at once waits as long as before', async () => {
    const world = new World()
    await polling(world)
    const next = world.next('poll')
    await world.pass(1_000)
    await next.lose()
    await world.next('poll').reply(200, poll(1, PING))
    expect(world.next('poll').body.wait).toBe(25_000)
  })

  test('a server that has nothing to say and does not wait is asked less and less often', async () => {
    const world = new World()
    const connection = await polling(world)
    await world.next('poll').reply(200, poll(1))
    for (let n = 0; n < 4; n++) {
      await world.next('poll').reply(200, poll(1))
      expect(world.all('poll')).toEqual([])
      await world.pass(250 * 2 ** n)
      expect(world.all('poll')).toEqual([])
      await world.pass(1)
    }
    await world.next('poll').reply(200, poll(2, PING))
    await world.next('poll').reply(200, poll(2))
    world.next('poll')
    expect(connection.end).toBeUndefined()
  })

  test('one that waited is followed by the next at once, and is a sign of life', async () => {
    const world = new World()
    const connection = await polling(world)
    const lists: number[] = []
    connection.on = messages => lists.push(messages.length)
    const next = world.next('poll')
    await world.pass(25_000)
    await next.reply(200, poll(1))
    expect(lists).toEqual([0])
    expect(world.next('poll').body).toMatchObject({ ack: 1, wait: 25_000 })
  })

  test('patience is had, and the next connect has it too', async () => {
    for (const status of [408, 425, 429, 500, 503]) {
      const world = new World()
      const connection = await polling(world)
      await world.next('poll').reply(status, refusal('overloaded'), { 'retry-after': '5' })
      expect(world.session.notBefore).toBe(world.time + 5_000)
      await world.pass(5_000)
      expect(world.all('poll')).toEqual([])
      await world.pass(500)
      expect(world.next('poll').body).toMatchObject({ ack: 1 })
      expect(connection.end).toBeUndefined()
    }
  })

  const ends: [number, unknown, object][] = [
    [401, refusal('unauthorized'), { kind: 'error', session: 'forget', error: { code: 'unauthorized' } }],
    [401, refusal('not_connected'), { kind: 'error', session: 'keep', error: { code: 'not_connected' } }],
    [400, refusal('bad_request'), { kind: 'error', session: 'forget' }],
    [409, refusal('already_connected'), { kind: 'error', session: 'keep' }],
    [404, '<html>', { kind: 'lost', message: expect.stringContaining('404') }],
    [302, '', { kind: 'lost' }],
    [403, '<html>', { kind: 'lost' }],
  ]
  test.each(ends)('%i %j ends the connection', async (status, body, end) => {
    const world = new World()
    const connection = await polling(world, {}, 3)
    await world.next('poll').reply(status, body)
    expect(connection.end).toMatchObject(end)
    expect(world.session.ack).toBe(3)
    expect(world.timers.size).toBe(0)
  })

  test('a message that is none ends the connection, and those before it count', async () => {
    const world = new World()
    const connection = await polling(world)
    await world.next('poll').reply(200, poll(2, PING, { type: 'message', channel: 'c' }, PING))
    expect(connection.types).toEqual(['ping'])
    expect(connection.end).toMatchObject({ kind: 'nonsense', message: expect.stringContaining('`offset`') })
    expect(world.all('poll')).toEqual([])
  })

  test('`close` gives the poll up, and what was had is acknowledged by the next connect', async () => {
    const world = new World()
    const connection = await polling(world, {}, 7)
    const next = world.next('poll')
    connection.close()
    expect(next.aborted).toBe(true)
    expect(world.session.ack).toBe(7)
    await world.pass(60_000)
    expect([connection.end, world.timers.size, world.all('poll').length]).toEqual([undefined, 0, 0])
    await polling(world, { session_resumed: true }, 8)
    expect(world.session.ack).toBeUndefined()
  })

  test('`close` in a rest, and by a message, ends it', async () => {
    const world = new World()
    const resting = await polling(world)
    await world.next('poll').lose()
    await world.next('poll').lose()
    resting.close()
    expect(world.timers.size).toBe(0)
    const connection = await polling(world)
    connection.on = () => connection.close()
    await world.next('poll').reply(200, poll(2, PING, PING))
    await settle()
    expect([connection.types, world.all('poll').length, world.timers.size]).toEqual([['ping'], 0, 0])
  })

  test('a device that slept loses an answer at most', async () => {
    const world = new World()
    const connection = await polling(world)
    const [slept] = world.open('poll') as [Sent]
    world.time += 8 * 3_600_000 // its timers did not run
    await world.pass(3_999)
    expect(world.open('poll')).toEqual([slept])
    await world.pass(1)
    expect(slept.aborted).toBe(true)
    const again = world.next('poll')
    expect(again.body).toEqual({ ticket: 't1', ack: 1, wait: 0 })
    await again.reply(200, poll(2, PING))
    expect(connection.types).toEqual(['ping'])
    expect(world.next('poll').body).toMatchObject({ ack: 2, wait: 25_000 })
  })
})
