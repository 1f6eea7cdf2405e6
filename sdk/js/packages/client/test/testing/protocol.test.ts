// The fake server speaks the protocol: the transcripts of docs/protocol.md are true of it too.

import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { ResponseLike, SocketLike } from '../../src/env.js'
import { createFakeServer, type FakeError, type Identity } from '../../src/testing.js'

const PAGE = readFileSync(new URL('../../../../../../docs/protocol.md', import.meta.url), 'utf8')

type Line = { who: string; sent: boolean; text: string; number: number }

/** The blocks of JSON whose lines begin with `>` or `<`. */
function transcripts(): Line[][] {
  const all: Line[][] = []
  let block: Line[] | undefined
  for (const [index, line] of PAGE.split('\n').entries()) {
    if (line === '```json') all.push((block = []))
    else if (line === '```') block = undefined
    else if (block) {
      const [, who = '', mark, text = ''] = /^(\w*)([<>]) (.*)$/.exec(line) ?? []
      block.push({ who, sent: mark === '>', text, number: index + 1 })
    }
  }
  return all
}

/** `"…"` is any value, a bare `…` any other fields, `"$word"` the same value each time. */
function fits(pattern: unknown, found: unknown, words: Map<string, unknown>): boolean {
  if (pattern === '…') return found !== undefined
  if (typeof pattern === 'string' && pattern.startsWith('$')) {
    if (!words.has(pattern)) words.set(pattern, found)
    return words.get(pattern) === found
  }
  if (Array.isArray(pattern))
    return (
      Array.isArray(found) && found.length === pattern.length && pattern.every((it, i) => fits(it, found[i], words))
    )
  if (typeof pattern !== 'object' || pattern === null) return pattern === found
  if (typeof found !== 'object' || found === null) return false
  const [promised, got] = [pattern as Record<string, unknown>, found as Record<string, unknown>]
  if (!('…' in promised) && !Object.keys(got).every(name => name in promised)) return false
  return Object.entries(promised).every(([name, it]) => name === '…' || (name in got && fits(it, got[name], words)))
}

const parsed = (text: string) => JSON.parse(text.replaceAll(', …', ',"…":1').replaceAll('{…', '{"…":1')) as unknown

/** A token is a user's name, followed by a time if it expires; `wrong` is invalid. */
function identify(token: string | undefined): Identity | FakeError {
  if (token === undefined) return {}
  if (token === 'wrong') return { code: 'unauthorized', message: 'the token is not one of ours' }
  const [user, ms] = token.split(' for ')
  return { user: user as string, ...(ms !== undefined && { expires: Number(ms) }) }
}

const replayed = transcripts()
test('the page has its transcripts', () => expect(replayed.length).toBeGreaterThanOrEqual(12))

