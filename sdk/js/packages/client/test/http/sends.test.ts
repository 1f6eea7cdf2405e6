/** Numbered sends: each takes effect once, whatever is lost, repeated or overtakes. */

import { describe, expect, test } from 'vitest'
import type { Command, ServerMessage } from '../../src/wire.js'
import { Connection, poll, polling, refusal, replies, type Sent, settle, streaming, World } from './world.js'

const published = (id: number) => ({ type: 'published', id, epoch: 'e', offset: id })
const ids = (sent: Sent) => sent.commands.map(command => command.id)
const codes = (list: ServerMessage[]) => list.map(it => [(it as { id?: number }).id, (it as { code?: string }).code])

/** Answers a send as a server would, once. */
const answer = (sent: Sent) =>
  sent.reply(200, replies(sent.body.n as number, ...ids(sent).map(id => published(id ?? 0))))

describe('a send', () => {
  test('carries the commands that were given, under a number, and its answer their replies', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    const commands: Command[] = [1, 2].map(id => ({ type: 'publish', id, channel: 'c', data: { a: 'ü"' } }))
    await connection.give(...commands)
    const sent = world.next('send')
    expect(sent.body).toEqual({ ticket: 't1', n: 1, commands })
    expect(sent.init).toMatchObject({ method: 'POST', headers: { Accept: 'application/json' } })
    expect(sent.init.keepalive).toBe(false)
    const list = [published(2), { type: 'error', code: 'denied', message: 'no', retryable: false }, published(1)]
    await sent.reply(200, { ...replies(1, ...list, { type: 'published', epoch: 'e', offset: 3 }), ticket: 't2' })
    expect(connection.replies).toEqual(list)
    expect(world.session.ticket).toBe('t2')
    await connection.publish(3)
    expect(world.next('send').body).toMatchObject({ ticket: 't2', n: 2 })
  })

  test('up to four are on their way, with 32 commands, and the rest waits', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (let id = 1; id <= 7; id++) await connection.publish(id)
    const flying = world.all('send')
    expect(flying.map(ids)).toEqual([[1], [2], [3], [4]])
    expect(connection.wire.backlog()).toBeGreaterThan(3 * 40)
    await answer(flying[1] as Sent)
    const more = world.next('send')
    expect([more.body.n, ids(more)]).toEqual([5, [5, 6, 7]])
    expect(connection.wire.backlog()).toBe(0)
    for (const sent of [...flying.filter((_, n) => n !== 1), more]) await answer(sent)
    await connection.give(...Array.from({ length: 40 }, (_, n) => ({ type: 'rpc', id: 100 + n })))
    const full = world.next('send')
    expect(full.commands.length).toBe(32)
    await answer(full)
    expect(world.next('send').commands.length).toBe(8)
  })

  test('no more begin than the server keeps answers for', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (let id = 1; id <= 20; id++) await connection.publish(id)
    const [stuck, ...others] = world.all('send') as [Sent, ...Sent[]]
    for (const sent of others) await answer(sent)
    const numbers = others.map(sent => sent.body.n)
    for (let more = world.all('send'); more.length; more = world.all('send')) {
      for (const sent of more) {
        numbers.push(sent.body.n)
        await answer(sent)
      }
      for (let id = 0; id < 3; id++) await connection.publish(100 + id)
    }
    expect(numbers).toEqual([2, 3, 4, 5, 6, 7, 8])
    await answer(stuck)
    expect(world.all('send')[0]?.body.n).toBe(9)
  })

  test('has no more bytes than one message may have, and a longer command goes alone', async () => {
    const world = new World()
    const { connection } = await streaming(world, { limits: { message_bytes: 3000 } })
    const command = (id: number, length: number, letter = 'x') => ({ type: 'rpc', id, data: letter.repeat(length) })
    await connection.give(
      ...[command(1, 5000), command(2, 400), command(3, 400), command(4, 800, '€'), command(5, 300)],
    )
    expect(world.all('send').map(ids)).toEqual([[1], [2, 3], [4], [5]])
  })

  test('without an answer is sent again as it was, later and later', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    const first = world.next('send')
    await first.lose()
    world.session.ticket = 't2'
    const at: number[] = []
    for (let n = 0; n < 5; n++) {
      const again = world.next('send')
      at.push(again.at - world.time)
      expect(again.init.body).toBe(first.init.body)
      await (n % 2 ? again.reply(200, '{"n":1,"repl') : again.lose())
      expect(world.all('send')).toEqual([])
      await world.pass(250 * 2 ** n)
      expect(world.all('send')).toEqual([])
      await world.pass(1)
    }
    await answer(world.next('send'))
    expect(connection.replies).toEqual([published(1)])
    expect(world.timers.size).toBe(0)
  })

  test('has a deadline, and too many of them end the connection', async () => {
    const world = new World({ requestTimeout: 5_000 })
    const { connection } = await streaming(world)
    await connection.publish(1)
    let count = 0
    for (let sent = world.next('send'); ; sent = world.next('send')) {
      count++
      await world.pass(4_999)
      expect(sent.aborted).toBe(false)
      await world.pass(1)
      expect(sent.aborted).toBe(true)
      if (connection.end) break
      while (!world.open('send').length) await world.pass(1)
    }
    expect(count).toBe(7)
    expect(connection.end).toEqual({ kind: 'lost', message: 'the server answers no commands' })
    expect(world.timers.size).toBe(0)
  })

  test('a device that slept has lost one answer, and no connection', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    world.next('send')
    world.time += 8 * 3_600_000
    await world.pass(4_000)
    await answer(world.next('send'))
    expect([connection.end, connection.replies]).toEqual([undefined, [published(1)]])
  })

  test('an answer that comes late, after its repeat, counts once', async () => {
    const world = new World({}, { AbortController: undefined })
    const { connection } = await streaming(world)
    await connection.publish(1)
    const first = world.next('send')
    await world.pass(10_000)
    await answer(world.next('send'))
    await answer(first)
    expect(connection.replies).toEqual([published(1)])
  })

  test('answers that overtake each other count as they come', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (const id of [1, 2, 3]) await connection.publish(id)
    for (const sent of world.all('send').reverse()) await answer(sent)
    expect(connection.replies).toEqual([3, 2, 1].map(published))
  })

  test('replies that are none end the connection', async () => {
    const world = new World()
    const { connection, down } = await streaming(world)
    await connection.publish(1)
    await world.next('send').reply(200, replies(1, { type: 'published', id: 1 }))
    expect(connection.end).toMatchObject({ kind: 'nonsense' })
    expect(down.aborted).toBe(true)
  })

  test('one that came too early waits, and the missing one is sent again at once', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    await connection.publish(2)
    const [first, second] = world.all('send') as [Sent, Sent]
    await second.reply(409, refusal('out_of_order', { retryable: true }))
    expect(first.aborted).toBe(true)
    const again = world.next('send')
    expect(again.init.body).toBe(first.init.body)
    await world.pass(249)
    expect(world.all('send')).toEqual([])
    await world.pass(300)
    await answer(again)
    const other = world.next('send')
    expect(other.init.body).toBe(second.init.body)
    await answer(other)
    expect(connection.replies).toEqual([1, 2].map(published))
    expect(world.timers.size).toBe(0)
  })

  test('one that rests is sent at once where another one needs it', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    await connection.publish(2)
    const [first, second] = world.all('send') as [Sent, Sent]
    await first.lose()
    await world.next('send').lose()
    await second.reply(409, refusal('out_of_order'))
    expect(world.next('send').init.body).toBe(first.init.body)
  })

  test('a number that the server does not expect ends the session', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    await world.next('send').reply(409, refusal('out_of_order'))
    expect(connection.end).toMatchObject({ kind: 'error', session: 'forget', error: { code: 'out_of_order' } })
  })

  test('one whose answer is not kept is done, and its commands are unknown', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.give(...[1, 2].map(id => ({ type: 'publish', id })))
    await world.next('send').reply(503, refusal('unknown'))
    expect(codes(connection.replies)).toEqual([
      [1, 'unknown'],
      [2, 'unknown'],
    ])
    expect(connection.replies.every(it => (it as { retryable?: boolean }).retryable)).toBe(true)
    await connection.publish(3)
    expect(world.next('send').body.n).toBe(2)
  })

  const whole: [number, unknown, string][] = [
    [400, refusal('bad_request'), 'bad_request'],
    [413, refusal('too_large'), 'too_large'],
    [413, '<h1>Too large', 'too_large'],
    [415, refusal('bad_request'), 'bad_request'],
    [403, '<h1>Forbidden', 'bad_request'],
    [404, '', 'bad_request'],
    [302, '', 'bad_request'],
    [0, '', 'bad_request'],
  ]
  test.each(whole)('%i %j refuses its commands, and its number is used without them', async (status, body, code) => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.give({ type: 'publish', id: 1 }, { type: 'signal' })
    await connection.publish(2)
    const [sent, other] = world.all('send') as [Sent, Sent]
    await sent.reply(status, body)
    expect(codes(connection.replies)).toEqual([
      [1, code],
      [undefined, code],
    ])
    const filler = world.next('send')
    expect(filler.body).toEqual({ ticket: 't1', n: 1, commands: [] })
    await filler.reply(200, replies(1))
    await answer(other)
    expect(connection.replies.at(-1)).toEqual(published(2))
    expect([connection.end, world.timers.size]).toEqual([undefined, 0])
  })

  test('where not even that is taken it is tried less and less often, and the connection is given up', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.give({ type: 'signal', channel: 'c' })
    let count = 0
    for (; !connection.end && count < 100; count++) {
      await world.all('send')[0]?.reply(403, '<h1>Forbidden')
      await world.pass(1_000)
    }
    expect(codes(connection.replies)).toEqual([[undefined, 'bad_request']])
    expect(connection.end).toMatchObject({ kind: 'lost' })
    expect(world.sent.length).toBeLessThan(14)
  })

  test.each([408, 425, 429, 500, 502, 503, 504])('%i is waited for, with all others', async status => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    const first = world.next('send')
    await first.reply(status, '', { 'retry-after': '3' })
    await connection.publish(2)
    await connection.publish(3)
    expect(world.timers.size).toBe(2)
    expect(world.session.notBefore).toBe(world.time + 3_000)
    await world.pass(2_999)
    expect(world.all('send')).toEqual([])
    await world.pass(1 + 250)
    const sent = world.all('send')
    expect(sent.map(it => it.body.n).sort()).toEqual([1, 2])
    for (const it of sent) await answer(it)
    expect(connection.replies.length).toBe(3)
    expect(world.timers.size).toBe(0)
  })

  test('without a delay it is waited for later and later, and never not at all', async () => {
    for (const chance of [0, 0.5]) {
      const world = new World()
      world.chance = chance
      const { connection } = await streaming(world)
      await connection.publish(1)
      for (let n = 0; n < 5; n++) {
        await world.next('send').reply(503)
        await world.pass(chance * 250 * 2 ** n)
        expect(world.all('send')).toEqual([])
        await world.pass(1)
      }
      await answer(world.next('send'))
      expect(connection.replies).toEqual([published(1)])
    }
  })
})

