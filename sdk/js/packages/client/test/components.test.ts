// Components of one channel that come and go: each gets all that it asked for, in order, and nothing before or after.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Client, ClientOptions, Gap, Position, SubscribeOptions } from '../src/index.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'

let server: FakeServer
const clients: Client[] = []

beforeEach(() => {
  vi.useFakeTimers()
  server = createFakeServer({ history: 10_000 })
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.close()
  server.close()
  await later(20) // what is on its way
  expect(vi.getTimerCount(), 'timers that are left').toBe(0)
  vi.useRealTimers()
})

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)
const publish = (...data: unknown[]) => data.map(it => server.publish('c', it))

function newClient(options: ClientOptions = {}) {
  const client = server.client({ transports: ['websocket'], ...options })
  clients.push(client)
  return client
}

/** A client that follows the channel, whose history has these. From now on the network takes its time. */
async function followed(...data: unknown[]) {
  const client = newClient()
  const places = publish(...data)
  follow(client)
  await later(0)
  server.latency = 10
  return { client, places, from: places[0] }
}

/** Notes what a component is told: data, and words for the rest. */
function follow(client: Client, options: SubscribeOptions = {}) {
  const told: unknown[] = []
  const subscription = client.channel('c').subscribe({
    ...options,
    subscribed: ({ recovered }) => told.push(recovered === undefined ? 'subscribed' : `recovered ${recovered}`),
    message: message => {
      told.push(message.data)
      options.message?.(message as never)
    },
    gap: gap => {
      told.push(`gap ${gap.reason}`)
      options.gap?.(gap)
    },
    ended: ({ code }) => told.push(`ended ${code}`),
  })
  return { told, ...subscription }
}

describe('a component that comes', () => {
  test('within a handler is told `subscribed` before any message', async () => {
    const client = newClient()
    let second: ReturnType<typeof follow> | undefined
    publish(1, 2, 3)
    const first = follow(client, { recent: 3, message: () => (second ??= follow(client)) })
    await later(0)
    publish(4)
    await later(0)
    expect(first.told).toEqual(['subscribed', 1, 2, 3, 4])
    expect(second?.told).toEqual(['subscribed', 4])
  })

  test('with `since`, while the subscription of another is asked for, gets what came after it', async () => {
    const client = newClient()
    client.connect()
    await later(0)
    const [from] = publish(1, 2, 3)
    server.latency = 10
    const plain = follow(client)
    await later(1)
    const since = follow(client, { since: from as Position })
    await later(100)
    publish(4)
    await later(100)
    expect(plain.told).toEqual(['subscribed', 4])
    expect(since.told).toEqual(['subscribed', 2, 3, 4])
  })

  test('with `since`, while the subscription comes back, gets what came after it', async () => {
    const client = newClient()
    const [from] = publish(1, 2, 3)
    const plain = follow(client)
    await later(0)
    server.drop()
    publish(4, 5)
    const since = follow(client, { since: from as Position })
    await later(2_000)
    expect(plain.told).toEqual(['subscribed', 'recovered true', 4, 5])
    expect(since.told).toEqual(['subscribed', 2, 3, 4, 5])
  })

  test.each([1, 3, 9])('with `recent: %i` misses nothing that comes while it reads', async recent => {
    const { client } = await followed(1, 2, 3)
    const { told } = follow(client, { recent })
    await later(5)
    publish(4, 5) // before the server has the question
    await later(10)
    publish(6) // before its answer arrives
    await later(100)
    publish(7)
    await later(100)
    const all = [1, 2, 3, 4, 5, 6, 7]
    expect(told).toEqual(['subscribed', ...all.slice(all.indexOf(told[1] as number))])
    expect(told[1]).toBe(recent === 9 ? 1 : told[1])
    expect(told[1]).toBeLessThanOrEqual(4)
  })

  test('and may not read the history hears of the gap before anything newer', async () => {
    const { client, from } = await followed(1, 2, 3)
    server.refuse('history', { code: 'denied' }, 1)
    const { told } = follow(client, { since: from as Position })
    await later(5)
    publish(4)
    await later(100)
    publish(5)
    await later(100)
    expect(told).toEqual(['subscribed', 'gap overflow', 4, 5])
  })
})

