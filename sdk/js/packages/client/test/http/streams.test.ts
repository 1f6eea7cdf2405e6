/** Streams: what comes however it is cut, and what comes instead. */

import { describe, expect, test } from 'vitest'
import { decode } from '../../src/wire.js'
import { splitter } from '../../src/request.js'
import { CONNECTED, Connection, refusal, settle, streaming, World } from './world.js'

const MEDIA = { sse: 'text/event-stream', stream: 'application/x-ndjson' } as const

function split(isSse: boolean, chunks: string[]): string[] {
  const messages: string[] = []
  const feed = splitter(isSse, message => messages.push(message))
  for (const chunk of chunks) feed(chunk)
  return messages
}

const bodies: [name: string, isSse: boolean, body: string, messages: string[]][] = [
  ['blocks', true, 'data: {"a":1}\n\ndata:{"b":2}\n\n', ['{"a":1}', '{"b":2}']],
  ['comments and other fields', true, ': hello\n\nevent: x\nid: 4\nretry: 7\ndata: 1\n\n:\n\ndatabase: 2\n\n', ['1']],
  ['several lines', true, 'data: [1,\ndata:  2]\n\ndata: 3\n\n', ['[1,\n 2]', '3']],
  ['a field without a colon, and empty blocks', true, 'data\n\n\n\ndata: 1\n\n', ['1']],
  ['CR', true, 'data: 1\r\rdata: 2\r\r: \rdata: 3\r\r', ['1', '2', '3']],
  ['CRLF', true, 'data: 1\r\n\r\ndata: 2\r\ndata: 3\r\n\r\n', ['1', '2\n3']],
  ['mixed ends', true, 'data: 1\r\n\ndata: 2\n\r\ndata: 3\r\n\rdata: 4\n\n', ['1', '2', '3', '4']],
  ['without its end', true, 'data: 1\n\ndata: 2\n', ['1']],
  ['letters of several bytes', true, 'data: "äöü€😀"\n\n', ['"äöü€😀"']],
  ['a mark at the beginning', true, '\ufeffdata: 1\n\n', ['1']],
  ['lines', false, '{"a":1}\n{"b":2}\n', ['{"a":1}', '{"b":2}']],
  ['blank lines', false, '\n\n1\n \n\r\n2\n', ['1', '2']],
  ['lines that end with CRLF', false, '1\r\n2\r\n', ['1', '2']],
  ['a line without its end', false, '1\n2', ['1']],
  ['lines with letters of several bytes', false, '"😀"\n"é"\n', ['"😀"', '"é"']],
]

describe('a body gives the same messages wherever it is cut', () => {
  test.each(bodies)('%s', (_, isSse, body, messages) => {
    const bytes = new TextEncoder().encode(body)
    const through = (pieces: Uint8Array[]) => {
      const decoder = new TextDecoder()
      return split(isSse, [...pieces.map(piece => decoder.decode(piece, { stream: true })), decoder.decode()])
    }
    expect(through([bytes])).toEqual(messages)
    expect(through([...bytes].map(byte => Uint8Array.of(byte)))).toEqual(messages)
    for (let a = 0; a <= bytes.length; a++) {
      for (let b = a; b <= bytes.length; b++) {
        expect(through([bytes.subarray(0, a), bytes.subarray(a, b), bytes.subarray(b)]), `${a}, ${b}`).toEqual(messages)
      }
    }
  })
})