const named = replayed.map(lines => [`line ${lines[0]?.number}`, lines] as const)
test.each(named)('the transcript at %s', async (_, lines) => {
  // A channel that keeps one publication is a rule of the real servers; here all channels of the server are.
  const history = lines.some(({ text }) => text.includes('"doc:short"')) ? 1 : 1_000
  const server = createFakeServer({ identify, history })
  server.rpc('echo', data => data)
  server.refuse('subscribe', ({ channel }) =>
    channel === 'doc:closed' ? { code: 'denied', message: 'members only' } : undefined,
  )
  server.refuse('publish', ({ channel, data }) =>
    channel === 'doc:moderated' && data === null ? { code: 'denied', message: 'say something' } : undefined,
  )
  server.refuse('history', ({ channel }) => (channel === 'doc:closed' ? { code: 'not_subscribed' } : undefined))
  const peers = new Map<string, { socket: SocketLike; got: string[] }>()
  const words = new Map<string, unknown>()
  for (const { who, sent, text, number } of lines) {
    let peer = peers.get(who)
    if (!peer) {
      const socket = new server.env.WebSocket!(`${server.url}/v1/ws`, ['fanfare.v1'])
      const got: string[] = []
      socket.onmessage = ({ data }) => got.push(data as string)
      peers.set(who, (peer = { socket, got }))
    }
    await server.settled()
    if (sent) {
      let filled = text
      for (const [word, value] of words) filled = filled.replaceAll(`"${word}"`, JSON.stringify(value))
      peer.socket.send(filled)
      continue
    }
    const found = JSON.parse(peer.got.shift() ?? 'null') as Record<string, unknown> | null
    // The fake knows no rules of channels.
    const promised = parsed(text.replace(/,"rule":"[^"]*"/, ''))
    expect(fits(promised, found, words), `docs/protocol.md:${number}\n${text}\n${JSON.stringify(found)}`).toBe(true)
  }
  await server.settled()
  for (const { got } of peers.values())
    for (const text of got) expect(text, 'the transcript leaves this out').toContain('"moved"')
  server.close()
})

/** The transcripts of streams, polls and sends. Those of `/events` are of another protocol. */
function httpTranscripts(): [string, { text: string; number: number }[]][] {
  const all: [string, { text: string; number: number }[]][] = []
  let block: { text: string; number: number }[] | undefined
  for (const [index, line] of PAGE.split('\n').entries()) {
    if (line === '```http') block = []
    else if (line === '```' && block) {
      if (!block.some(({ text }) => text.includes('/events'))) all.push([`line ${block[0]?.number}`, block])
      block = undefined
    } else block?.push({ text: line, number: index + 1 })
  }
  return all
}

test('the page has transcripts of HTTP', () => expect(httpTranscripts()).toHaveLength(2))

test.each(httpTranscripts())('the transcript of HTTP at %s', async (_, lines) => {
  const server = createFakeServer({ identify })
  const words = new Map<string, unknown>()
  const utf8 = new TextDecoder()
  let answer: ResponseLike | undefined
  /** Lines of the answer: what has come until now. */
  let found: string[] = []
  let end = () => {}
  const take = async (response: ResponseLike) => {
    const reader = response.body!.getReader()
    const mine = (found = [])
    end = () => void reader.cancel()
    for (let rest = ''; ;) {
      const { done, value } = await reader.read()
      if (done) return void mine.push(...([rest] as never[]))
      const all = (rest + utf8.decode(value)).split('\n')
      rest = all.pop() ?? ''
      mine.push(...(all as never[]))
    }
  }
  for (const { text: line, number } of lines) {
    const [, mark, text = ''] = /^([><=])(?: (.*))?$/.exec(line) ?? []
    await server.settled()
    if (mark === '=') {
      const [, channel = '', data = ''] = /^publish (\S+) (.*)$/.exec(text) ?? []
      server.publish(channel, JSON.parse(data))
    } else if (mark === '>') {
      let filled = text
      for (const [word, value] of words) filled = filled.replaceAll(`"${word}"`, JSON.stringify(value))
      const [, method = '', path = '', body] = /^(\w+) (\S+?connect=.*|\S+)(?: (.*))?$/.exec(filled) ?? []
      end() // each request ends the one before
      const request = { method, headers: {}, ...(body !== undefined && { body }) }
      answer = await server.env.fetch!(server.url + path, request)
      void take(answer)
    } else if (/^\d{3} /.test(text)) {
      const type = answer?.headers.get('content-type')
      expect(`${answer?.status} ${type}`.replace('text/plain', 'text/plain; charset=utf-8')).toBe(text)
    } else {
      await server.settled()
      const got = found.shift()
      const prefix = text.startsWith('data: ') ? 'data: ' : ''
      if (text === '') expect(got, `docs/protocol.md:${number}`).toBe('')
      else {
        const value: unknown = JSON.parse((got ?? 'null').slice(prefix.length))
        expect(fits(parsed(text.slice(prefix.length)), value, words), `docs/protocol.md:${number}\n${got}`).toBe(true)
      }
    }
  }
  end()
  server.close()
})
