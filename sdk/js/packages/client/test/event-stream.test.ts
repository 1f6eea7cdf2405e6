/**
 * The grammar of event streams: the examples of the WHATWG's text and its rules, whole and cut after each letter.
 */

import { describe, expect, test } from 'vitest'
import { eventStreamParser, type StreamSink } from '../src/event-stream.js'

/** What is told, as short texts. */
function parse(parts: string[], max = 1000, id = ''): string[] {
  const told: string[] = []
  const sink: StreamSink = {
    event: event => told.push(`${event.type}=${JSON.stringify(event.data)}@${event.lastEventId}`),
    id: id => told.push(`id:${id}`),
    retry: ms => told.push(`retry:${ms}`),
    comment: () => told.push('comment'),
  }
  const feed = eventStreamParser(sink, max, id)
  for (const part of parts) feed(part)
  return told
}

const ROWS: { name: string; text: string; told: string[] }[] = [
  { name: 'data', text: 'data: a\n\n', told: ['message="a"@'] },
  { name: 'lines of data', text: 'data: YHOO\ndata: +2\ndata: 10\n\n', told: ['message="YHOO\\n+2\\n10"@'] },
  {
    name: "the standard's second example",
    text: ': test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n',
    told: ['comment', 'id:1', 'message="first event"@1', 'id:', 'message="second event"@', 'message=" third event"@'],
  },
  {
    name: "the standard's third example: what ends within a block is no event",
    text: 'data\n\ndata\ndata\n\ndata:',
    told: ['message=""@', 'message="\\n"@'],
  },
  { name: 'one space is taken off, no tab', text: 'data:\tx\n\ndata:x\n\n', told: ['message="\\tx"@', 'message="x"@'] },
  { name: 'a name', text: 'event: add\ndata: 1\n\n', told: ['add="1"@'] },
  { name: 'a name holds for its event only', text: 'event: add\n\ndata: 1\n\n', told: ['message="1"@'] },
  { name: 'an id stays', text: 'id: 7\ndata: a\n\ndata: b\n\n', told: ['id:7', 'message="a"@7', 'message="b"@7'] },
  { name: 'an id without data counts', text: 'id: 8\n\n', told: ['id:8'] },
  { name: 'an id of a block that is not there whole', text: 'id: 9\ndata: a\n', told: [] },
  { name: 'an id with NUL', text: 'id: 1\0\ndata: a\n\n', told: ['message="a"@'] },
  { name: 'retry', text: 'retry: 1500\n', told: ['retry:1500'] },
  { name: 'no retry', text: 'retry: 1.5\nretry: -1\nretry:\nretry: 1s\n', told: [] },
  { name: 'unknown fields', text: 'Data: a\nfoo: b\ndata : c\n\n', told: [] },
  {
    name: 'LF, CR and CRLF',
    text: 'data: a\r\n\r\ndata: b\r\rdata: c\n\n',
    told: ['message="a"@', 'message="b"@', 'message="c"@'],
  },
  { name: 'mixed in one block', text: 'data: a\rdata: b\r\ndata: c\n\r', told: ['message="a\\nb\\nc"@'] },
  { name: 'CRLF is one end', text: 'data: a\r\ndata: b\r\n\r\n', told: ['message="a\\nb"@'] },
  { name: 'a comment within a block', text: 'data: a\n:\ndata: b\n\n', told: ['comment', 'message="a\\nb"@'] },
  { name: 'colons in data', text: 'data: a:b: c\n\n', told: ['message="a:b: c"@'] },
  { name: 'letters beyond ASCII', text: 'data: 你好 👋\n\n', told: ['message="你好 👋"@'] },
  { name: 'other ends of lines are letters', text: 'data: a\u2028b\u0085\n\n', told: ['message="a\u2028b\u0085"@'] },
  { name: 'nothing', text: '\n\n\r\n', told: [] },
]

describe('a stream', () => {
  test.each(ROWS)('$name', ({ text, told }) => {
    expect(parse([text])).toEqual(told)
    expect(parse([...text].flatMap(letter => ['', letter]))).toEqual(told)
    for (let cut = 0; cut < text.length; cut++) {
      expect(parse([text.slice(0, cut), text.slice(cut)]), `cut at ${cut}`).toEqual(told)
    }
  })

  test('goes on with the id of the stream before', () => {
    expect(parse(['data: a\n\nid: x\ndata: b\n\n'], 1000, 'x')).toEqual(['message="a"@x', 'message="b"@x'])
  })

  test('an event is told as soon as its end is there, also where that is the CR of a CRLF', () => {
    expect(parse(['data: a\r\n\r'])).toEqual(['message="a"@'])
  })

  test('an event beyond the limit is an error, in one line, in many, or without an end', () => {
    const line = (length: number) => 'data: ' + 'x'.repeat(length - 6)
    expect(parse([line(100) + '\n\n'], 100)).toHaveLength(1)
    expect(() => parse([line(101) + '\n\n'], 100)).toThrow('longer than 100')
    expect(() => parse([line(101)], 100)).toThrow()
    expect(() => parse([(line(20) + '\n').repeat(10)], 100)).toThrow()
    expect(() => parse([':' + 'x'.repeat(100)], 100)).toThrow()
    expect(parse([(line(20) + '\n\n').repeat(10)], 100)).toHaveLength(10)
  })
})
