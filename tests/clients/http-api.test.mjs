// The HTTP API for a newcomer: a shell with curl runs the command that `fanfare dev` prints and the commands of both
// READMEs. Each is answered, and a member of the chat (a `ws` client, the demo page in Chromium) sees the message.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { describe, test } from 'node:test'
import { promisify } from 'node:util'
import { launchBrowser, watch } from './support/browser.mjs'
import { ChatClient } from './support/chat.mjs'
import { server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }
const run = promisify(execFile)

share(options)

/** The server's own key, as it says at its start. */
const key = () => /^API key: (\S+)$/m.exec(server.output)[1]

/** Runs a line as a person would paste it. */
const paste = line => run('sh', ['-c', line], { env: { ...process.env, KEY: key(), no_proxy: '*' } }).then(({ stdout }) => stdout)

/** The shell block of a page that publishes, aimed at this test's server. */
async function blockOf(page) {
  const text = await readFile(new URL(`../../${page}`, import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block)
  const block = blocks.find(block => block.includes('/api/v1/publish'))
  assert.ok(block, `${page} publishes with curl`)
  return block.replaceAll('localhost:8080', new URL(server.url).host)
}

describe('the first minute', options, () => {
  for (const page of ['README.md', 'README.zh-CN.md', 'docs/http-api.md']) {
    test(`the line of ${page} works as it stands`, async () => {
      const chat = await ChatClient.join(server.ws, page, 'general')
      const answer = JSON.parse(await paste(await blockOf(page)))
      assert.match(answer.epoch, /^[0-9a-f]{16}$/)
      assert.ok(answer.offset >= 1 && answer.subscribers >= 1, JSON.stringify(answer))
      const { content } = await chat.until('message')
      assert.match(content, /curl/)
      await chat.close()
    })
  }

  test('the line that the server prints shows its message in the page', async () => {
    const browser = await launchBrowser()
    try {
      const page = await browser.newPage()
      const complaints = watch(page)
      await page.addInitScript(() => localStorage.setItem('fanfare.chat.name', 'Ada'))
      await page.goto(`${server.url}/#general`)
      await page.waitForSelector('#state[data-state="open"]')
      const line = /^ +(curl .*)$/m.exec(server.output)[1]
      const answer = JSON.parse(await paste(line))
      assert.ok(answer.subscribers >= 1, JSON.stringify(answer))
      await page.waitForFunction(() => [...document.querySelectorAll('#log .bubble')].some(bubble => bubble.textContent === 'Hello from curl'))
      assert.deepEqual(complaints, [])
    } finally {
      await browser.close()
    }
  })
})

/** A server has no business in a page: without CORS headers a browser refuses to send the key at all. */
test('a page of another origin cannot use it', options, async () => {
  const ask = (method, headers) => fetch(`${server.url}/api/v1/publish`, { method, headers })
  const preflight = await ask('OPTIONS', { Origin: 'http://evil.example', 'Access-Control-Request-Method': 'POST' })
  assert.equal(preflight.status, 405)
  const sent = await ask('POST', { Origin: 'http://evil.example', 'Content-Type': 'application/x-www-form-urlencoded' })
  assert.equal(sent.status, 401)
  for (const answer of [preflight, sent]) assert.equal(answer.headers.get('access-control-allow-origin'), null)
})