describe.each(['sse', 'stream'] as const)('%s', transport => {
  const block = (message: object) =>
    transport === 'sse' ? `data: ${JSON.stringify(message)}\n\n` : `${JSON.stringify(message)}\n`

  test('the connect goes up in the body, and messages come down one by one', async () => {
    const world = new World({ headers: { 'X-Mine': '1' }, credentials: 'include' })
    const connection = new Connection(world, transport)
    const down = world.next(transport)
    expect(down.body).toEqual({ type: 'connect', id: 1, page: 'p' })
    const { signal, body, ...init } = down.init
    expect(signal && body).toBeTruthy()
    expect(init).toEqual({
      method: 'POST',
      headers: {
        'X-Mine': '1',
        'Content-Type': 'application/json',
        Accept: `${MEDIA[transport]}, application/json;q=0.9`,
      },
      credentials: 'include',
      redirect: 'manual',
      keepalive: false,
    })
    expect(connection.reached).toBe(0)
    await down.head(200, { 'content-type': `${MEDIA[transport].toUpperCase()}; charset=utf-8` })
    expect(connection.reached).toBe(1)
    const bytes = new TextEncoder().encode(block(CONNECTED) + block({ type: 'news', text: 'é€😀' }))
    for (const byte of bytes) await down.chunk(Uint8Array.of(byte))
    expect(connection.messages).toEqual([CONNECTED, { type: 'news', text: 'é€😀' }])
    await down.chunk(block([{ type: 'ping' }, { type: 'news' }] as never))
    expect(connection.types).toEqual(['news', 'ping', 'news'])
    await down.end()
    expect(connection.end).toEqual({ kind: 'lost', message: 'the stream has ended' })
    expect(world.timers.size).toBe(0)
  })

  test('what is no message ends it, and says how it begins', async () => {
    for (const text of ['<html>\n<p>', '{"type":"con', '{"type":7}', 'null', '{"type":"message","offset":1}']) {
      const world = new World()
      const { connection, down } = await streaming(world, {}, transport)
      await down.chunk(transport === 'sse' ? `data: ${text.replace('\n', '\ndata: ')}\n\n` : `${text}\n`)
      expect(connection.end, text).toMatchObject({
        kind: 'nonsense',
        message: expect.stringContaining(text.slice(0, 6)),
      })
      expect(down.aborted && down.cancelled).toBe(true)
      await down.chunk(block({ type: 'ping' }))
      expect(connection.types).toEqual([])
    }
  })

  test('messages before the bad one count', async () => {
    const { connection, down } = await streaming(new World(), {}, transport)
    await down.chunk(block({ type: 'ping' }) + block({ type: 7 } as never) + block({ type: 'late' }))
    expect(connection.types).toEqual(['ping'])
    expect(connection.end?.kind).toBe('nonsense')
  })

  test('a message without end is not kept', async () => {
    const { connection, down } = await streaming(new World(), {}, transport)
    const mebibyte = 'x'.repeat(1 << 20)
    await down.chunk('data: ')
    for (let n = 0; n < 100; n++) await down.chunk(mebibyte)
    expect(connection.end).toMatchObject({
      kind: 'nonsense',
      message: expect.stringMatching(/at most \d+: (data: )?xxx/),
    })
    expect(down.taken).toBeLessThan(12)
  })

  test('an event stream whose block has no end is not kept either', () => {
    const feed = splitter(true, text => decode(text))
    const line = `data: ${'x'.repeat(1 << 16)}\n`
    expect(() => {
      for (let n = 0; n < 1000; n++) feed(line)
    }).toThrow('at most')
  })

  const refusals: [name: string, status: number, body: unknown, headers: Record<string, string>, end: object][] = [
    [
      'a page of a proxy',
      200,
      '<!DOCTYPE html>\n<title>Login',
      {},
      { kind: 'refused', message: 'text/html: <!DOCTYPE html> <title>Login' },
    ],
    ['another stream', 200, 'data: 1', { 'content-type': 'text/event-streams'.slice(1) }, { kind: 'refused' }],
    [
      'half of a JSON',
      200,
      '{"type":"conn',
      { 'content-type': 'application/json' },
      { kind: 'refused', message: '{"type":"conn' },
    ],
    ['nothing at all', 200, '', {}, { kind: 'refused' }],
    ['a redirect in browsers', 0, '', {}, { kind: 'refused', message: 'a redirect' }],
    ['a redirect', 302, '', { location: 'https://login/' }, { kind: 'refused', message: '302 https://login/' }],
    ['no such path', 404, 'not found', {}, { kind: 'refused', message: '404 text/html: not found' }],
    ['no such path, in JSON', 404, refusal('not_found'), {}, { kind: 'refused', message: 'it is not_found' }],
    ['another method', 405, refusal('bad_request'), {}, { kind: 'refused' }],
    ['forbidden by a proxy', 403, '<h1>Forbidden</h1>', {}, { kind: 'refused', message: 'Forbidden' }],
    ['a foreign host', 421, 'this host is not listed', {}, { kind: 'refused', message: 'not listed' }],
    ['a bad token', 401, refusal('unauthorized'), {}, { kind: 'error', error: { code: 'unauthorized' } }],
    ['an expired token', 401, refusal('token_expired'), {}, { kind: 'error', error: { code: 'token_expired' } }],
    ['denied', 403, refusal('denied'), {}, { kind: 'error', error: { code: 'denied', message: 'it is denied' } }],
    ['a foreign host, in JSON', 421, refusal('denied'), {}, { kind: 'error' }],
    ['a bad request', 400, refusal('bad_request'), {}, { kind: 'error', error: { code: 'bad_request' } }],
    ['too slow', 408, '', {}, { kind: 'unavailable' }],
    ['too early', 425, '', {}, { kind: 'unavailable' }],
    ['too many', 429, refusal('rate_limited'), { 'retry-after': '7' }, { kind: 'unavailable', retryAfter: 7000 }],
    [
      'too many, as the body says',
      429,
      refusal('rate_limited', { retry_after: 1500 }),
      {},
      { kind: 'unavailable', retryAfter: 1500 },
    ],
    ['failed', 500, 'oops', {}, { kind: 'unavailable' }],
    ['a proxy without its server', 502, '<h1>Bad Gateway', {}, { kind: 'unavailable', message: 'Bad Gateway' }],
    ['overloaded', 503, refusal('overloaded'), { 'retry-after': '2' }, { kind: 'unavailable', retryAfter: 2000 }],
    ['a day of patience', 503, '', { 'retry-after': '86400' }, { kind: 'unavailable', retryAfter: 600_000 }],
    [
      'patience that is no number',
      503,
      '',
      { 'retry-after': 'Wed, 21 Oct 2037 07:28:00 GMT' },
      { kind: 'unavailable' },
    ],
    ['patience of another type', 503, refusal('overloaded', { retry_after: [-1] }), {}, { kind: 'unavailable' }],
    ['a timeout', 504, '', {}, { kind: 'unavailable' }],
  ]

  test.each(refusals)('%s (%i) ends the attempt', async (_, status, body, headers, end) => {
    const world = new World()
    const connection = new Connection(world, transport)
    await world.next(transport).reply(status, body, headers)
    const { message, ...rest } = end as { message?: string }
    expect(connection.end).toMatchObject(rest)
    const found = connection.end as { message?: string; retryAfter?: number }
    if (message) expect(found.message ?? '').toContain(message)
    expect(found.retryAfter).toBe((end as { retryAfter?: number }).retryAfter)
    expect(connection.reached).toBe(1)
    expect([world.timers.size, connection.messages.length]).toEqual([0, 0])
  })

  test('of a refusal without end the beginning is read', async () => {
    const world = new World()
    const connection = new Connection(world, transport)
    const down = world.next(transport)
    await down.head(403)
    for (let n = 0; n < 100; n++) await down.chunk('x'.repeat(1 << 12))
    expect(connection.end).toMatchObject({ kind: 'refused', message: expect.stringContaining('403') })
    expect(down.taken).toBeLessThan(8)
    expect(down.cancelled).toBe(true)
  })

  test('a page without end instead of a stream is not kept', async () => {
    const world = new World()
    const connection = new Connection(world, transport)
    const down = world.next(transport)
    await down.head(200, { 'content-type': 'text/html' })
    for (let n = 0; n < 100; n++) await down.chunk('x'.repeat(1 << 20))
    expect(connection.end?.kind).toBe('lost')
    expect(down.taken).toBeLessThan(20)
  })

  test('a refusal is none of its messages, whatever its type', async () => {
    const world = new World()
    const connection = new Connection(world, transport)
    await world.next(transport).reply(503, block({ type: 'ping' }), { 'content-type': MEDIA[transport] })
    expect(connection.end?.kind).toBe('unavailable')
    expect(connection.messages).toEqual([])
  })

  test('a refusal whose body is cut is one all the same', async () => {
    const world = new World()
    const connection = new Connection(world, transport)
    const down = world.next(transport)
    await down.head(404)
    await down.lose()
    expect(connection.end).toMatchObject({ kind: 'refused' })
  })

  test('without an answer the server was not reached', async () => {
    const world = new World()
    const connection = new Connection(world, transport)
    await world.next(transport).lose(new TypeError('Failed to fetch'))
    expect(connection.end).toEqual({ kind: 'lost', message: 'Failed to fetch' })
    expect(connection.reached).toBe(0)
  })

  test('a `fetch` that throws, or gives up with no error, is a loss', async () => {
    for (const thrown of [new Error('no'), 'no', undefined]) {
      for (const isLate of [true, false]) {
        const fetch = () => {
          if (isLate) return Promise.reject(thrown)
          throw thrown
        }
        const connection = new Connection(new World({}, { fetch }), transport)
        await settle()
        expect(connection.end?.kind).toBe('lost')
      }
    }
  })

  test('a stream that breaks is lost', async () => {
    const { connection, down } = await streaming(new World(), {}, transport)
    await down.lose(new TypeError('network error'))
    expect(connection.end).toEqual({ kind: 'lost', message: 'network error' })
  })

  test('where `fetch` has no streams, or nothing decodes them, there is no such transport', async () => {
    const response = (body: null | undefined) => ({
      status: 200,
      headers: { get: () => MEDIA[transport] },
      body: body as null,
      text: async () => '',
    })
    for (const body of [null, undefined]) {
      const connection = new Connection(new World({}, { fetch: async () => response(body) }), transport)
      await settle()
      expect(connection.end).toMatchObject({ kind: 'refused', message: expect.stringContaining('no streams') })
    }
    const open = (env: object) => new World({}, env).carrier.open(transport, undefined as never)
    expect(open({ TextDecoder: undefined })).toBeUndefined()
    expect(open({ fetch: undefined })).toBeUndefined()
  })

  test('`close` stops it, also where nothing can be aborted, and nothing comes after it', async () => {
    for (const env of [{}, { AbortController: undefined }]) {
      for (const moment of ['asked', 'head', 'online']) {
        const world = new World({}, env)
        const connection = new Connection(world, transport)
        const down = world.next(transport)
        if (moment === 'asked') connection.close()
        await down.head(200, { 'content-type': MEDIA[transport] })
        if (moment === 'head') connection.close()
        if (moment === 'online') {
          await down.chunk(block(CONNECTED))
          connection.close()
        }
        const before = connection.messages.length
        await down.chunk(block({ type: 'ping' }))
        await down.chunk(block({ type: 'ping' }))
        await down.end()
        expect(connection.messages.length, moment).toBe(before)
        expect(connection.end).toBeUndefined()
        expect(connection.reached).toBe(moment === 'asked' ? 0 : 1)
        expect(down.cancelled || down.aborted).toBe(true)
        expect([world.timers.size, down.taken < 3]).toEqual([0, true])
        connection.close()
        connection.close(true)
      }
    }
  })

  test('a wire that is closed by a message gives none of those behind it', async () => {
    const { connection, down } = await streaming(new World(), {}, transport)
    connection.on = () => connection.close()
    await down.chunk(block({ type: 'a' }) + block({ type: 'b' }))
    expect(connection.types).toEqual(['a'])
    expect(connection.end).toBeUndefined()
  })
})
