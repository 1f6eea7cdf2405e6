/** Streams, polls and sends against the real server: what is lost, late or repeated on the way changes nothing. */

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { defaultEnv, type FetchLike, type RequestLike, type ResponseLike } from '../../src/env.js'
import { createHttp } from '../../src/http.js'
import type { Session, Wire, WireEnd } from '../../src/transport.js'
import type { Command, ServerMessage, WireSubscribed } from '../../src/wire.js'
import { type Fanfare, startFanfare } from '../../../../support/fanfare.js'

type Transport = 'sse' | 'stream' | 'poll'
type Fields = Record<string, unknown>
const TRANSPORTS: Transport[] = ['sse', 'stream', 'poll']

let server: Fanfare
beforeAll(async () => void (server = await startFanfare({ env: { FANFARE__HEARTBEAT__INTERVAL: '1s' } })))
afterAll(() => server?.stop())

const env = defaultEnv()
let channel = ''
let count = 0
beforeEach(() => void (channel = `test:http-${count++}`))

/** A client as small as it can be: what it was told, and a way to wait for more. */
class Client {
  readonly session: Session = { page: `page-${Math.random()}` }
  messages: ServerMessage[] = []
  replies: ServerMessage[] = []
  end: WireEnd | undefined
  wire!: Wire
  private watchers = new Set<() => void>()
  private ids = 0
  readonly carrier

  constructor(fetch: FetchLike = env.fetch as FetchLike, url = server.url) {
    this.carrier = createHttp({ ...env, fetch }, url, this.session, {})
  }

  async connect(transport: Transport, subscribe: Fields[] = [], connect: Fields = {}): Promise<Fields> {
    this.messages = []
    this.end = undefined
    const change = () => this.change()
    const wire = this.carrier.open(transport, {
      reached() {},
      messages: messages => {
        for (const message of messages) {
          if (message.type === 'connected') {
            if (message.ticket) this.session.ticket = message.ticket
            delete this.session.ack
            this.carrier.online(message.session_resumed)
          }
          if (message.type === 'ping') wire?.send([{ type: 'pong' }])
        }
        this.messages.push(...messages)
        change()
      },
      replies: replies => {
        this.replies.push(...replies)
        change()
      },
      closed: end => {
        this.end = end
        this.carrier.offline()
        change()
      },
    })
    if (!wire) throw new Error('no such transport')
    this.wire = wire
    const { ticket, page, ack } = this.session
    wire.connect(() => ({ type: 'connect', id: 0, page, ticket, ack, subscribe, ...connect }))
    return this.until(() => this.messages.find(it => it.type === 'connected')) as Promise<never>
  }

  private change(): void {
    for (const watcher of this.watchers) watcher()
  }

  /** Waits until it gives something. */
  until<T>(probe: () => T): Promise<NonNullable<T>> {
    return new Promise((resolve, reject) => {
      const watcher = () => {
        const found = probe()
        if (found) resolve(found)
        else if (this.end) reject(new Error(`the connection has ended: ${JSON.stringify(this.end)}`))
        else return
        this.watchers.delete(watcher)
      }
      this.watchers.add(watcher)
      watcher()
    })
  }

  close(leave?: boolean): void {
    this.wire.close(leave)
    this.carrier.offline()
  }

  ended(): Promise<WireEnd> {
    return this.until(() => this.end)
  }

  give(...commands: Omit<Command, 'id'>[]): number[] {
    const numbered = commands.map(command => ({ ...command, id: ++this.ids }) as Command)
    this.wire.send(numbered)
    return numbered.map(command => command.id as number)
  }

  async ask(command: Omit<Command, 'id'>): Promise<Fields> {
    const [id] = this.give(command)
    return this.until(() => this.replies.find(reply => (reply as { id?: number }).id === id)) as Promise<never>
  }

  publish(...data: unknown[]): void {
    for (const each of data) this.give({ type: 'publish', channel, data: each })
  }

  /** The data of the messages that have come. */
  get data(): unknown[] {
    return this.messages.flatMap(it => (it.type === 'message' ? [it.data] : []))
  }

  subscribed(): Promise<WireSubscribed> {
    return this.until(() => this.messages.find((it): it is WireSubscribed => it.type === 'subscribed'))
  }
}

/** A `fetch` that does something with some requests: `n` counts those to this path. */
function meddle(
  what: (path: string, n: number, ask: () => Promise<ResponseLike>, init: RequestLike) => Promise<ResponseLike>,
) {
  const counts: Record<string, number> = {}
  return ((url, init) => {
    const path = new URL(url).pathname
    const n = (counts[path] = (counts[path] ?? 0) + 1)
    return what(path, n, () => (env.fetch as FetchLike)(url, init), init)
  }) satisfies FetchLike
}

