// `@fanfare/react` in Chromium, with the development build of React where it checks more: StrictMode, a flood, pages
// that a server has rendered. What a page sends is counted frame by frame. The console of every page stays clean.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { afterEach, describe, test } from 'node:test'
import { watch } from './support/browser.mjs'
import { serveApp } from './support/react-page.mjs'
import { flood } from './support/sdk-flood.mjs'
import { bundleSdk } from './support/sdk-page.mjs'
import { browser, server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }
const KEY = 'the-key-of-the-tests'
share(options, { args: ['--api-key', KEY], withBrowser: true })

let pages = []
let ends = []
let channels = 0
const freshChannel = () => `react:${process.pid}-${++channels}`

afterEach(async () => {
  const [pagesOfTest, endsOfTest] = [pages.splice(0), ends.splice(0)]
  for (const { page } of pagesOfTest) await page.context().close()
  for (const end of endsOfTest) await end()
  for (const { complaints } of pagesOfTest) assert.deepEqual(complaints, [])
}, options)

/** A page with the application's script, and the types of the commands that it sends. */
async function open(how = {}, body) {
  const app = await serveApp(await bundleSdk('sdk-react-app.jsx', how), body)
  ends.push(() => app.close())
  const page = await (await browser.newContext()).newPage()
  pages.push({ page, complaints: watch(page) })
  page.sent = []
  page.sockets = 0
  page.on('websocket', socket => {
    page.sockets++
    socket.on('framesent', ({ payload }) => page.sent.push(JSON.parse(payload)))
  })
  await page.goto(`http://localhost:${app.port}/`)
  return page
}

async function call(command, body) {
  const headers = { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' }
  const answer = await fetch(`${server.url}/api/v1/${command}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.equal(answer.status, 200, command)
  return answer.json()
}

const publish = (channel, text) => call('publish', { channel, data: { text } })
const mount = (page, props) => page.evaluate(props => void (window.unmount = app.mount(props)), { url: server.url, ...props })
const shows = (page, text) =>
  page.waitForFunction(text => [...document.querySelectorAll('li')].some(item => item.textContent === text), text)
const isLive = page => page.waitForSelector('ul[data-status=live]', { state: 'attached' })

describe('StrictMode', options, () => {
  test('mounts twice, and the page connects and subscribes once', async () => {
    const channel = freshChannel()
    const page = await open({ mode: 'development' })
    await mount(page, { channel, people: true })
    await isLive(page)
    await page.waitForFunction(() => document.querySelector('#people').textContent === 'Ada')
    await publish(channel, 'hello')
    await shows(page, 'hello')
    assert.equal(page.sockets, 1)
    const types = page.sent.map(command => command.type)
    assert.deepEqual(types.filter(type => !['presence', 'pong'].includes(type)), ['connect', 'presence_set'])
    assert.deepEqual(page.sent[0].subscribe.map(({ channel }) => channel), [channel])
    assert.deepEqual(await page.evaluate(() => app.heard), [{ text: 'hello' }], 'by callback, once')
  })

  test('of a page that is taken away and shown again sends nothing', async () => {
    const channel = freshChannel()
    const page = await open({ mode: 'development' })
    await mount(page, { channel })
    await isLive(page)
    await page.evaluate(() => window.unmount())
    await mount(page, { channel })
    await isLive(page)
    await publish(channel, 'still here')
    await shows(page, 'still here')
    assert.deepEqual(page.sent.map(command => command.type), ['connect'])
  })
})

describe('a flood', options, () => {
  test('of 1,000 messages a second is heard whole, and rendered at most once a frame', async t => {
    const channel = freshChannel()
    const page = await open()
    await mount(page, { channel })
    await isLive(page)
    await page.evaluate(() => {
      app.renders = 0
      let before = performance.now()
      app.times = []
      const frame = now => {
        app.frames++
        app.times.push(now - before)
        before = now
        requestAnimationFrame(frame)
      }
      requestAnimationFrame(frame)
    })
    const COUNT = 3_000
    await flood(server, channel, 0, COUNT)
    await page.waitForFunction(count => app.heard.length === count, COUNT)
    await shows(page, `line ${COUNT - 1}`)
    const { heard, renders, frames, times } = await page.evaluate(() => app)
    assert.deepEqual(heard.map(({ number }) => number), Array.from({ length: COUNT }, (_, n) => n))
    assert.equal(await page.locator('li').count(), 50)
    const sorted = times.toSorted((a, b) => a - b)
    const at = share => sorted[Math.floor(share * (sorted.length - 1))].toFixed(1)
    t.diagnostic(`${COUNT} messages, ${renders} renders, ${frames} frames`)
    t.diagnostic(`frames: median ${at(0.5)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms`)
    assert.ok(renders <= frames + 2, `${renders} renders in ${frames} frames`)
  })
})

describe('a page that a server has rendered', options, () => {
  test('is taken over as it is, and goes on behind it without a gap', async () => {
    const channel = freshChannel()
    await publish(channel, 'one')
    await publish(channel, 'two')
    const { epoch, publications } = await call('history', { channel })
    const messages = publications.map(({ offset, data, ts }) => ({ channel, event: 'message', data, ts, position: { epoch, offset } }))
    const initial = { messages, position: messages.at(-1).position }
    const props = { url: server.url, channel, initial }

    const code = await bundleSdk('sdk-react-server.jsx', { mode: 'development', platform: 'node', format: 'cjs' })
    const module = { exports: {} }
    new Function('module', 'exports', 'require', code)(module, module.exports, createRequire(import.meta.url))
    const html = module.exports.render(props)
    assert.match(html, /<li>one<\/li><li>two<\/li>/)

    await publish(channel, 'between')
    const page = await open({ mode: 'development' }, `<div id="root">${html}</div>`)
    assert.deepEqual(await page.locator('li').allTextContents(), ['one', 'two'])
    await page.evaluate(props => app.hydrate(props), props)
    await shows(page, 'between')
    await publish(channel, 'after')
    await shows(page, 'after')
    assert.deepEqual(await page.locator('li').allTextContents(), ['one', 'two', 'between', 'after'])
    assert.equal(page.sockets, 1)
  })
})