test('one that may not read the history gets nothing at or below its `since`', async () => {
  const client = newClient()
  publish(1, 2, 3)
  follow(client)
  await later(0)
  server.drop()
  const all = publish(4, 5, 6)
  server.refuse('history', { code: 'denied' }, 1)
  const { told } = follow(client, { since: all[1] as Position })
  await later(2_000)
  publish(7)
  await later(0)
  expect(told).toEqual(['subscribed', 'gap overflow', 6, 7])
})

describe('resync', () => {
  test('messages up to the position that it returns are skipped, those that come later too', async () => {
    const client = newClient()
    publish(1)
    server.latency = 10
    const { told } = follow(client, { resync: () => ({ epoch: 'epoch1', offset: 3 }) })
    await later(100)
    publish(2, 3, 4)
    await later(100)
    expect(told).toEqual(['subscribed', 4])
  })

  test('a position of another epoch skips nothing', async () => {
    const client = newClient()
    let loaded: (at: Position) => void = () => {}
    const { told } = follow(client, { resync: () => new Promise<Position>(resolve => (loaded = resolve)) })
    await later(0)
    publish(1, 2)
    await later(0)
    loaded({ epoch: 'epoch9', offset: 7 })
    publish(3)
    await later(0)
    expect(told).toEqual(['subscribed', 1, 2, 3])
  })

  test('where more comes than is kept while it loads, it loads again, and nothing is left out', async () => {
    const client = newClient()
    const loads: ((at?: Position) => void)[] = []
    const from: number[] = []
    const { told } = follow(client, {
      resync: ({ position }) => {
        from.push(position.offset)
        return new Promise<Position | void>(resolve => loads.push(resolve))
      },
    })
    await later(0)
    for (let i = 1; i <= 1_200; i++) publish(i)
    await later(0)
    loads[0]!()
    await later(0)
    expect(from).toEqual([0, 1_200]) // what comes after it is delivered
    publish(1_201)
    loads[1]!()
    await later(0)
    expect(told).toEqual(['subscribed', 1_201])
  })

  test('one that waits to be repeated leaves no timer', async () => {
    const client = newClient()
    const { unsubscribe } = follow(client, { resync: () => Promise.reject(new Error('no')) })
    await later(0)
    unsubscribe()
    follow(client, { resync: () => Promise.reject(new Error('no')) })
    await later(0)
    server.gap('c', { reset: true }) // it loads anew, and fails again
    await later(0)
  })
})

test('a reader of `messages()` that is slow keeps 1,024 of them, and reads on from the history', async () => {
  const client = newClient()
  const reader = client.channel('c').messages()
  await later(0)
  for (let i = 1; i <= 3_000; i++) server.publish('c', i)
  await later(0)
  server.forget('c', 1_976) // what is buffered is the client's own
  const read: unknown[] = []
  for (let i = 1; i <= 3_000; i++) {
    const next = reader.next()
    await later(0)
    read.push((await next).value?.data)
  }
  expect(read).toEqual(Array.from({ length: 3_000 }, (_, i) => i + 1))
  const asked = server.received.filter(({ command }) => command.type === 'history')
  expect(asked[0]!.command).toMatchObject({ since: { offset: 1_024 } })
  await reader.return()
})

function schemaError(): never {
  throw new Error('it does not fit')
}

