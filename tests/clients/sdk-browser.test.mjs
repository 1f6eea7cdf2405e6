// The TypeScript SDK in Chromium, through what happens to pages: cuts, tunnels, restarts, freezes, other tabs, a flood.
//
// Each page is an application's own, of another origin than the server, and follows a channel by `fanfare.visit`
// (support/sdk-entry.mjs). The promise in every test is the same: each message once, in order, or a gap that says so.
// The console of every page stays clean.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, afterEach, before, describe, test } from 'node:test'
import { openBareTab, watch } from './support/browser.mjs'
import { startNginx } from './support/nginx.mjs'
import { startProxy } from './support/proxy.mjs'
import { serveApp } from './support/react-page.mjs'
import { flood } from './support/sdk-flood.mjs'
import { bundleSdk } from './support/sdk-page.mjs'
import { browser, server, share } from './support/shared.mjs'
import { startServer } from './support/server.mjs'

const options = { timeout: 120_000 }
let app
let pages = []
let ends = []
let channels = 0
const freshChannel = () => `sdk:${process.pid}-${++channels}`

share(options, { withBrowser: true })
before(async () => {
  app = await serveApp(await bundleSdk())
}, options)
after(() => app?.close(), options)

afterEach(async () => {
  const [pagesOfTest, endsOfTest] = [pages.splice(0), ends.splice(0)]
  for (const { page } of pagesOfTest) await page.context().close()
  for (const end of endsOfTest) await end()
  for (const { name, complaints } of pagesOfTest) assert.deepEqual(complaints, [], `the console of ${name}`)
}, options)

/** A page of the application; in a browser of its own unless there is a context. */
async function open(name, context) {
  context ??= await browser.newContext()
  const page = await context.newPage()
  pages.push({ name, page, complaints: watch(page) })
  await page.goto(`http://localhost:${app.port}/`)
  return page
}

/** Follows the channel, and is live. */
async function visit(page, channel, { url = server.url, options = {}, wanted = {} } = {}) {
  await page.evaluate(([url, channel, options, wanted]) => {
    window.visitor = fanfare.visit(url, channel, options, wanted)
    return visitor.subscription.ready.then(() => {})
  }, [url, channel, options, wanted])
  return page
}

const join = async (name, channel, how) => visit(await open(name), channel, how)
const say = (page, ...all) => page.evaluate(all => all.forEach(data => visitor.say(data)), all)
const notes = (page, name) => page.evaluate(name => visitor[name], name)
const state = page => page.evaluate(() => visitor.client.state)

/** Exactly these messages are there: no other, none twice, in this order. */
const hears = async (page, ...all) => {
  await page.waitForFunction(last => visitor.said.includes(last), all.at(-1))
  assert.deepEqual(await notes(page, 'said'), all)
}

/** Waits for the state, and gives it; one that has passed counts too. */
const until = (page, name, since = 0) =>
  page.waitForFunction(([name, since]) => visitor.states.slice(since).find(state => state.name === name), [name, since])
    .then(handle => handle.jsonValue())
const statesSoFar = page => page.evaluate(() => visitor.states.length)

/** A page that can be frozen, as a browser does with a tab in the background: none of its tasks runs. */
async function joinBare(channel, how) {
  const tab = await openBareTab(browser, `http://localhost:${app.port}/`)
  ends.push(async () => {
    await tab.close()
    assert.deepEqual(tab.complaints, [])
  })
  return visit(tab, channel, how)
}

async function proxied(more) {
  const proxy = await startProxy(server.port, more)
  ends.push(() => proxy.stop())
  return proxy
}

