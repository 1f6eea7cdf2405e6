/** The whole client over streams and polls, against the real server. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClient, type Client, type ClientOptions } from '../../src/index.js'
import { defaultEnv, type FetchLike } from '../../src/env.js'
import { api, type Fanfare, Inbox, startFanfare } from '../../../../support/fanfare.js'

let server: Fanfare
beforeAll(async () => void (server = await startFanfare()))
afterAll(() => server?.stop())

const real = defaultEnv().fetch as FetchLike
const TRANSPORTS = ['sse', 'stream', 'poll'] as const
let count = 0

/** The states of a client, as they come. */
function statesOf(client: Client): Inbox<Client['state']> {
  const states = new Inbox<Client['state']>()
  client.on('state', states.put)
  return states
}

const connected = (state: Client['state']) => state.name === 'connected'

function open(options: ClientOptions) {
  const client = createClient({ url: server.url, ...options })
  const states = statesOf(client)
  client.connect()
  return { client, states }
}

describe.each(TRANSPORTS)('%s', transport => {
  test('publishes, is told, and goes on where it was after a cut', async () => {
    let cut = () => {}
    // The network: `cut` ends all that is open on it.
    const fetch: FetchLike = (url, init) => {
      const network = new AbortController()
      const before = cut
      cut = () => (before(), network.abort())
      const signal = AbortSignal.any([network.signal, init.signal as AbortSignal])
      return real(url, { ...init, signal })
    }
    const { client, states } = open({ transports: [transport], env: { fetch }, backoff: { min: 20, max: 50 } })
    const channel = client.channel(`test:client-${count++}`)
    const messages = new Inbox<unknown>()
    const subscribed = new Inbox<boolean | undefined>()
    channel.subscribe({
      message: ({ data }) => messages.put(data),
      subscribed: ({ recovered }) => subscribed.put(recovered),
    })
    expect(await states.next(connected)).toMatchObject({ transport, resumed: false })
    expect(await subscribed.next()).toBeUndefined()
    await channel.publish({ n: 1 })
    expect(await messages.next()).toEqual({ n: 1 })
    cut()
    if (transport !== 'poll') await states.next(state => state.name === 'disconnected')
    await api(server, 'publish', { channel: channel.name, data: { n: 2 } })
    const mine = channel.publish({ n: 3 })
    // To polls it is a lost answer.
    if (transport !== 'poll') {
      expect(await states.next(connected)).toMatchObject({ transport, resumed: true })
      expect(await subscribed.next()).toBe(true)
    }
    expect([await messages.next(), await messages.next()]).toEqual([{ n: 2 }, { n: 3 }])
    expect((await mine).position.offset).toBe(3)
    client.close()
  })

  test('comes back to a server that was killed', async () => {
    const own = await startFanfare()
    const { client, states } = open({ url: own.url, transports: [transport], backoff: { min: 20, max: 50 } })
    const channel = client.channel('test:killed')
    const gaps = new Inbox<unknown>()
    const messages = new Inbox<unknown>()
    channel.subscribe({ gap: gaps.put, message: ({ data }) => messages.put(data) })
    await states.next(connected)
    await channel.publish(1)
    await messages.next()
    await own.kill()
    await own.start()
    await gaps.next()
    await channel.publish(2)
    expect(await messages.next()).toBe(2)
    expect(client.state.name).toBe('connected')
    client.close()
    await own.stop()
  })

  test('`close` takes it out of the presence at once', async () => {
    const name = `test:client-${count++}`
    const watcher = open({ transports: ['stream'] }).client
    const changes = new Inbox<string>()
    watcher.channel(name).subscribe({ presence: (_, change) => changes.put(change.type) })
    await changes.next(type => type === 'sync')
    const { client } = open({ transports: [transport] })
    client.channel(name).subscribe({})
    client.channel(name).enter(1)
    await changes.next(type => type === 'join')
    client.close()
    await changes.next(type => type === 'leave')
    watcher.close()
  })
})
