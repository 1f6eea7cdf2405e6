// What a proxy, a login page or another server may say in place of our protocol is a reason in words.

import { expect, test, vi } from 'vitest'
import { createClient } from '../src/index.js'

/** A client that is connected to something which answers with `text`. */
function against(text: string) {
  class WebSocket {
    readyState = 1
    bufferedAmount = 0
    onopen: (() => void) | null = null
    onmessage: ((event: { data: unknown }) => void) | null = null
    onclose = null
    onerror = null
    constructor() {
      queueMicrotask(() => this.onopen?.())
    }
    send() {
      queueMicrotask(() => this.onmessage?.({ data: text }))
    }
    close(code: number) {
      closed.push(code)
    }
  }
  const closed: number[] = []
  // The next attempt is far off: it would close another socket.
  const env = { WebSocket, random: () => 0.99 }
  const backoff = { min: 60_000, max: 60_000 }
  const client = createClient({ url: 'http://localhost', transports: ['websocket'], env, backoff })
  client.connect()
  return { client, closed }
}

test.each([
  ['HTML', '<html><body>Sign in', /this is not JSON: <html><body>Sign in/],
  ['half a text', '{"type":"connec', /this is not JSON/],
  ['no message', '[null]', /a message needs a type/],
  ['wrong types', '{"type":"connected","client":7,"ping":25000}', /`client` of `connected` is wrong/],
])('%s is an error whose reason is `protocol`, and is tried again', async (_, text, message) => {
  const { client, closed } = against(text)
  await vi.waitUntil(() => client.state.name === 'error')
  const reason = { code: 'protocol', message: expect.stringMatching(message) as string }
  expect(client.state).toMatchObject({ reason, retryAt: expect.any(Number) as number })
  expect(closed).toEqual([3008]) // with 1000 the session would be over, for what a proxy has said
  client.close()
})