describe('two pages', options, () => {
  test('see each other, and each other\'s messages and signals', async () => {
    const channel = freshChannel()
    const [ada, bob] = [await join('Ada', channel), await join('Bob', channel)]
    await ada.evaluate(() => visitor.enter('Ada'))
    await bob.evaluate(() => visitor.enter('Bob'))
    for (const page of [ada, bob]) await page.waitForFunction(() => visitor.present.join() === 'Ada,Bob')
    await say(ada, 'hello', 'Bob')
    await hears(bob, 'hello', 'Bob')
    await ada.evaluate(() => visitor.channel.signal('typing', { in: 'English' }))
    await bob.waitForFunction(() => visitor.signals.length > 0)
    assert.deepEqual(await notes(bob, 'signals'), ['typing: {"in":"English"}'])
    await say(bob, '你好 👋')
    await hears(ada, 'hello', 'Bob', '你好 👋')
    assert.deepEqual(await notes(ada, 'published'), { hello: 'stored', Bob: 'stored' })
    await bob.evaluate(() => visitor.client.close())
    await ada.waitForFunction(() => visitor.present.join() === 'Ada')
    assert.deepEqual([await notes(ada, 'errors'), await notes(ada, 'gaps')], [[], []])
  })

  test('of which one goes away leave nothing on `window` after `close()`', async () => {
    const page = await open('Ada')
    const left = await page.evaluate(async ([url, channel]) => {
      const held = new Map()
      const count = (type, by) => held.set(type, (held.get(type) ?? 0) + by)
      for (const target of [window, document]) {
        const { addEventListener: add, removeEventListener: remove } = target
        target.addEventListener = (type, ...rest) => (count(type, 1), add.call(target, type, ...rest))
        target.removeEventListener = (type, ...rest) => (count(type, -1), remove.call(target, type, ...rest))
      }
      const visitor = fanfare.visit(url, channel)
      await visitor.subscription.ready
      const most = [...held.values()].reduce((a, b) => a + b, 0)
      visitor.client.close()
      return { most, left: [...held].filter(([, number]) => number !== 0) }
    }, [server.url, freshChannel()])
    assert.ok(left.most > 0, 'the page is watched')
    assert.deepEqual(left.left, [])
  })
})

describe('a page comes back', options, () => {
  test('from a cut, and has missed nothing', async () => {
    const channel = freshChannel()
    const proxy = await proxied()
    const [ada, bob] = [await join('Ada', channel, { url: proxy.url }), await join('Bob', channel)]
    const { client } = await state(ada)
    await say(bob, 'before')
    await hears(ada, 'before')
    proxy.down()
    assert.equal((await until(ada, 'disconnected')).reason.code, 'lost')
    await say(bob, 'meanwhile', 'and this')
    await hears(bob, 'before', 'meanwhile', 'and this')
    await say(ada, 'from the tunnel', 'in order')
    proxy.up()
    await hears(ada, 'before', 'meanwhile', 'and this', 'from the tunnel', 'in order')
    await hears(bob, 'before', 'meanwhile', 'and this', 'from the tunnel', 'in order')
    const now = await state(ada)
    assert.deepEqual([now.name, now.client, now.resumed], ['connected', client, true])
    const { recovered, count } = (await notes(ada, 'subscribed')).at(-1)
    assert.deepEqual([recovered, count, await notes(ada, 'gaps')], [true, 2, []])
  })

  test('when the device is online again, though its socket says nothing of the tunnel', async () => {
    const channel = freshChannel()
    const proxy = await proxied()
    const [ada, bob] = [await join('Ada', channel, { url: proxy.url }), await join('Bob', channel)]
    const before = await statesSoFar(ada)
    proxy.mute()
    await ada.context().setOffline(true)
    await say(bob, 'unheard')
    await hears(bob, 'unheard')
    await ada.context().setOffline(false)
    await hears(ada, 'unheard')
    assert.match((await until(ada, 'disconnected', before)).reason.code, /^(silence|lost)$/)
    assert.deepEqual(await notes(ada, 'gaps'), [])
  })

  test('from a freeze, during which its connection has ended', async () => {
    const channel = freshChannel()
    const proxy = await proxied()
    const [ada, bob] = [await joinBare(channel, { url: proxy.url }), await join('Bob', channel)]
    await ada.freeze()
    proxy.down()
    await say(bob, 1, 2, 3)
    await hears(bob, 1, 2, 3)
    assert.deepEqual(await notes(ada, 'said'), [])
    proxy.up()
    await ada.thaw()
    await hears(ada, 1, 2, 3)
    assert.deepEqual(await notes(ada, 'gaps'), [])
    await say(ada, 4)
    await hears(bob, 1, 2, 3, 4)
  })

  test('from a freeze, during which others went on', async () => {
    const channel = freshChannel()
    const [ada, bob] = [await joinBare(channel), await join('Bob', channel)]
    await ada.freeze()
    const all = Array.from({ length: 80 }, (_, number) => number)
    await say(bob, ...all)
    await hears(bob, ...all)
    assert.deepEqual(await notes(ada, 'said'), [], 'it is frozen')
    await ada.thaw()
    await hears(ada, ...all)
    assert.deepEqual(await notes(ada, 'gaps'), [])
  })
})