describe('a history that does not reach back', () => {
  test('is a gap for a component that comes late with `since`, and what there is follows', async () => {
    const { client, from } = await followed(1, 2, 3, 4, 5)
    server.forget('c', 2)
    const gaps: Gap[] = []
    const { told } = follow(client, { since: from as Position, gap: gap => gaps.push(gap) })
    await later(5)
    publish(6)
    await later(100)
    publish(7)
    await later(100)
    expect(told).toEqual(['subscribed', 'gap unrecovered', 4, 5, 6, 7])
    expect(gaps).toEqual([{ channel: 'c', position: { epoch: 'epoch1', offset: 3 }, reason: 'unrecovered' }])
  })

  test('and has nothing any more is a gap up to what came meanwhile', async () => {
    const { client, from } = await followed(1, 2)
    const gaps: number[] = []
    const { told } = follow(client, { since: from as Position, gap: ({ position }) => gaps.push(position.offset) })
    await later(5)
    publish(3)
    server.forget('c')
    await later(100)
    publish(4)
    await later(100)
    expect(told).toEqual(['subscribed', 'gap unrecovered', 3, 4])
    expect(gaps).toEqual([2])
  })

  test('and whose page does not fit the schema is a gap', async () => {
    const fits = { parse: (data: unknown) => (data === 'no' ? schemaError() : data) }
    const client = newClient({ schemas: { c: { events: { message: fits } } } })
    client.on('error', () => {})
    const [from] = publish(1, ...Array.from({ length: 1_000 }, () => 'no'), 2)
    follow(client)
    await later(0)
    const { told } = follow(client, { since: from as Position })
    await later(0)
    publish(3)
    await later(0)
    expect(told).toEqual(['subscribed', 'gap unrecovered', 3])
  })

  test('is a gap between two pages', async () => {
    const { client, places: all } = await followed(...Array.from({ length: 1_500 }, (_, i) => i + 1))
    const { told } = follow(client, { since: { ...(all[0] as Position), offset: 100 } })
    await later(15) // the first page is on its way down
    server.forget('c', 200)
    await later(100)
    publish(1_501)
    await later(100)
    const first = Array.from({ length: 1_000 }, (_, i) => i + 101)
    const rest = Array.from({ length: 201 }, (_, i) => i + 1_301)
    expect(told).toEqual(['subscribed', ...first, 'gap unrecovered', ...rest])
  })

  test('ends a loop over `messages()` that has fallen behind, after all that it has', async () => {
    const client = newClient()
    const reader = client.channel('c').messages()
    await later(0)
    for (let i = 1; i <= 3_000; i++) server.publish('c', i)
    await later(0)
    server.forget('c', 500)
    const read: unknown[] = []
    let error: unknown
    for (let i = 1; i <= 3_000 && !error; i++) {
      const next = reader.next().then(
        ({ value }) => read.push(value?.data),
        thrown => (error = thrown),
      )
      await later(0)
      await next
    }
    expect(read).toEqual(Array.from({ length: 1_024 }, (_, i) => i + 1))
    expect(error).toMatchObject({ code: 'gap', channel: 'c' })
    await expect(reader.next()).resolves.toMatchObject({ done: true })
  })

  test('costs `recent` nothing, where more came than it asked for', async () => {
    const { client } = await followed(1, 2)
    const { told } = follow(client, { recent: 1 })
    await later(5)
    publish(3, 4, 5) // the page has only 5
    await later(10)
    server.forget('c', 1)
    await later(100)
    expect(told).toEqual(['subscribed', 3, 4, 5])
  })

  test('and is empty leaves `recent` with what comes', async () => {
    const { client } = await followed(1, 2)
    const { told } = follow(client, { recent: 3 })
    await later(5)
    publish(3, 4)
    server.forget('c')
    await later(100)
    publish(5)
    await later(100)
    expect(told).toEqual(['subscribed', 3, 4, 5])
  })
})

test('components that leave while the client is closed leave no timer', async () => {
  const client = newClient()
  const subscription = client.channel('c').subscribe({ ended: () => subscription.unsubscribe() })
  const next = client.channel('c').messages().next()
  await later(0)
  client.close()
  await expect(next).resolves.toMatchObject({ done: true })
})

test('a loop over an unsubscribed channel leaves what others know', async () => {
  const client = newClient()
  const one = follow(client)
  const other = follow(client)
  await later(0)
  one.unsubscribe()
  publish(1)
  await later(5_000)
  publish(2)
  await later(0)
  expect(one.told).toEqual(['subscribed'])
  expect(other.told).toEqual(['subscribed', 1, 2])
})

