// The way in: what `createClient` does before anything is asked of it, and which addresses it takes.

import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { createClient, FanfareError, VERSION } from '../src/index.js'

test('the version is that of package.json', () => {
  const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
  expect(VERSION).toBe(manifest.version)
})

describe('createClient', () => {
  /** The addresses that were opened. */
  const opened = (url: string) => {
    const urls: string[] = []
    class WebSocket {
      readyState = 0
      bufferedAmount = 0
      onopen = null
      onmessage = null
      onclose = null
      onerror = null
      constructor(address: string) {
        urls.push(address)
      }
      send() {}
      close() {}
    }
    const client = createClient({ url, env: { WebSocket } })
    expect(urls).toEqual([])
    expect(client.state).toMatchObject({ name: 'disconnected', reason: { code: 'idle' } })
    client.connect()
    client.close()
    return urls
  }

  test.each([
    ['http://localhost:8080', 'ws://localhost:8080/v1/ws'],
    ['https://example.com/', 'wss://example.com/v1/ws'],
    ['wss://example.com/prefix', 'wss://example.com/prefix/v1/ws'],
    ['ws://example.com/v1/ws', 'ws://example.com/v1/ws'],
  ])('%s opens nothing before it is asked to, then %s', (url, address) => expect(opened(url)).toEqual([address]))

  test.each([undefined, '/realtime'])('%j is the page’s host; where there is no page, nothing can be opened', url => {
    const client = createClient(url === undefined ? {} : { url })
    client.connect()
    expect(client.state).toMatchObject({ name: 'error', reason: { code: 'no_transport' } })
  })

  test.each(['', 'example.com', 'ftp://example.com', 'https://', 'https://example.com/?token=x'])(
    '%j is no address',
    url => {
      const made = () => createClient({ url })
      expect(made).toThrow(FanfareError)
      expect(made).toThrow(/`url` is .*bad_argument/)
    },
  )
})