/** The data that the channel holds. */
async function held(): Promise<unknown[]> {
  const reader = new Client()
  await reader.connect('poll')
  const history = await reader.ask({ type: 'history', channel, limit: 1000 })
  reader.close(true)
  return (history.publications as { data: unknown }[]).map(publication => publication.data)
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)

describe.each(TRANSPORTS)('%s', transport => {
  test('connects, subscribes, publishes and is told', async () => {
    const client = new Client()
    expect(await client.connect(transport)).toMatchObject({ session_resumed: false, protocol: 'fanfare.v1' })
    expect(await client.ask({ type: 'subscribe', channel })).toMatchObject({ type: 'subscribed', channel, offset: 0 })
    expect(await client.ask({ type: 'publish', channel, data: { text: 'grüße 😀' } })).toMatchObject({
      type: 'published',
      offset: 1,
    })
    await client.until(() => client.data.length)
    expect(client.data).toEqual([{ text: 'grüße 😀' }])
    expect(await client.ask({ type: 'shout' })).toMatchObject({ type: 'error', code: 'unknown_command' })
    client.close(true)
  })

  test('what was missed comes after the connection was given up', async () => {
    const other = new Client()
    await other.connect('stream')
    const client = new Client()
    const { client: me } = await client.connect(transport, [{ channel }])
    const { epoch } = await client.subscribed()
    other.publish(1)
    await client.until(() => client.data.length)
    client.close()
    other.publish(2, 3)
    await other.until(() => other.replies.length === 3)
    const again = await client.connect(transport, [{ channel, since: { epoch, offset: 1 } }])
    expect(again).toMatchObject({ client: me, session_resumed: true })
    const { recovered, publications } = await client.subscribed()
    expect([recovered, publications.map(it => it.data)]).toEqual([true, [2, 3]])
    for (const it of [client, other]) it.close(true)
  })

  test('lost answers to sends change nothing', async () => {
    const times = new Map<unknown, number>()
    const client = new Client(
      meddle(async (path, _, ask, { body }) => {
        const response = await ask()
        times.set(body, (times.get(body) ?? 0) + 1)
        if (path !== '/v1/send' || times.get(body) === 3) return response
        await response.text()
        throw new TypeError('fetch failed')
      }),
    )
    await client.connect(transport)
    client.publish(...numbers(12))
    await client.until(() => client.replies.length === 12)
    expect(client.replies.map(it => it.type)).toEqual(Array.from({ length: 12 }, () => 'published'))
    expect(await held()).toEqual(numbers(12))
    client.close(true)
  })

  test('sends that overtake each other take effect in order, also where some never arrive', async () => {
    const client = new Client(
      meddle(async (path, n, ask) => {
        if (path !== '/v1/send') return ask()
        if (n % 5 === 1) throw new TypeError('fetch failed')
        await new Promise(resolve => setTimeout(resolve, (n * 37) % 60)) // the order of arrival, not a time
        return ask()
      }),
    )
    await client.connect(transport)
    client.publish(...numbers(20))
    await client.until(() => client.replies.length === 20)
    expect(await held()).toEqual(numbers(20))
    client.close(true)
  })

  test('commands under way when the connection is lost do not take effect behind one’s back', async () => {
    let isCut = false
    const late: (() => Promise<unknown> | undefined)[] = []
    const client = new Client(
      meddle(async (path, _, ask, init) => {
        if (path !== '/v1/send' || !isCut || init.body?.includes('"commands":[]')) return ask()
        // It arrives when the session is on its next connection.
        const { signal: __, ...rest } = init
        late.push(() => env.fetch?.(`${server.url}${path}`, rest))
        return new Promise(() => {})
      }),
    )
    await client.connect(transport, [{ channel }])
    await client.subscribed()
    isCut = true
    client.publish('first')
    client.give({ type: 'unsubscribe', channel })
    await null // in this turn nothing goes up
    expect(late.length).toBe(1)
    client.close()
    expect(client.carrier.mayLeave(channel)).toBe(true)
    isCut = false
    expect(await client.connect(transport)).toMatchObject({ session_resumed: true })
    // Its number is the next one: once it is answered, those before it are settled.
    expect(await client.ask({ type: 'subscribe', channel })).toMatchObject({ type: 'subscribed' })
    for (const arrive of late) await arrive()
    expect(client.carrier.mayLeave(channel)).toBe(false)
    client.publish('second')
    await client.until(() => client.data.length)
    expect(client.data).toEqual(['second'])
    expect(await held()).toEqual(['second'])
    client.close(true)
  })

  test('leaving ends the session at once', async () => {
    const client = new Client()
    const { client: me } = await client.connect(transport, [{ channel }])
    const { ticket } = client.session
    const watcher = new Client()
    await watcher.connect('stream', [{ channel, presence: true }])
    await watcher.subscribed()
    await client.ask({ type: 'presence_set', channel, data: 1 })
    await watcher.until(() => watcher.messages.find(it => it.type === 'join'))
    client.publish('last words')
    client.close(true)
    client.carrier.end()
    const leave = await watcher.until(() => watcher.messages.find(it => it.type === 'leave'))
    expect(leave).toMatchObject({ client: me })
    await watcher.until(() => watcher.data.length)
    expect(watcher.data).toEqual(['last words'])
    client.session.ticket = ticket as string
    expect(await client.connect(transport)).toMatchObject({ session_resumed: false })
    for (const it of [client, watcher]) it.close(true)
  })

  test('a server that ends is an end, and so is one that has forgotten us', async () => {
    const own = await startFanfare()
    const client = new Client(undefined, own.url)
    await client.connect(transport)
    await own.kill()
    if (transport !== 'poll') expect(await client.ended()).toMatchObject({ kind: 'lost' })
    await own.start()
    if (transport === 'poll') expect(await client.ended()).toMatchObject({ kind: 'error', session: 'forget' })
    expect(await client.connect(transport)).toMatchObject({ session_resumed: false })
    client.close(true)
    await own.stop()
  })

  test('a `connect` that is refused, and a path that is not there', async () => {
    const client = new Client()
    await expect(client.connect(transport, [], { page: 7 })).rejects.toThrow('bad_request')
    expect(client.end).toMatchObject({ kind: 'error', error: { code: 'bad_request' } })
    const elsewhere = new Client(undefined, `${server.url}/elsewhere`)
    await expect(elsewhere.connect(transport)).rejects.toThrow('refused')
    const nowhere = new Client(undefined, 'http://127.0.0.1:1')
    await expect(nowhere.connect(transport)).rejects.toThrow('"kind":"lost"')
  })
})

