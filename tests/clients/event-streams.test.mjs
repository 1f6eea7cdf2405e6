// Event streams as their usual clients read them: the SSEClient of fixtures/, unchanged but for host and port, in
// Chromium; the package `eventsource`; `curl -N` over HTTP/1.1 and HTTP/2. A stream that ends is taken up again by
// its last id, and nothing is lost or repeated.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { transform } from 'esbuild'
import { EventSource } from 'eventsource'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { launchBrowser } from './support/browser.mjs'
import { serveApp } from './support/react-page.mjs'
import { server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }

share(options)

/** A command of the HTTP API. */
async function api(command, body) {
  const key = /^API key: (\S+)$/m.exec(server.output)[1]
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
  const response = await fetch(`${server.url}/api/v1/${command}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.equal(response.status, 200, await response.clone().text())
  return response.json()
}

/** A queue of what comes; `next` waits for it. */
function inbox() {
  const items = []
  let wake = () => {}
  return {
    put(item) {
      items.push(item)
      wake()
    },
    async next(wanted = () => true) {
      for (;;) {
        const found = items.findIndex(wanted)
        if (found >= 0) return items.splice(0, found + 1).at(-1)
        await new Promise(resolve => (wake = resolve))
      }
    },
  }
}

describe('the SSEClient of the fixture', options, () => {
  test('gets connected, updates and custom events, and opens again after a restart', async () => {
    const text = await readFile(new URL('fixtures/sse-client.ts.txt', import.meta.url), 'utf8')
    assert.equal(text.split('localhost:3000').length, 2)
    const { code } = await transform(text.replace('localhost:3000', new URL(server.url).host), { loader: 'ts' })
    const app = await serveApp(code)
    const browser = await launchBrowser()
    try {
      const page = await browser.newPage()
      const said = inbox()
      page.on('console', async message => {
        const [word, value] = message.args()
        said.put([await word?.jsonValue().catch(() => message.text()), await value?.jsonValue().catch(() => undefined)])
      })
      await page.goto(`http://localhost:${app.port}/`)
      await said.next(([word]) => word === '已连接到服务器')
      const [, connected] = await said.next(([word]) => word === '收到:')
      assert.equal(connected.type, 'connected')
      assert.match(connected.clientId, /./)
      assert.ok(Math.abs(connected.timestamp - Date.now()) < 60_000)
      const [, update] = await said.next(([word, value]) => word === '收到:' && value.type === 'update')
      assert.ok(update.value >= 0 && update.value < 100 && update.timestamp > connected.timestamp - 60_000)
      await api('publish', { channel: 'events', event: 'custom-event', data: { n: 1 } })
      assert.deepEqual((await said.next(([word]) => word === '自定义事件:'))[1], { n: 1 })
      await server.stop()
      await said.next(([word]) => word === 'SSE错误:')
      await server.start()
      await said.next(([word]) => word === '已连接到服务器')
    } finally {
      await browser.close()
      await app.close()
    }
  })
})

describe('the package eventsource', options, () => {
  test('comes back after each end of its stream and gets each message once', async () => {
    const messages = inbox()
    const source = new EventSource(`${server.url}/events?channel=numbers`)
    try {
      source.onmessage = event => messages.put(JSON.parse(event.data))
      source.addEventListener('fanfare.gap', event => messages.put({ gap: event.data }))
      let connected = await messages.next()
      for (let round = 0; round < 3; round++) {
        assert.equal(connected.type, 'connected')
        await api('publish', { channel: 'numbers', data: { n: 2 * round } })
        assert.deepEqual(await messages.next(), { n: 2 * round })
        await api('disconnect', { client: connected.clientId })
        await api('publish', { channel: 'numbers', data: { n: 2 * round + 1 } })
        // It shows the id of the last message that it has had, and gets the one that it has missed.
        connected = await messages.next()
        assert.deepEqual(await messages.next(), { n: 2 * round + 1 })
      }
    } finally {
      source.close()
    }
  })
})

describe('curl -N', options, () => {
  for (const version of ['--http1.0', '--http1.1', '--http2-prior-knowledge']) {
    test(`reads each block as it comes, ${version}`, async () => {
      const child = spawn('curl', ['-sN', version, `${server.url}/events?channel=curl`], { env: { ...process.env, no_proxy: '*' } })
      const blocks = inbox()
      let text = ''
      child.stdout.on('data', chunk => {
        text += chunk
        const parts = text.split('\n\n')
        text = parts.pop()
        parts.forEach(blocks.put)
      })
      const exited = new Promise(resolve => child.once('exit', resolve))
      try {
        assert.match(await blocks.next(), /^retry: \d+\nid: \S+\ndata: \{"type":"connected",/)
        await api('publish', { channel: 'curl', data: { version } })
        assert.match(await blocks.next(), new RegExp(`^data: \\{"version":"${version}"\\}\nid: \\S+$`))
      } finally {
        child.kill()
        await exited
      }
    })
  }
})
