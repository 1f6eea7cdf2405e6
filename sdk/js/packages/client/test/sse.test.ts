/**
 * `SSEClient` against a `fetch` of the test, under a fake clock.
 */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type SSEConnectOptions, SSEClient, SSEError } from '../src/sse.js'
import { FakeFetch } from './support/fake-fetch.js'

const URL = 'http://host/events'
/** Longer than any rest after a first failure. */
const REST = 1_500

let net: FakeFetch
let client: SSEClient
let told: string[]
let errors: SSEError[]
const unhandled: unknown[] = []
const onUnhandled = (thrown: unknown) => unhandled.push(thrown)

beforeEach(() => {
  vi.useFakeTimers()
  net = new FakeFetch()
  client = new SSEClient({ fetch: net.fetch, random: () => 0.5 })
  told = []
  errors = []
  process.on('unhandledRejection', onUnhandled)
})

afterEach(async () => {
  client.disconnect()
  await pass()
  vi.useRealTimers()
  await new Promise(resolve => setImmediate(resolve))
  process.off('unhandledRejection', onUnhandled)
  expect(unhandled.splice(0)).toEqual([])
  expect(net.openMost).toBeLessThanOrEqual(1)
})

const pass = (ms = 0) => vi.advanceTimersByTimeAsync(ms)

function connect(options: SSEConnectOptions = {}): void {
  client.connect(URL, {
    onMessage: data => void told.push(JSON.stringify(data)),
    onOpen: () => void told.push('open'),
    onError: error => void (errors.push(error), told.push(error.reason)),
    ...options,
  })
}

/** Connects, and gets a stream. */
async function opened(options: SSEConnectOptions = {}, text = ''): Promise<void> {
  connect(options)
  await pass()
  net.last.open(text)
  await pass()
}

