// A typical React client, the hook `useWebSocket` and its `ChatComponent` of fixtures/react-client.tsx.txt, unchanged,
// in Chromium, against Fanfare.
//
// A known fault of the component: it gives the hook new callbacks at each render, the hook connects anew for new
// callbacks, and each connect renders. So with any server the component as it stands opens socket after socket,
// several hundred a second, closes each before it is usable, and shows 未连接. The hook itself works with constant
// callbacks. Hence three tests:
//
//   - the hook, with constant callbacks: people chat, and come back after a restart;
//   - the component, its text unchanged, on a React whose `useCallback` is constant: it shows the messages;
//   - the component as it stands: for Fanfare this is a storm of half-open handshakes, which must not affect others.

import assert from 'node:assert/strict'
import { afterEach, describe, test } from 'node:test'
import { ChatClient, freshRoom, stillChats } from './support/chat.mjs'
import { bundle, serveApp } from './support/react-page.mjs'
import { browser, server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }

const COMPONENT = `
import { createRoot } from 'react-dom/client'
import { ChatComponent } from 'client'
createRoot(document.getElementById('root')).render(<ChatComponent />)
`

/** What an application would make of the hook: the component's own idea, with steady callbacks and a box to write in. */
const application = (url, room) => `
import { useCallback, useRef, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { useWebSocket } from 'client'

const name = new URLSearchParams(location.search).get('name')
const me = { userId: name, username: name }

function Chat() {
  const [messages, setMessages] = useState([])
  const hook = useRef(null)
  const onMessage = useCallback(data => setMessages(all => [...all, data]), [])
  const onOpen = useCallback(() => hook.current.send({ type: 'join', ...me, roomId: ${JSON.stringify(room)}, timestamp: Date.now() }), [])
  hook.current = useWebSocket({ url: ${JSON.stringify(url)}, onMessage, onOpen })
  const submit = event => {
    event.preventDefault()
    const box = event.currentTarget.elements.box
    hook.current.send({ type: 'message', ...me, content: box.value, timestamp: Date.now() })
    box.value = ''
  }
  return (
    <>
      <p id="status">{hook.current.connectionStatus}</p>
      <form onSubmit={submit}><input name="box" /></form>
      <ul>{messages.map((m, i) => <li key={i}>{m.type === 'room_state' ? 'in with ' + m.users.length : m.type + ' ' + m.username + ': ' + (m.content ?? '')}</li>)}</ul>
    </>
  )
}
createRoot(document.getElementById('root')).render(<Chat />)
`

share(options, { withBrowser: true })
const opened = []
afterEach(async () => {
  for (const thing of opened.splice(0).reverse()) await thing.close()
}, options)

const host = () => new URL(server.url).host

async function app(entry, how) {
  const served = await serveApp(await bundle(entry, host(), how))
  opened.push(served)
  return served
}

async function visit(address) {
  const page = await browser.newPage()
  opened.push(page)
  await page.goto(address)
  return page
}

const shows = (page, text) => page.waitForFunction(wanted => document.body.textContent.includes(wanted), text)

describe('the hook', options, () => {
  test('connects two pages of another origin, who see each other\'s messages, and again after a restart', async () => {
    const served = await app(application(server.ws, freshRoom()))
    const ada = await visit(`http://127.0.0.1:${served.port}/?name=Ada`)
    await shows(ada, 'in with 0')
    const bob = await visit(`http://localhost:${served.port}/?name=Bob`) // any port and both names of this host may ask
    await shows(bob, 'in with 1')
    await shows(ada, 'join Bob')
    const say = async (page, text) => {
      await page.fill('input', text)
      await page.press('input', 'Enter')
    }
    await say(ada, 'hello Bob')
    await shows(bob, 'message Ada: hello Bob')
    await shows(ada, 'message Ada: hello Bob')
    await say(bob, '你好 Ada')
    await shows(ada, 'message Bob: 你好 Ada')

    await server.stop()
    for (const page of [ada, bob]) await page.waitForFunction(() => document.getElementById('status').textContent !== 'connected')
    await server.start()
    for (const page of [ada, bob]) await page.waitForFunction(() => document.getElementById('status').textContent === 'connected')
    // The second one to come back was told of the first.
    await Promise.any([shows(ada, 'in with 1'), ada.waitForFunction(() => [...document.querySelectorAll('li')].filter(li => li.textContent.startsWith('join Bob')).length === 2)])
    await say(ada, 'and again')
    await shows(bob, 'message Ada: and again')
    await say(bob, '再来一次')
    await shows(ada, 'message Bob: 再来一次')

    await bob.close()
    await shows(ada, 'leave Bob')
  })
})

describe('the component', options, () => {
  test('on a React with steady callbacks shows what is said in the general room', async () => {
    const served = await app(COMPONENT, { steady: true })
    const ann = await ChatClient.join(server.ws, 'ann', 'general', 'Ann')
    const pages = [await visit(`http://127.0.0.1:${served.port}/`), await visit(`http://127.0.0.1:${served.port}/`)]
    for (const page of pages) await shows(page, '状态:已连接')
    // Both pages use the name user123, as the fixture does: one user in two tabs, and a join for each.
    for (const _ of pages) await ann.expect('join', { userId: 'user123', username: 'John Doe' })
    ann.say('大家好')
    for (const page of pages) await shows(page, 'Ann: 大家好')
    ann.say('and goodbye')
    for (const page of pages) await shows(page, 'Ann: and goodbye')
    await ann.close()
  })

  test('as it stands is a storm of handshakes that harms nobody else', async () => {
    const served = await app(COMPONENT)
    const page = await browser.newPage()
    opened.push(page)
    let sockets = 0
    const storm = new Promise(resolve => page.on('websocket', () => ++sockets === 500 && resolve()))
    const room = freshRoom()
    const ann = await ChatClient.join(server.ws, 'ann', room)
    await page.goto(`http://127.0.0.1:${served.port}/`)
    await storm
    await ann.expectSilence()
    await stillChats(server.ws)
    await page.close()
    await ann.expectSilence()
    assert.ok(server.isRunning, server.output.slice(-2000))
    await ann.close()
  })
})