describe('the end of a session that a send meets', () => {
  test('a ticket that is not known is forgotten', async () => {
    const world = new World()
    const { connection, down } = await streaming(world)
    await connection.publish(1)
    await world.next('send').reply(401, refusal('unauthorized'))
    expect(connection.end).toMatchObject({ kind: 'error', session: 'forget', error: { code: 'unauthorized' } })
    expect(down.aborted).toBe(true)
  })

  test.each(['stream', 'poll'] as const)('what the server sent before it is read: %s', async transport => {
    const world = new World()
    const { connection, down } =
      transport === 'stream'
        ? await streaming(world)
        : await polling(world).then(connection => ({ connection, down: world.next('poll') }))
    for (const id of [1, 2, 3]) await connection.publish(id)
    const [first, second, third] = world.all('send') as [Sent, Sent, Sent]
    await first.reply(401, refusal('not_connected'))
    await third.reply(401, refusal('not_connected'))
    expect([connection.end, down.aborted]).toEqual([undefined, false])
    await connection.publish(4)
    connection.wire.send([{ type: 'pong' }])
    await answer(second)
    expect(connection.replies).toEqual([published(2)])
    const page = { type: 'message', channel: 'c', offset: 6 }
    if (transport === 'stream') {
      await down.chunk(`${JSON.stringify(page)}\n`)
      await down.end()
    } else {
      await down.reply(200, poll(2, page))
      await world.next('poll').reply(401, refusal('not_connected'))
    }
    expect(connection.types).toEqual(['message'])
    expect(connection.end).toMatchObject({ kind: 'error', session: 'keep', error: { code: 'not_connected' } })
    expect(connection.unsent).toEqual(new Set([4]))
    expect(world.all('send').filter(sent => sent.body.n)).toEqual([])
    expect(world.timers.size).toBe(0)
  })

  test('it is read for 5 s, and not where nothing comes any more', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    await connection.publish(1)
    await world.next('send').reply(401, refusal('not_connected'))
    await world.pass(4_999)
    expect(connection.end).toBeUndefined()
    await world.pass(1)
    expect(connection.end).toMatchObject({ kind: 'error', session: 'keep' })
    const other = await streaming(world)
    await world.pass(25_000)
    await other.connection.publish(2)
    await world.next('send').reply(401, refusal('not_connected'))
    expect(other.connection.end).toMatchObject({ kind: 'error', session: 'keep' })
    expect(world.timers.size).toBe(0)
  })
})