describe('a stream', () => {
  test('is asked for as what it is, and its messages come parsed', async () => {
    connect({ headers: { Authorization: 'Bearer x' }, credentials: 'include' })
    expect(client.state).toBe('connecting')
    await pass()
    const { url, request } = net.last
    expect(url).toBe(URL)
    expect(request.headers).toEqual({ Accept: 'text/event-stream', Authorization: 'Bearer x' })
    expect(request).toMatchObject({ method: 'GET', cache: 'no-store', credentials: 'include' })
    net.last.open('data: {"n":1}\n\n')
    await pass()
    net.last.send('data: [2]\n\ndata: "three"\n\n')
    await pass()
    expect(told).toEqual(['open', '{"n":1}', '[2]', '"three"'])
    expect(client.state).toBe('open')
  })

  test('may have a byte order mark, and be cut within a letter', async () => {
    await opened()
    for (const byte of new TextEncoder().encode('\ufeffdata: "你好"\n\n')) {
      net.last.send(new Uint8Array([byte]))
      await pass()
    }
    expect(told).toEqual(['open', '"你好"'])
  })

  test('has events by name: parsed by `events`, as text by listeners', async () => {
    const seen: unknown[] = []
    const listener = (event: unknown) => seen.push(event)
    client.addEventListener('custom-event', listener)
    client.addEventListener('message', event => seen.push(event.data))
    await opened({ events: { 'custom-event': (data, event) => seen.push([data, event.lastEventId]) } })
    net.last.send('id: 5\nevent: custom-event\ndata: {"n":1}\n\n')
    await pass()
    expect(seen).toEqual([[{ n: 1 }, '5'], { type: 'custom-event', data: '{"n":1}', lastEventId: '5' }])
    client.removeEventListener('custom-event', listener)
    net.last.send('event: custom-event\ndata: 2\n\nevent: toString\ndata: 3\n\ndata: 4\n\n')
    await pass()
    expect(seen.slice(2)).toEqual([[2, '5'], '4'])
    expect(told).toEqual(['open', '4'])
  })

  test('whose data is no JSON: an error with the text, and the next message comes', async () => {
    await opened({}, 'data: {half\n\ndata: 1\n\n')
    expect(told).toEqual(['open', 'parse', '1'])
    expect(errors[0]).toMatchObject({ reason: 'parse', willReconnect: true, event: { data: '{half' } })
    expect(errors[0]?.cause).toBeInstanceOf(SyntaxError)
  })

  test('may be plain text', async () => {
    await opened({ parse: text => text }, 'data: plain\n\n')
    expect(told).toEqual(['open', '"plain"'])
  })

  test('a handler that throws, or whose promise fails, costs its own message only', async () => {
    const handler = (data: unknown) => {
      if (data === 1) throw new Error('one')
      if (data === 2) return Promise.reject(new Error('two'))
      return told.push(JSON.stringify(data))
    }
    await opened({ onMessage: handler }, 'data: 1\n\ndata: 2\n\ndata: 3\n\n')
    expect(told).toEqual(['open', 'handler', '3', 'handler'])
    expect(errors.map(error => (error.cause as Error).message)).toEqual(['one', 'two'])
    expect(client.state).toBe('open')
  })

  test('an onError that throws is told to the console', async () => {
    const console = vi.spyOn(globalThis.console, 'error').mockImplementation(() => {})
    const onError = () => {
      throw new Error('again')
    }
    await opened({ onError }, 'data: {\n\ndata: 1\n\n')
    expect(told).toEqual(['open', '1'])
    expect(console).toHaveBeenCalledOnce()
  })

  test('without onError the console gets what does not pass by itself, and no lost connection', async () => {
    const console = vi.spyOn(globalThis.console, 'error').mockImplementation(() => {})
    connect({ onError: undefined })
    await pass()
    net.last.fail(new TypeError('fetch failed'))
    await pass(REST)
    net.last.refuse(404, {}, 'no such channel')
    await pass()
    expect(console).toHaveBeenCalledOnce()
    expect(console.mock.calls[0]?.[0]).toContain('404: no such channel')
  })

  test('an event that is too large ends it', async () => {
    await opened({ maxEventSize: 100 }, 'data: ' + '1'.repeat(100))
    expect(told).toEqual(['open', 'too-large'])
    expect(errors[0]?.willReconnect).toBe(false)
    expect(net.last.aborted).toBe(true)
    await pass(60_000)
    expect(net.requests).toHaveLength(1)
  })

  test('an event of 1 MiB may come by default', async () => {
    const size = 1024 * 1024
    await opened({ onMessage: data => told.push(String((data as string).length)) })
    net.last.send(`data: "${'x'.repeat(size - 8)}"\n\n`)
    await pass()
    net.last.send(`data: "${'x'.repeat(size - 7)}"\n\n`)
    await pass()
    expect(told).toEqual(['open', String(size - 8), 'too-large'])
  })

  test('tells of lost events where nobody listens for that', async () => {
    const gap = 'event: fanfare.gap\ndata: {"channel":"a"}\n\n'
    await opened({}, gap)
    client.addEventListener('fanfare.gap', () => told.push('heard'))
    net.last.send(gap)
    await pass()
    expect(told).toEqual(['open', 'gap', 'heard'])
  })
})