test('where the server has subscribed the client, a component with other options loses nothing', async () => {
  const client = newClient()
  client.connect()
  await later(0)
  const [me] = server.clients
  server.subscribe(me!.client, 'c')
  await later(0)
  const first = follow(client, { presence: () => {} }) // the subscription begins anew with its options, and is its own
  await later(0)
  server.latency = 10
  const second = follow(client, { recent: 2 })
  first.unsubscribe()
  const third = follow(client, { presence: () => {} })
  for (let i = 1; i <= 20; i++) {
    publish(i)
    await later(3)
  }
  await later(500)
  for (const { told } of [second, third]) {
    const numbers = told.filter(it => typeof it === 'number')
    expect(numbers).toEqual(Array.from({ length: 20 }, (_, i) => i + 1).slice(-numbers.length))
    expect(numbers.length).toBeGreaterThanOrEqual(19)
  }
})

test('where the server subscribes the client while its own request is refused, its subscription goes on', async () => {
  const client = newClient()
  client.connect()
  await later(0)
  const of = (client.state as { client: string }).client
  server.refuse('subscribe', { code: 'denied', message: 'no' }, 1)
  server.latency = 10
  const told = follow(client).told
  server.subscribe(of, 'c')
  await later(5)
  publish('early') // it arrives before the refusal
  await later(30)
  expect(told).toEqual(['ended denied'])
  expect(client.channel('c').position).toMatchObject({ offset: 1 })
  expect(server.channel('c').subscribers).toEqual([of])
  expect(client.channel('c').state).toBe('live')
  const next = follow(client).told
  await later(0)
  publish('heard')
  await later(30)
  expect(next).toEqual(['subscribed', 'heard'])
})

test('where the server subscribes a client that waits to ask again, no timer is left', async () => {
  const client = newClient()
  client.connect()
  await later(0)
  server.refuse('subscribe', { code: 'unavailable' })
  follow(client)
  await later(0)
  for (let i = 0; i < 3; i++) {
    server.subscribe((client.state as { client: string }).client, 'c')
    await later(0)
    server.unsubscribe((client.state as { client: string }).client, 'c')
    await later(0)
  }
})

describe('presence', () => {
  test('an entry that another one overtakes is settled with it', async () => {
    const client = newClient()
    const channel = client.channel('c')
    client.connect()
    await later(0)
    server.latency = 10
    const [one, other] = [channel.enter(1), channel.enter(2)]
    await later(200)
    await expect(one.ready).resolves.toBeUndefined()
    await expect(other.ready).resolves.toBeUndefined()
    expect(server.channel('c').members).toMatchObject([{ data: 2 }])
    other.leave()
    await later(200)
    expect(server.channel('c').members).toMatchObject([{ data: 1 }])
  })

  test('where the newest entry is refused, the one before stands', async () => {
    const client = newClient()
    const one = client.channel('c').enter(1)
    await later(0)
    server.refuse('presence_set', { code: 'invalid_data' }, 1)
    const other = client.channel('c').enter(2)
    await later(0)
    await expect(one.ready).resolves.toBeUndefined()
    await expect(other.ready).rejects.toMatchObject({ code: 'invalid_data' })
    expect(server.channel('c').members).toMatchObject([{ data: 1 }])
  })

  test('an entry that crosses the end of the subscription is entered again', async () => {
    const client = newClient()
    follow(client)
    await later(0)
    server.latency = 10
    server.unsubscribe(server.clients[0]!.client, 'c', { code: 'unavailable' })
    const entry = client.channel('c').enter('me')
    await later(5_000)
    await expect(entry.ready).resolves.toBeUndefined()
    expect(server.channel('c').members).toMatchObject([{ data: 'me' }])
  })

  test('a list that is to be asked for again leaves no timer', async () => {
    const client = newClient()
    server.refuse('presence', { code: 'unavailable' })
    follow(client, { presence: () => {} })
    await later(0)
  })
})