describe('the answer to a ping', () => {
  test('goes up at once and without a number', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (let id = 1; id <= 6; id++) await connection.publish(id)
    world.all('send')
    connection.wire.send([{ type: 'pong' }])
    const pong = world.next('send')
    expect(pong.body).toEqual({ ticket: 't1', commands: [{ type: 'pong' }] })
    await pong.reply(200, { replies: [], ticket: 't9' })
    expect(world.session.ticket).toBe('t9')
  })

  test('is repeated where it is lost, and given up with a newer one, a refusal or the connection', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    const ping = () => connection.wire.send([{ type: 'pong' }])
    ping()
    await world.next('send').lose()
    await world.pass(126)
    await world.next('send').reply(503)
    await world.pass(500)
    const stuck = world.next('send')
    ping()
    expect(stuck.aborted).toBe(true)
    await world.next('send').reply(401, refusal('not_connected'))
    await world.pass(60_000)
    expect(world.all('send')).toEqual([])
    ping()
    const last = world.next('send')
    await world.pass(10_000)
    expect(last.aborted).toBe(true)
    connection.close()
    expect(world.timers.size).toBe(0)
    expect(connection.end).toBeUndefined()
  })
})

describe('what is left of an earlier connection', () => {
  /** Four sends without an answer, one of them with an `unsubscribe`, and commands that were never sent. */
  async function cut(world: World) {
    const { connection, down } = await streaming(world)
    await connection.publish(1)
    await connection.give({ type: 'unsubscribe', id: 2, channel: 'c' }, { type: 'publish', id: 3 })
    await connection.publish(4)
    await connection.publish(5)
    const sent = world.all('send')
    await connection.give({ type: 'publish', id: 6 }, { type: 'signal' }, { type: 'publish', id: 7 })
    expect(world.carrier.mayLeave('c')).toBe(false)
    await down.end()
    expect([connection.end?.kind, world.session.ack]).toEqual(['lost', undefined])
    expect(sent.every(it => it.aborted)).toBe(true)
    expect(connection.unsent).toEqual(new Set([6, 7]))
    expect(connection.wire.backlog()).toBe(0)
    return sent
  }

  test('goes up again without its commands where the session goes on, before newer ones', async () => {
    const world = new World()
    await cut(world)
    expect(world.carrier.mayLeave('c')).toBe(true)
    const { connection } = await streaming(world, { session_resumed: true, ticket: 't2' })
    const fillers = world.all('send')
    expect(fillers.map(it => it.body)).toEqual([1, 2, 3, 4].map(n => ({ ticket: 't2', n, commands: [] })))
    await connection.publish(8)
    expect(world.all('send')).toEqual([])
    await fillers[0]?.reply(200, replies(1, published(1)))
    expect(connection.replies).toEqual([])
    const next = world.next('send')
    expect([next.body.n, ids(next)]).toEqual([5, [8]])
    await fillers[1]?.reply(200, replies(2, { type: 'unsubscribed', id: 2, channel: 'c', code: 'requested' }))
    expect([world.carrier.mayLeave('c'), connection.replies]).toEqual([false, []])
    for (const it of [...fillers.slice(2), next]) await answer(it)
    expect(connection.replies).toEqual([published(8)])
  })

  test('is forgotten where there is another session', async () => {
    const world = new World()
    await cut(world)
    const { connection } = await streaming(world, { ticket: 't2' })
    expect([world.all('send'), world.carrier.mayLeave('c')]).toEqual([[], false])
    await connection.publish(8)
    expect(world.next('send').body).toMatchObject({ ticket: 't2', n: 1 })
  })

  test('is settled too where the answer is not kept, and by 400', async () => {
    const world = new World()
    await cut(world)
    const { connection } = await streaming(world, { session_resumed: true })
    const [first, second] = world.all('send') as [Sent, Sent]
    await second.reply(503, refusal('unknown'))
    expect([world.carrier.mayLeave('c'), connection.replies]).toEqual([false, []])
    await first.reply(400, refusal('bad_request'))
    expect(connection.replies).toEqual([])
    await world.pass(250)
    await answer(world.next('send'))
    expect(connection.end).toBeUndefined()
  })

  test('is sent while a WebSocket is there, and ends none', async () => {
    for (const [status, body] of [
      [401, refusal('unauthorized')],
      [401, refusal('not_connected')],
      [409, refusal('out_of_order')],
    ] as const) {
      const world = new World()
      await cut(world)
      world.session.ticket = 't3'
      world.carrier.online(true)
      const [first, second] = world.all('send') as [Sent, Sent]
      expect(first.body).toEqual({ ticket: 't3', n: 1, commands: [] })
      await second.reply(200, replies(2))
      expect(world.carrier.mayLeave('c')).toBe(false)
      const before = world.sent.length
      await first.reply(status, body)
      await world.pass(100_000)
      expect(world.sent.slice(before).map(it => it.body.n)).not.toContain(1)
    }
  })

  test('that is refused late says nothing of the next connection', async () => {
    const world = new World({}, { AbortController: undefined })
    await cut(world).catch(() => {}) // nothing can be aborted
    world.carrier.online(true)
    const [first, second] = world.all('send').slice(-4) as [Sent, Sent]
    await first.reply(401, refusal('unauthorized'))
    world.carrier.offline()
    const { connection } = await streaming(world, { session_resumed: true })
    await second.reply(401, refusal('unauthorized'))
    expect(connection.end).toBeUndefined()
  })

  test('is tried at leisure while a WebSocket is there', async () => {
    const world = new World()
    await cut(world)
    world.carrier.online(true)
    let count = 0
    for (let n = 0; n < 600; n++) {
      for (const sent of world.all('send')) {
        count++
        await sent.lose()
      }
      await world.pass(1_000)
    }
    expect(count).toBeLessThan(4 * 30)
    world.carrier.offline()
    expect(world.timers.size).toBe(0)
    expect(world.carrier.mayLeave('c')).toBe(true)
    world.carrier.end()
    expect(world.carrier.mayLeave('c')).toBe(false)
  })

  test('survives a connection that did not get through', async () => {
    const world = new World()
    await cut(world)
    const failed = new Connection(world, 'poll')
    await world.next('poll').reply(503)
    expect(failed.end?.kind).toBe('unavailable')
    await polling(world, { session_resumed: true })
    expect(world.all('send').map(it => it.body.n)).toEqual([1, 2, 3, 4])
  })

  test('patience outlives the connection', async () => {
    const world = new World()
    const { connection, down } = await streaming(world)
    await connection.publish(1)
    await world.next('send').reply(503, '', { 'retry-after': '20' })
    await down.end()
    await streaming(world, { session_resumed: true })
    await world.pass(19_999)
    expect(world.all('send')).toEqual([])
    await world.pass(1)
    expect(world.next('send').body).toMatchObject({ n: 1, commands: [] })
    world.carrier.end()
  })
})