describe('the end of a stream', () => {
  test('comes back after a rest, with the last id', async () => {
    await opened({}, 'id: a1\ndata: 1\n\nid: a2\ndata: 2')
    net.last.end()
    await pass(499)
    expect(client.state).toBe('waiting')
    expect(net.requests).toHaveLength(1)
    await pass(REST)
    expect(net.requests).toHaveLength(2)
    expect(net.last.request.headers['Last-Event-ID']).toBe('a1')
    net.last.open('data: 2\n\n')
    await pass()
    expect(told).toEqual(['open', '1', 'ended', 'open', '2'])
    expect(client.lastEventId).toBe('a1')
  })

  test("an id goes as bytes of UTF-8, as an EventSource's does", async () => {
    await opened({}, 'id: ü你\n\n')
    net.last.end()
    await pass(REST)
    expect(Buffer.from(net.last.request.headers['Last-Event-ID'] ?? '', 'latin1').toString()).toBe('ü你')
  })

  test('an id may go by a parameter', async () => {
    client.connect(URL + '?a=1#part', { lastEventIdParam: 'lastEventId', lastEventId: 'x y&z' })
    await pass()
    expect(net.last.url).toBe(URL + '?a=1&lastEventId=x%20y%26z#part')
    expect(net.last.request.headers['Last-Event-ID']).toBeUndefined()
  })

  test.each([
    ['an end by the server', () => net.last.open().end(), 'ended'],
    ['no connection', () => net.last.fail(new TypeError('fetch failed')), 'network'],
    ['a connection that breaks', () => net.last.open().fail(new TypeError('terminated')), 'network'],
    ['503', () => net.last.refuse(503), 'status'],
    ['500 with a page', () => net.last.refuse(500, { 'Content-Type': 'text/html' }, '<html>'), 'status'],
    ['429', () => net.last.refuse(429), 'status'],
    ['408', () => net.last.refuse(408), 'status'],
  ])('%s: another try', async (_, happens, reason) => {
    connect()
    await pass()
    happens()
    await pass(REST)
    expect(errors).toMatchObject([{ reason, willReconnect: true }])
    expect(net.requests).toHaveLength(2)
  })

  test.each([
    ['400', 400, {}, 'status'],
    ['401', 401, {}, 'status'],
    ['403', 403, {}, 'status'],
    ['404', 404, {}, 'status'],
    ["204, the standard's way to say stop", 204, {}, 'status'],
    ['206', 206, { 'Content-Type': 'text/event-stream' }, 'status'],
    ['a page', 200, { 'Content-Type': 'text/html' }, 'content-type'],
    ['JSON', 200, { 'Content-Type': 'application/json' }, 'content-type'],
    ['no type', 200, {}, 'content-type'],
    ['nearly the type', 200, { 'Content-Type': 'text/event-stream2' }, 'content-type'],
  ])('%s: the end', async (_, status, headers, reason) => {
    connect()
    await pass()
    net.last.refuse(status, headers as Record<string, string>, 'because')
    await pass(60_000)
    expect(errors).toMatchObject([{ reason, status, willReconnect: false }])
    expect(client.state).toBe('ended')
    expect(net.requests).toHaveLength(1)
    expect(net.openNow).toBe(0)
  })

  test('a refusal says why, by a part of the body that is not awaited for ever', async () => {
    connect()
    await pass()
    net.last.refuse(403, { 'Content-Type': 'text/plain' }, 'the rule `a:*` lets nobody in')
    await pass()
    expect(errors[0]?.message).toBe('403: the rule `a:*` lets nobody in')
    connect({ connectTimeout: 5_000 })
    await pass()
    net.last.answer(403, { 'Content-Type': 'text/plain' }, 'half a rea')
    await pass(5_000)
    expect(errors[1]?.status).toBe(403)
    expect(errors[1]?.willReconnect).toBe(false)
    connect()
    await pass()
    net.last.answer(400, {}, 'x'.repeat(2000))
    await pass()
    expect(errors[2]?.message).toHaveLength('400: '.length + 500)
  })

  test.each(['text/event-stream', 'Text/Event-Stream;charset=utf-8', ' text/event-stream ; a=b'])(
    '%s is an event stream',
    async type => {
      connect()
      await pass()
      net.last.answer(200, { 'content-type': type })
      await pass()
      expect(told).toEqual(['open'])
    },
  )

  test('a page in the place of a stream that was there before passes', async () => {
    await opened()
    net.last.end()
    await pass(REST)
    net.last.answer(200, { 'Content-Type': 'text/html' }, '<title>Welcome to our hotel</title>')
    await pass(3_000)
    expect(errors[1]).toMatchObject({ reason: 'content-type', willReconnect: true })
    expect(net.requests).toHaveLength(3)
  })

  test('an answer that does not begin is given up, and so is one whose fetch knows no signal', async () => {
    connect({ connectTimeout: 3_000 })
    await pass(3_000)
    expect(told).toEqual(['timeout'])
    expect(net.last.aborted).toBe(true)
    client.disconnect()
    const deaf = new SSEClient({ fetch: () => new Promise(() => {}), AbortController: undefined })
    deaf.connect(URL, { connectTimeout: 3_000, onError: error => told.push(error.reason) })
    await pass(3_000)
    expect(told).toEqual(['timeout', 'timeout'])
    deaf.disconnect()
  })

  test('a place without fetch, or whose fetch cannot stream, says so', async () => {
    for (const fetch of [
      undefined,
      async () => ({
        status: 200,
        headers: new Headers({ 'content-type': 'text/event-stream' }),
        body: null,
        text: async () => '',
      }),
    ]) {
      new SSEClient({ fetch }).connect(URL, { onError: error => told.push(`${error.reason} ${error.willReconnect}`) })
      await pass()
    }
    expect(told).toEqual(['unsupported false', 'unsupported false'])
  })
})

