/** What the connection does with what is particular to HTTP. */

import { expect, test } from 'vitest'
import { createClient, type ClientOptions } from '../../src/index.js'
import { CONNECTED, refusal, type Sent, settle, World } from './world.js'

function open(options: ClientOptions) {
  const world = new World()
  const client = createClient({ url: 'http://server', env: world.env, ...options })
  client.connect()
  return { world, client }
}

async function online(world: World): Promise<Sent> {
  const down = world.next('stream')
  await down.head(200, { 'content-type': 'application/x-ndjson' })
  await down.chunk(`${JSON.stringify({ ...CONNECTED, id: down.body.id })}\n`)
  return down
}

test('an attempt that hangs leads to the next transport', async () => {
  const { world, client } = open({ transports: ['stream', 'poll'] })
  await settle()
  const hanging = world.next('stream')
  await world.pass(10_000)
  expect(hanging.aborted).toBe(true)
  expect(world.next('poll').body).toMatchObject({ type: 'connect' })
  client.close()
})

test('a connection that is lost while an answer asks for patience comes back after it', async () => {
  const { world, client } = open({ transports: ['stream'] })
  await settle()
  const down = await online(world)
  client.rpc('method').catch(() => {})
  await settle()
  await world.next('send').reply(503, refusal('overloaded'), { 'retry-after': '20' })
  await down.end()
  await world.pass(19_999)
  expect(world.open('stream')).toEqual([])
  await world.pass(1)
  expect(world.open('stream').length).toBe(1)
  client.close()
})

test('replies are no sign of life of a stream', async () => {
  const { world, client } = open({ transports: ['stream'] })
  await settle()
  const down = await online(world)
  for (let n = 1; n <= 6 && !down.aborted; n++) {
    client.rpc('method').catch(() => {})
    await settle()
    const sent = world.next('send')
    await sent.reply(200, { n, replies: [{ type: 'result', id: sent.commands[0]?.id }] })
    await world.pass(13_000)
  }
  expect(client.state).toMatchObject({ reason: { code: 'silence' } })
  client.close()
})

test('`close` leaves a session that is away, by HTTP where that may be used', async () => {
  for (const transports of [['stream'], ['stream', 'websocket'], ['poll']] as const) {
    const { world, client } = open({ transports: [...transports] })
    await settle()
    if (transports[0] === 'poll') {
      client.close() // there is no session yet
      await settle()
      expect(world.open('send')).toEqual([])
      continue
    }
    const down = await online(world)
    await down.end()
    client.close()
    await settle()
    const last = world.next('send')
    expect(last.body).toEqual({ ticket: 't1', commands: [{ type: 'disconnect' }] })
    await last.reply(200, { replies: [] })
    client.close()
    await world.pass(60_000)
    expect([world.open('send'), world.timers.size]).toEqual([[], 0])
  }
})