describe('a server', options, () => {
  /** Ada and Bob on a server of their own. */
  async function onServer() {
    const own = await startServer()
    ends.push(() => own.isRunning && own.kill())
    const channel = freshChannel()
    return { own, ada: await join('Ada', channel, { url: own.url }), bob: await join('Bob', channel, { url: own.url }) }
  }

  test('that is killed and starts again keeps its pages; what its memory lost is told as a gap', async () => {
    const { own, ada, bob } = await onServer()
    const { client } = await state(ada)
    await say(bob, 'lost with its memory')
    await hears(ada, 'lost with its memory')
    const before = await statesSoFar(ada)
    await own.kill()
    await until(ada, 'disconnected', before)
    await say(ada, 'written meanwhile')
    assert.deepEqual(await ada.evaluate(() => visitor.client.pending().map(entry => entry.data)), ['written meanwhile'])
    await own.start()
    for (const page of [ada, bob]) await page.waitForFunction(() => visitor.gaps.length === 1)
    for (const page of [ada, bob]) {
      assert.deepEqual((await notes(page, 'gaps')).map(gap => gap.reason), ['unrecovered'])
      assert.equal((await notes(page, 'subscribed')).at(-1).recovered, false)
    }
    await ada.waitForFunction(() => visitor.published['written meanwhile'] === 'stored')
    await hears(ada, 'lost with its memory', 'written meanwhile')
    await say(bob, 'again')
    await hears(ada, 'lost with its memory', 'written meanwhile', 'again')
    assert.deepEqual(await ada.evaluate(() => visitor.client.pending()), [])
    const now = await state(ada)
    assert.deepEqual([now.resumed, now.client === client], [false, false])
  })

  test('that is stopped sends its pages away for a while, and they come to its successor', async () => {
    const { own, ada, bob } = await onServer()
    const before = await statesSoFar(ada)
    await own.stop()
    const { reason, retryAt } = await until(ada, 'disconnected', before)
    assert.deepEqual([reason.code, reason.closeCode, typeof retryAt], ['shutdown', 4000, 'number'])
    await say(ada, 'one', 'two')
    await own.start()
    // A page whose user does not want to wait.
    await ada.evaluate(() => visitor.client.connect())
    await bob.evaluate(() => visitor.client.connect())
    await hears(ada, 'one', 'two')
    await bob.waitForFunction(() => visitor.client.state.name === 'connected' && visitor.channel.state === 'live')
    await say(ada, 'three')
    await bob.waitForFunction(() => visitor.said.includes('three'))
  })
})

describe('an nginx that blocks WebSockets', options, () => {
  test('costs nothing but the WebSocket, which is used as soon as it gets through', async () => {
    const channel = freshChannel()
    const nginx = await startNginx(server.port)
    ends.push(() => nginx.stop())
    const [ada, bob] = [await join('Ada', channel, { url: nginx.url, options: { hurry: true } }), await join('Bob', channel)]
    const { transport, client } = await state(ada)
    assert.equal(transport, 'sse')
    await say(ada, 'by a request')
    await say(bob, 'by a stream')
    for (const page of [ada, bob]) await page.waitForFunction(() => visitor.said.length === 2)
    await nginx.allow()
    await ada.waitForFunction(() => visitor.client.state.transport === 'websocket' && visitor.client.state.name === 'connected')
    await say(bob, 'by a socket')
    await ada.waitForFunction(() => visitor.said.includes('by a socket'))
    await say(ada, 'and back')
    await bob.waitForFunction(() => visitor.said.includes('and back'))
    for (const page of [ada, bob]) {
      assert.deepEqual((await notes(page, 'said')).toSorted(), ['and back', 'by a request', 'by a socket', 'by a stream'])
      assert.deepEqual(await notes(page, 'gaps'), [])
    }
    assert.equal((await state(ada)).client, client, 'the session has moved')
  })
})

