// `socket.io-client` in a page of Chromium, behind a proxy: one that blocks WebSockets, and one that lets them pass.

import assert from 'node:assert/strict'
import { fileURLToPath } from 'node:url'
import { after, test } from 'node:test'
import { watch } from './support/browser.mjs'
import { startProxy } from './support/proxy.mjs'
import { browser, server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }
const SCRIPT = fileURLToPath(new URL('node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url))

share(options, { args: [{ rates: 'default' }], withBrowser: true })
const proxies = []
after(() => Promise.all(proxies.map(proxy => proxy.stop())), options)

async function proxied(settings) {
  const proxy = await startProxy(server.port, { ...settings, page: '<!doctype html><title>page</title>' })
  proxies.push(proxy)
  return proxy
}

/** A page with a client that is connected, and notes what it hears. The calls run in the page. */
async function open(proxy) {
  const page = await (await browser.newContext()).newPage()
  const complaints = watch(page)
  await page.goto(`${proxy.url}/page`)
  await page.addScriptTag({ path: SCRIPT })
  await page.evaluate(() => {
    window.heard = []
    window.socket = io({ reconnectionDelay: 10, reconnectionDelayMax: 20 })
    for (const name of ['user-joined', 'message', 'user-typing']) socket.on(name, data => heard.push([name, data]))
    return new Promise(resolve => socket.once('connect', resolve))
  })
  return {
    page,
    complaints,
    emit: (...event) => page.evaluate(event => void socket.emit(...event), event),
    state: () => page.evaluate(() => ({ id: socket.id, recovered: socket.recovered === true, transport: socket.io.engine.transport.name })),
    /** Returns when the page has heard an event of this name whose data has this value in one of its fields. */
    hears: (name, field, value) => page.waitForFunction(([name, field, value]) => heard.some(([of, data]) => of === name && data[field] === value), [name, field, value]),
    texts: () => page.evaluate(() => heard.filter(([name]) => name === 'message').map(([, { text }]) => text)),
  }
}

async function join(client, room) {
  await client.emit('join-room', room)
  await client.emit('message', { text: 'here' })
  await client.hears('message', 'text', 'here')
}

test('behind a proxy that blocks WebSockets, two pages talk by polling, and go on after a cut', options, async () => {
  const proxy = await proxied({ websockets: false })
  const [ada, bob] = [await open(proxy), await open(proxy)]
  await join(ada, 'blocked')
  await join(bob, 'blocked')
  const before = await bob.state()
  await ada.hears('user-joined', 'userId', before.id)
  await ada.emit('typing', true)
  await bob.hears('user-typing', 'isTyping', true)
  await ada.emit('message', { text: 'to bob' })
  await bob.hears('message', 'text', 'to bob')
  await bob.emit('message', { text: '你好', nested: [{ n: 1 }] })
  await ada.hears('message', 'text', '你好')

  for (const round of ['first', 'second']) {
    // Both are surely cut, and know it: what a page says before that may be lost.
    proxy.down()
    await Promise.all([ada, bob].map(({ page }) => page.waitForFunction(() => !socket.connected)))
    proxy.up()
    await Promise.all([ada, bob].map(({ page }) => page.waitForFunction(() => socket.connected)))
    await ada.emit('message', { text: `${round} live` })
    await Promise.all([ada, bob].map(client => client.hears('message', 'text', `${round} live`)))
  }
  for (const client of [ada, bob]) assert.equal((await client.state()).recovered, true)
  const { id, transport } = await bob.state()
  assert.deepEqual({ id, transport }, { id: before.id, transport: 'polling' })
  assert.deepEqual(await bob.texts(), ['here', 'to bob', '你好', 'first live', 'second live'])
  assert.ok(proxy.seen.websocket > 0, 'the pages have tried a WebSocket')
  // The browser tells of what was cut and blocked; the pages themselves have no complaint.
  for (const { complaints } of [ada, bob]) assert.deepEqual(complaints.filter(text => text.startsWith('exception')), [])
})

test('what is said while a page is cut off reaches it, once and in order', options, async () => {
  const [blocked, open_] = [await proxied({ websockets: false }), await proxied({})]
  const [ada, bob] = [await open(open_), await open(blocked)]
  await join(ada, 'missed')
  await join(bob, 'missed')
  await bob.page.evaluate(() => void (window.back = new Promise(resolve => socket.once('connect', resolve))))
  blocked.down()
  for (let n = 0; n < 20; n++) await ada.emit('message', { text: `missed ${n}` })
  await ada.hears('message', 'text', 'missed 19')
  blocked.up()
  await bob.page.evaluate(() => back)
  assert.equal((await bob.state()).recovered, true)
  await ada.emit('message', { text: 'live' })
  await bob.hears('message', 'text', 'live')
  assert.deepEqual(await bob.texts(), ['here', ...Array.from({ length: 20 }, (_, n) => `missed ${n}`), 'live'])
})

test('where WebSockets pass, a page goes on with one, also after a cut', options, async () => {
  const proxy = await proxied({})
  const upgraded = page => page.waitForFunction(() => socket.io.engine.transport.name === 'websocket')
  const client = await open(proxy)
  await upgraded(client.page)
  await join(client, 'passes')
  const { id } = await client.state()
  await client.page.evaluate(() => void (window.back = new Promise(resolve => socket.once('connect', resolve))))
  proxy.cut()
  await client.page.evaluate(() => back)
  await upgraded(client.page)
  await client.emit('message', { text: 'after' })
  await client.hears('message', 'text', 'after')
  const state = await client.state()
  assert.deepEqual(state, { id, recovered: true, transport: 'websocket' })
})
