// What an application does wrong costs that call alone, and is told: data that JSON cannot write, promises that nobody
// looks at, handlers that throw.

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Client, FanfareError } from '../src/index.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'

let server: FakeServer
let client: Client
let unhandled: unknown[]
const noted = (reason: unknown) => unhandled.push(reason)

beforeEach(() => {
  unhandled = []
  process.on('unhandledRejection', noted)
  server = createFakeServer()
  client = server.client({ token: 'ada' })
})

afterEach(async () => {
  client.close()
  server.close()
  await new Promise(resolve => setImmediate(resolve)) // Node tells of rejections after a turn
  process.off('unhandledRejection', noted)
  vi.restoreAllMocks()
  expect(unhandled).toEqual([])
})

const cycle: { self?: unknown } = {}
cycle.self = cycle

describe.each([
  ['a cycle', cycle],
  ['a BigInt', 1n],
])('data that JSON cannot write: %s', (_, bad) => {
  const calls: Record<string, () => Promise<unknown>> = {
    publish: () => client.channel('chat:x').publish(bad),
    rpc: () => client.rpc('add', bad),
    signal: () => client.channel('chat:x').signal('typing', bad),
    'signal to one': () => client.channel('chat:x').signal('typing', bad, { to: 'somebody' }),
    enter: () => client.channel('chat:x').enter(bad).ready,
  }
  test.each(
    Object.keys(calls).flatMap(
      name =>
        [
          [name, true],
          [name, false],
        ] as [string, boolean][],
    ),
  )('%s, online: %s', async (name, isOnline) => {
    if (isOnline) await client.channel('chat:x').subscribe().ready
    const states: string[] = []
    client.on('state', state => states.push(state.name))
    client.on('error', () => {})
    const error = (await calls[name]?.().catch((error: unknown) => error)) as FanfareError
    if (isOnline || name !== 'signal') expect(error).toMatchObject({ name: 'FanfareError', code: 'bad_argument' })
    await server.settled()
    expect(states.filter(state => state === 'disconnected' || state === 'error')).toEqual([])
  })

  test('update', async () => {
    const entry = client.channel('chat:x').enter({ name: 'Ada' })
    await entry.ready
    const errors: string[] = []
    client.on('error', error => errors.push(error.code))
    entry.update(bad)
    await server.settled()
    expect(errors).toEqual(['bad_argument'])
    expect(client.state.name).toBe('connected')
  })
})

test('promises that nobody looks at are no unhandled rejections', async () => {
  const channel = client.channel('chat:x')
  await channel.subscribe().ready
  server.latency = 50
  void channel.signal('typing', true, { to: 'somebody' })
  void channel.history()
  void channel.members()
  void client.rpc('add', 1)
  void channel.publish(1)
  void client.probe()
  client.close()
})

test('a handler of the client that fails later is told as one that throws', async () => {
  const errors: string[] = []
  client.on('error', error => errors.push(error.message))
  client.on('state', async state => {
    if (state.name === 'connected') throw new Error('a slip')
  })
  await client.channel('chat:x').subscribe().ready
  await server.settled()
  expect(errors).toEqual([expect.stringContaining('a slip')])
})

test('where nobody listens to `error`, the console has it', async () => {
  const said = vi.spyOn(console, 'error').mockImplementation(() => {})
  await client.channel('chat:x').subscribe(() => {
    throw new Error('a slip')
  }).ready
  server.publish('chat:x', 1)
  await server.settled()
  expect(said).toHaveBeenCalledWith(expect.stringContaining('a slip'), expect.anything())
  const off = client.on('error', () => {
    throw new Error('another')
  })
  server.publish('chat:x', 2)
  await server.settled()
  expect(said).toHaveBeenCalledTimes(2)
  expect(said).toHaveBeenLastCalledWith(expect.stringContaining('another'), expect.anything())
  off()
})

test('a subscription that no server takes costs none of the others', async () => {
  client = server.client({ token: 'ada', backoff: { min: 10, max: 10 } })
  const refused = client.channel('chat:my room').subscribe().ready
  const good = client.channel('chat:x').subscribe().ready
  await expect(refused).rejects.toMatchObject({ code: 'bad_request' })
  await good
  expect(client.state.name).toBe('connected')
})

test.each([5, [1], 'text', {}])('a `resync` that gives no position, but %s, gives none', async given => {
  const seen: unknown[] = []
  const resync = () => given as never
  await client.channel('chat:x').subscribe({ resync, message: ({ data }) => seen.push(data) }).ready
  server.publish('chat:x', 1)
  await server.settled()
  expect(seen).toEqual([1])
})
