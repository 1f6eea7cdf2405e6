/**
 * The grammar of `text/event-stream` (WHATWG HTML, 9.2.6), without I/O.
 *
 * In: decoded text, cut anywhere. Out: events, `retry` and comments, each as soon as its last line is there. Holds at
 * most `max` UTF-16 units of one event, then throws {@link TooLarge}. What follows the last blank line of a stream
 * that ends is no event, and moves no id. (A byte order mark is the decoder's affair: `TextDecoder` takes it off.)
 */

/** One event, as `EventSource` gives it. */
export interface StreamEvent {
  /** Its name; `message` if it has none. */
  readonly type: string
  readonly data: string
  /** The newest id of the stream, with this event. */
  readonly lastEventId: string
}

/** What a parser tells. */
export interface StreamSink {
  event(event: StreamEvent): void
  /** Also told by an event without data. */
  id(id: string): void
  /** Ms until the client should come back. */
  retry(ms: number): void
  comment(): void
}

/** An event exceeds the limit. */
export class TooLarge extends Error {
  constructor(max: number) {
    super(`an event is longer than ${max}`)
  }
}

const LINE_END = /\r\n?|\n/g

/** `id`: the last one of the stream before. */
export function eventStreamParser(sink: StreamSink, max: number, id = ''): (text: string) => void {
  let rest = '' // of a line
  let afterCr = false // at the end of the text before: an LF that follows belongs to it
  let type = ''
  let data: string | undefined
  let told = id

  const field = (name: string, value: string) => {
    if (name === 'data') data = data === undefined ? value : data + '\n' + value
    else if (name === 'event') type = value
    else if (name === 'id' && !value.includes('\0')) id = value
    else if (name === 'retry' && /^\d+$/.test(value)) sink.retry(+value)
  }
  const line = (text: string) => {
    const colon = text.indexOf(':')
    if (colon > 0) field(text.slice(0, colon), text.slice(text[colon + 1] === ' ' ? colon + 2 : colon + 1))
    else if (colon === 0) sink.comment()
    else if (text) field(text, '')
    else {
      if (told !== id) sink.id((told = id))
      const event = data === undefined ? undefined : { type: type || 'message', data, lastEventId: id }
      type = ''
      data = undefined
      if (event) sink.event(event)
    }
  }

  return text => {
    if (!text) return
    let from = afterCr && text[0] === '\n' ? 1 : 0
    afterCr = text.endsWith('\r')
    LINE_END.lastIndex = from
    for (let end; (end = LINE_END.exec(text)); LINE_END.lastIndex = from) {
      const whole = rest + text.slice(from, end.index)
      rest = ''
      from = end.index + end[0].length
      if (whole.length + (data?.length ?? 0) > max) throw new TooLarge(max)
      line(whole)
    }
    rest += text.slice(from)
    if (rest.length + (data?.length ?? 0) > max) throw new TooLarge(max)
  }
}