test('streams outlive their heartbeats, by answers that are lost now and then', async () => {
  const client = new Client(
    meddle(async (path, n, ask) => {
      if (path === '/v1/send' && n % 2) throw new TypeError('fetch failed')
      return ask()
    }),
  )
  await client.connect('stream')
  await client.until(() => client.messages.filter(it => it.type === 'ping').length >= 4)
  expect(client.end).toBeUndefined()
  client.close(true)
})

test('a stream without answers to its heartbeats is ended by the server', async () => {
  const client = new Client(
    meddle((path, _, ask) => (path === '/v1/send' ? Promise.reject(new TypeError('fetch failed')) : ask())),
  )
  await client.connect('sse')
  const disconnect = await client.until(() => client.messages.find(it => it.type === 'disconnect'))
  expect(disconnect).toMatchObject({ code: 4001 })
  client.close()
})

test('lost answers to polls lose and repeat no message', async () => {
  const client = new Client(
    meddle(async (path, n, ask) => {
      const response = await ask()
      if (path !== '/v1/poll' || n % 2) return response
      await response.text()
      throw new TypeError('fetch failed')
    }),
  )
  await client.connect('poll', [{ channel }])
  await client.subscribed()
  for (const n of numbers(6)) {
    client.publish(n)
    await client.until(() => client.data.length === n + 1)
  }
  expect(client.data).toEqual(numbers(6))
  client.close(true)
})

test('a lost answer to the `connect` of polls leads to the same session', async () => {
  let first: string | undefined
  const client = new Client(
    meddle(async (path, n, ask) => {
      const response = await ask()
      if (path !== '/v1/poll' || n > 1) return response
      first = /"client":"([^"]+)"/.exec(await response.text())?.[1]
      throw new TypeError('fetch failed')
    }),
  )
  const { client: me } = await client.connect('poll')
  expect(me).toBe(first)
  client.close(true)
})

test('a session goes from transport to transport, and its numbers with it', async () => {
  const client = new Client()
  const { client: me } = await client.connect('poll', [{ channel }])
  const { epoch } = await client.subscribed()
  let offset = 0
  for (const transport of ['sse', 'stream', 'poll', 'sse', 'poll'] as const) {
    client.publish(offset)
    await client.until(() => client.data.length)
    expect(client.data).toEqual([offset++])
    client.close()
    const connected = await client.connect(transport, [{ channel, since: { epoch, offset } }])
    expect(connected).toMatchObject({ client: me, session_resumed: true })
    expect(await client.subscribed()).toMatchObject({ recovered: true, publications: [] })
  }
  client.close(true)
})

test('many commands go up at once, and all are answered', async () => {
  const client = new Client()
  await client.connect('sse', [{ channel }])
  await client.subscribed()
  client.give(...numbers(300).map(data => ({ type: 'publish', channel, data: { data, text: 'x'.repeat(2_000) } })))
  await client.until(() => client.replies.length === 300 && client.data.length === 300)
  expect(client.data.map(it => (it as Fields).data)).toEqual(numbers(300))
  expect(client.replies.every(reply => reply.type === 'published')).toBe(true)
  client.close(true)
})
