// Readers beside each other: eight tabs of one browser, by WebSocket and by streams over HTTP/2 (over HTTP/1.1 a
// browser opens six); and a socket whose reader stops, which is behind and pulls, while nobody else waits.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import WebSocket from 'ws'
import { launchBrowser } from './support/browser.mjs'
import { startServer } from './support/server.mjs'

const options = { timeout: 300_000 }
const KEY = 'the-key-of-the-tests'
const TABS = 8
const RULES = `
[[channels]]
match = "**"
subscribe = "anyone"
history = { size = 10000, bytes = "100MB", ttl = "10m" }
`

let folder, rules
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-readers-'))
  rules = join(folder, 'fanfare.toml')
  await writeFile(rules, RULES)
}, options)
after(() => rm(folder, { recursive: true, force: true }), options)

/** A function of the page: opens a reader of the channel in the tab, and resolves when it is subscribed. */
const OPEN = {
  websocket: channel =>
    new Promise((resolve, reject) => {
      window.got = []
      const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/v1/ws`, 'fanfare.v1')
      socket.onopen = () => socket.send(JSON.stringify({ type: 'connect', id: 1, subscribe: [{ channel }] }))
      socket.onerror = reject
      socket.onmessage = event => {
        for (const message of [JSON.parse(event.data)].flat()) {
          if (message.type === 'subscribed') resolve()
          if (message.type === 'message') window.got.push(message.data)
        }
      }
    }),
  stream: channel =>
    new Promise((resolve, reject) => {
      window.got = []
      const source = new EventSource(`/events?channel=${channel}`)
      source.onerror = reject
      source.onmessage = event => {
        const data = JSON.parse(event.data)
        if (data.type === 'connected') resolve()
        else window.got.push(data)
      }
    }),
}

describe('eight tabs of one browser', options, () => {
  for (const [kind, open] of Object.entries(OPEN)) {
    test(`each gets every message, ${kind}, over TLS`, async () => {
      const server = await startServer('--config', rules, '--tls', '--api-key', KEY)
      const browser = await launchBrowser()
      try {
        const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true })
        const tabs = await Promise.all(Array.from({ length: TABS }, async () => {
          const page = await context.newPage()
          await page.goto(`${server.url}/healthz`)
          return page
        }))
        const protocol = await tabs[0].evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol)
        assert.equal(protocol, 'h2')
        await Promise.all(tabs.map(page => page.evaluate(open, 'tabs')))
        for (let number = 0; number < 3; number++) {
          // By the browser's own request: a stream in each tab leaves room for more.
          const status = await tabs[number].evaluate(async ([key, data]) => {
            const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
            const answer = await fetch('/api/v1/publish', { method: 'POST', headers, body: JSON.stringify({ channel: 'tabs', data }) })
            return answer.status
          }, [KEY, { number }])
          assert.equal(status, 200)
        }
        for (const page of tabs) {
          await page.waitForFunction(() => window.got.length === 3)
          assert.deepEqual(await page.evaluate(() => window.got), [{ number: 0 }, { number: 1 }, { number: 2 }])
        }
      } finally {
        await browser.close()
        await server.stop()
      }
    })
  }
})

// More than the sockets of both sides and the outbox hold together.
const MESSAGES = 800
const PAYLOAD = 'x'.repeat(40_000)

describe('a socket whose reader stops', options, () => {
  test('is behind, pulls everything once and in order when it reads on, and nobody else waits', async () => {
    const server = await startServer('--config', rules, '--api-key', KEY)
    const slow = net.connect(server.port, '127.0.0.1')
    const quick = new WebSocket(`ws://127.0.0.1:${server.port}/v1/ws`, 'fanfare.v1')
    const opened = once(quick, 'open')
    try {
      const connect = { type: 'connect', id: 1, subscribe: [{ channel: 'much' }] }
      const body = JSON.stringify(connect)
      const received = offsets(slow)
      slow.write(`POST /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
      await received.until(() => received.subscribed)
      slow.pause()

      const got = []
      let wake = () => {}
      quick.on('message', text => {
        for (const message of [JSON.parse(text)].flat()) {
          if (message.type === 'subscribed') got.push('subscribed')
          if (message.type === 'message') got.push(message.offset)
        }
        wake()
      })
      await opened
      quick.send(body)
      const gotten = async count => {
        while (got.length < count) await new Promise(resolve => (wake = resolve))
      }
      await gotten(1)
      for (let number = 1; number <= MESSAGES; number++) {
        const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }
        const answer = await fetch(`${server.url}/api/v1/publish`, { method: 'POST', headers, body: JSON.stringify({ channel: 'much', data: PAYLOAD }) })
        assert.equal(answer.status, 200, await answer.text())
        // The other reader has it before the next one is made.
        await gotten(number + 1)
      }
      assert.deepEqual(got.slice(1), Array.from({ length: MESSAGES }, (_, index) => index + 1))
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      const behind = /^fanfare_behind_total(?:\{[^}]*\})? (\d+)$/m.exec(metrics)
      assert.ok(Number(behind?.[1]) >= 1, `it was never behind: ${behind?.[0]}`)

      slow.resume()
      await received.until(() => received.offsets.length >= MESSAGES)
      assert.deepEqual(received.offsets, Array.from({ length: MESSAGES }, (_, index) => index + 1))
      assert.equal(received.gaps, 0)
    } finally {
      slow.destroy()
      quick.terminate()
      await server.stop()
    }
  })
})

/** Reads a chunked stream of NDJSON from a socket: the offsets of its messages. */
function offsets(socket) {
  let text = ''
  let wake = () => {}
  const found = { offsets: [], gaps: 0, subscribed: false, until }
  async function until(met) {
    while (!met()) await new Promise(resolve => (wake = resolve))
  }
  // In latin1 a character is a byte.
  let raw = ''
  let left = null // of the chunk that has begun; null before the head is over
  const take = () => {
    for (;;) {
      const end = raw.indexOf(left === null ? '\r\n\r\n' : '\r\n')
      if (left > 0) {
        const part = raw.slice(0, left)
        text += part
        raw = raw.slice(part.length)
        left -= part.length
        if (left > 0) return
        left = -1 // its line end comes
      } else if (end < 0) return
      else if (left === null || left === -1) {
        raw = raw.slice(left === null ? end + 4 : 2)
        left = 0
      } else {
        left = parseInt(raw.slice(0, end), 16)
        raw = raw.slice(end + 2)
      }
    }
  }
  socket.setEncoding('latin1')
  socket.on('data', chunk => {
    raw += chunk
    take()
    const lines = text.split('\n')
    text = lines.pop()
    for (const line of lines) {
      if (line.trim() === '') continue
      for (const message of [JSON.parse(line)].flat()) {
        if (message.type === 'message') found.offsets.push(message.offset)
        if (message.type === 'gap') found.gaps++
        if (message.type === 'subscribed') found.subscribed = true
      }
    }
    wake()
  })
  return found
}