describe('the rest before the next try', () => {
  test('grows with each failure, has a random part, and a limit', async () => {
    connect()
    await pass()
    for (const rest of [1_000, 1_500, 2_500, 4_500, 8_500, 15_500, 15_500, 15_500]) {
      const before = net.requests.length
      net.last.fail(new TypeError('fetch failed'))
      await pass(rest - 10)
      expect(net.requests, `before ${rest}`).toHaveLength(before)
      await pass(10)
      expect(net.requests, `after ${rest}`).toHaveLength(before + 1)
    }
  })

  test('begins anew after a stream that was stable, and only then', async () => {
    await opened()
    for (const [lived, rest] of [
      [0, 1_000],
      [1_000, 1_500],
      [6_000, 1_000],
      [6_000, 1_000],
      [0, 1_500],
    ] as const) {
      await pass(lived)
      net.last.end()
      const before = net.requests.length
      await pass(rest - 10)
      expect(net.requests, `after ${lived}`).toHaveLength(before)
      await pass(10)
      expect(net.requests, `after ${lived}`).toHaveLength(before + 1)
      net.last.open()
      await pass()
    }
  })

  test("is at least what the server's `retry` says", async () => {
    await opened({}, 'retry: 7000\n\n')
    net.last.end()
    await pass(6_990)
    expect(net.requests).toHaveLength(1)
    await pass(1_010)
    expect(net.requests).toHaveLength(2)
  })

  test('is at least what Retry-After says, in seconds or by a date', async () => {
    for (const value of [() => '20', () => new Date(Date.now() + 20_000).toUTCString()]) {
      connect()
      await pass()
      const before = net.requests.length
      net.last.refuse(503, { 'Retry-After': value() })
      await pass(18_000)
      expect(net.requests).toHaveLength(before)
      await pass(4_000)
      expect(net.requests).toHaveLength(before + 1)
    }
  })

  test('an absurd `retry` is no zero', async () => {
    await opened({}, 'retry: 99999999999999999999\n\n')
    net.last.end()
    await pass(24 * 3600_000)
    expect(net.requests).toHaveLength(1)
  })

  test('has a last try where there is a limit', async () => {
    connect({ maxReconnectAttempts: 2 })
    for (let i = 0; i < 3; i++) {
      await pass(i ? 3_000 : 0)
      net.last.fail(new TypeError('fetch failed'))
    }
    await pass(60_000)
    expect(net.requests).toHaveLength(3)
    expect(errors.map(error => error.willReconnect)).toEqual([true, true, false])
    expect(client.state).toBe('ended')
  })

  test('is cut short by a network that is back, but not below what was asked for', async () => {
    const probes = new Set<() => void>()
    const watch = (probe: () => void) => {
      probes.add(probe)
      return () => probes.delete(probe)
    }
    client = new SSEClient({ fetch: net.fetch, random: () => 0.99, watch })
    connect({ connectTimeout: 3600_000 })
    for (let failures = 0; failures < 8; failures++) {
      await pass(40_000)
      net.last.fail(new TypeError('fetch failed'))
    }
    await pass(10_000)
    expect(net.requests).toHaveLength(8)
    for (const probe of probes) probe()
    await pass()
    expect(net.requests).toHaveLength(9)
    net.last.refuse(503, { 'Retry-After': '5' })
    await pass(1_000)
    for (const probe of probes) probe()
    await pass(3_900)
    expect(net.requests).toHaveLength(9)
    await pass(100)
    expect(net.requests).toHaveLength(10)
    client.disconnect()
    await pass()
    expect(probes.size).toBe(0)
  })
})