describe('tabs of one browser', options, () => {
  test('eight of them each get every message', async () => {
    const channel = freshChannel()
    const context = await browser.newContext()
    const tabs = await Promise.all(Array.from({ length: 8 }, async (_, n) => visit(await open(`tab ${n}`, context), channel)))
    for (const [n, tab] of tabs.entries()) await say(tab, `from ${n}`)
    for (const tab of tabs) {
      await tab.waitForFunction(() => visitor.said.length === 8)
      assert.deepEqual((await notes(tab, 'said')).toSorted(), tabs.map((_, n) => `from ${n}`))
    }
    const clients = await Promise.all(tabs.map(async tab => (await state(tab)).client))
    assert.equal(new Set(clients).size, 8)
  })

  test('a duplicated one has a session of its own, and the first keeps its', async () => {
    const channel = freshChannel()
    const first = await join('the first', channel)
    const { client } = await state(first)
    await first.evaluate(() => sessionStorage.setItem('copied', 'yes'))
    const opening = once(first.context(), 'page')
    await first.evaluate(() => void window.open(location.href))
    const [second] = await opening
    await second.waitForFunction(() => window.fanfare)
    assert.equal(await second.evaluate(() => sessionStorage.getItem('copied')), 'yes')
    await visit(second, channel)
    assert.notEqual((await state(second)).client, client)
    await say(second, 'from the copy')
    await hears(first, 'from the copy')
    await say(first, 'from the first')
    await hears(second, 'from the copy', 'from the first')
    assert.deepEqual((await notes(first, 'states')).map(state => state.name), ['connecting', 'connected'])
  })
})

describe('a flood', options, () => {
  const RATE = 1_000
  const SECONDS = 4

  test('of 1,000 messages a second loses nothing, and leaves no memory behind', async t => {
    const channel = freshChannel()
    const page = await open('reader')
    const devtools = await page.context().newCDPSession(page)
    await page.evaluate(async ([url, channel]) => {
      const client = fanfare.createClient({ url })
      window.flood = { next: 0, wrong: [], frames: [] }
      client.channel(channel).subscribe({
        message: ({ data }) => {
          if (data.number !== flood.next) flood.wrong.push(data.number)
          flood.next = data.number + 1
        },
        gap: gap => flood.wrong.push(gap),
      })
      await new Promise(done => client.on('state', state => state.name === 'connected' && done()))
      let before = performance.now()
      const frame = now => {
        flood.frames.push(now - before)
        before = now
        requestAnimationFrame(frame)
      }
      requestAnimationFrame(frame)
    }, [server.url, channel])
    const heap = async () => {
      await page.evaluate(() => (flood.frames = []))
      await devtools.send('HeapProfiler.collectGarbage')
      return (await devtools.send('Runtime.getHeapUsage')).usedSize
    }
    const run = async (first, count) => {
      await flood(server, channel, first, count)
      await page.waitForFunction(next => flood.next === next, first + count)
    }
    await run(0, RATE) // compiled, and its buffers grown
    const before = await heap()
    await run(RATE, SECONDS * RATE)
    const { wrong, frames } = await page.evaluate(() => flood)
    const after = await heap()
    assert.deepEqual(wrong, [])
    const sorted = frames.toSorted((a, b) => a - b)
    const at = share => sorted[Math.floor(share * (sorted.length - 1))].toFixed(1)
    t.diagnostic(`${frames.length} frames: median ${at(0.5)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms`)
    t.diagnostic(`heap ${before} bytes before, ${after} after (${((after / before - 1) * 100).toFixed(1)} %)`)
    assert.ok(after < before * 1.1, `the heap grew from ${before} to ${after} bytes`)
  })
})