describe('the end of the client', () => {
  const DISCONNECT = [{ type: 'disconnect' }]

  test('ends the session behind all other commands, by requests that outlive the page', async () => {
    const world = new World()
    const { connection, down } = await streaming(world)
    for (let id = 1; id <= 3; id++) await connection.publish(id)
    const [flying, resting] = world.all('send') as [Sent, Sent]
    await resting.lose()
    await world.next('send').lose()
    connection.wire.send([{ type: 'pong' }])
    const pong = world.next('send')
    connection.close(true)
    connection.close(true)
    expect(pong.aborted).toBe(true)
    world.carrier.end()
    // Requests of before would end with the page.
    expect(flying.aborted).toBe(true)
    const again = world.all('send')
    const last = again.pop() as Sent
    expect(again.map(it => [it.body.n, it.init.keepalive])).toEqual([1, 2, 3].map(n => [n, true]))
    expect(again[1]?.init.body).toBe(resting.init.body)
    expect(last.body).toEqual({ ticket: 't1', n: 4, commands: DISCONNECT })
    expect(last.init.keepalive).toBe(true)
    expect(down.aborted).toBe(false)
    for (const sent of again.slice(1)) await answer(sent)
    await down.chunk('{"type":"disconnect","code":4505,"reason":"left","retry":false}\n')
    await last.reply(200, replies(4))
    expect(down.aborted).toBe(true)
    await again[0]?.lose()
    await world.pass(60_000)
    expect(world.all('send')).toEqual([])
    expect([world.timers.size, connection.end, connection.types, connection.replies]).toEqual([0, undefined, [], []])
  })

  test('what waits is sent before it, as far as it fits', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (let id = 1; id <= 3; id++) await connection.publish(id)
    world.all('send')
    connection.wire.send([4, 5].map(id => ({ type: 'publish', id })))
    connection.wire.send([{ type: 'rpc', id: 6, data: 'x'.repeat(40_000) }])
    connection.close(true)
    expect(world.all('send').map(it => [it.body.n, ids(it)])).toEqual([
      [1, [1]],
      [2, [2]],
      [3, [3]],
      [4, [4, 5]],
      [5, [undefined]],
    ])
  })

  test('a long body does not use up the room of requests that outlive the page', async () => {
    const world = new World()
    const { connection } = await streaming(world)
    for (let id = 1; id <= 3; id++) await connection.publish(id)
    await world.all('send')[0]?.reply(503)
    await connection.publish(4, 'x'.repeat(40_000))
    await connection.publish(5, 'x'.repeat(40_000))
    connection.close(true)
    expect(
      world
        .all('send')
        .filter(it => it.init.keepalive)
        .map(it => it.commands[0]?.id),
    ).toEqual([1, 2, 3, undefined])
  })

  test('it is not repeated, and what cannot be reached is left', async () => {
    for (const status of [0, 401, 503]) {
      const world = new World()
      const connection = await polling(world)
      const next = world.next('poll')
      connection.close(true)
      const last = world.next('send')
      await (status ? last.reply(status) : last.lose())
      expect(next.aborted).toBe(true)
      await world.pass(60_000)
      expect([world.all('send'), world.all('poll'), world.timers.size]).toEqual([[], [], 0])
    }
    const world = new World()
    const connection = await polling(world)
    connection.close(true)
    const last = world.next('send')
    await world.pass(10_000)
    expect([last.aborted, world.timers.size]).toEqual([true, 0])
  })

  test('a poll that rests does not go up any more', async () => {
    const world = new World()
    const connection = await polling(world)
    await world.next('poll').lose()
    await world.next('poll').lose()
    connection.close(true)
    await world.pass(60_000)
    expect([world.all('poll'), world.timers.size]).toEqual([[], 0])
  })

  test('a session of before is left without a number: while it connects, and where there is no wire', async () => {
    const world = new World()
    const { down } = await streaming(world)
    await down.end()
    const connecting = new Connection(world, 'sse')
    const asked = world.next('sse')
    connecting.wire.close(true)
    world.carrier.offline(true)
    const last = world.next('send')
    expect(last.body).toEqual({ ticket: 't1', commands: DISCONNECT })
    expect(asked.aborted).toBe(true)
    world.carrier.offline(true)
    expect(world.next('send').body).toEqual({ ticket: 't1', commands: DISCONNECT })
    delete world.session.ticket
    world.carrier.offline(true)
    new Connection(world, 'sse').close(true)
    await settle()
    expect(world.all('send')).toEqual([])
  })

  test('`close` alone keeps the session', async () => {
    const world = new World()
    const { connection, down } = await streaming(world)
    await connection.publish(1)
    const sent = world.next('send')
    connection.close()
    world.carrier.end()
    expect([sent.aborted, down.aborted]).toEqual([true, true])
    await world.pass(60_000)
    expect([world.all('send'), world.timers.size, connection.end]).toEqual([[], 0, undefined])
    await connection.publish(2)
    expect(world.all('send')).toEqual([])
  })
})