describe('silence', () => {
  test('is borne where the server sends no comments', async () => {
    await opened({}, ': hello\n\n')
    net.last.send(': ready\n\n')
    await pass(3600_000)
    expect(told).toEqual(['open'])
  })

  test('is an end where comments came at a pace, and stopped', async () => {
    await opened({}, ': hello\n\n')
    for (let i = 0; i < 4; i++) {
      await pass(15_000)
      net.last.send(':\n\n')
    }
    await pass(44_000)
    expect(told).toEqual(['open'])
    await pass(1_000)
    expect(told).toEqual(['open', 'silence'])
    expect(net.last.aborted).toBe(true)
  })

  test("after a machine's sleep is no end while something waits in the socket", async () => {
    await opened({ idleTimeout: 30_000 })
    vi.setSystemTime(Date.now() + 3600_000)
    await pass(30_000)
    expect(told).toEqual(['open'])
    net.last.send('data: 1\n\n')
    await pass(4_000)
    expect(told).toEqual(['open', '1'])
    await pass(30_000)
    expect(told).toEqual(['open', '1', 'silence'])
  })
})

describe('connect and disconnect', () => {
  test('connect ends the stream that is there', async () => {
    await opened({}, 'id: 1\ndata: 1\n\n')
    const first = net.last
    client.connect('http://other/events', { onMessage: data => told.push(`second ${data}`) })
    await pass()
    expect(first.aborted).toBe(true)
    expect(net.last.request.headers['Last-Event-ID']).toBeUndefined()
    first.send('data: 2\n\n')
    net.last.open('data: 3\n\n')
    await pass()
    expect(told).toEqual(['open', '1', 'second 3'])
  })

  test('connect while the first is resting, or asks, leaves one', async () => {
    connect()
    await pass()
    connect()
    await pass()
    net.last.fail(new TypeError('fetch failed'))
    await pass(100)
    connect({ connectTimeout: 3600_000 })
    await pass(60_000)
    expect(net.requests.map(request => request.aborted)).toEqual([true, true, false])
    expect(net.openNow).toBe(1)
  })

  test.each(['connecting', 'open', 'waiting'])(
    'disconnect while it is %s ends everything, and tells nothing',
    async state => {
      connect()
      await pass()
      if (state !== 'connecting') net.last.open('data: 1\n\n')
      await pass()
      if (state === 'waiting') net.last.end()
      await pass()
      expect(client.state).toBe(state)
      told = []
      client.disconnect()
      expect(client.state).toBe('idle')
      await pass(60_000)
      expect(told).toEqual([])
      expect(net.requests).toHaveLength(1)
      expect(net.openNow).toBe(0)
      expect(vi.getTimerCount()).toBe(0)
    },
  )

  test('disconnect within a handler: the rest of the same part is not told', async () => {
    await opened({ onMessage: data => (told.push(String(data)), client.disconnect()) }, 'data: 1\n\ndata: 2\n\n')
    expect(told).toEqual(['open', '1'])
    expect(client.state).toBe('idle')
  })

  test('disconnect before the answer, where fetch knows no signal, drops the answer', async () => {
    client = new SSEClient({ fetch: (url, { signal: _, ...request }) => net.fetch(url, request) })
    connect()
    await pass()
    client.disconnect()
    net.last.open('data: 1\n\n')
    await pass()
    expect(told).toEqual([])
    expect(net.openNow).toBe(0)
  })

  test('connect within onError begins anew, with another token', async () => {
    let token = 'old'
    const onError = () => {
      token = 'new'
      connect({ headers: () => ({ Authorization: token }) })
    }
    connect({ onError, headers: async () => ({ Authorization: token }) })
    await pass()
    expect(net.last.request.headers.Authorization).toBe('old')
    net.last.refuse(401, {}, 'expired')
    await pass()
    expect(net.requests).toHaveLength(2)
    expect(net.last.request.headers.Authorization).toBe('new')
    net.last.open()
    await pass()
    expect(client.state).toBe('open')
  })

  test('headers that throw are told, and asked for again', async () => {
    let fails = true
    const headers = async () => {
      if (fails) throw new Error('no token')
      return {}
    }
    connect({ headers })
    await pass()
    expect(errors).toMatchObject([{ reason: 'handler', message: 'headers: no token', willReconnect: true }])
    fails = false
    await pass(REST)
    expect(net.requests).toHaveLength(1)
  })

  test('a thousand messages in as many parts come in one go', async () => {
    await opened()
    for (let i = 0; i < 1000; i++) net.last.send('data: 1\n\n')
    await pass()
    expect(told).toHaveLength(1001)
  })
})
