// @vitest-environment jsdom
/**
 * The usual `ChatComponent`, unchanged, with our `useWebSocket`, against a real server; in React 18 and 19.
 */

import { readFileSync } from 'node:fs'
import { StrictMode } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { WebSocket as RealSocket } from 'ws'
import { type Fanfare, Inbox, startFanfare } from '../../../support/fanfare.js'
import { ChatComponent } from './fixtures/ChatComponent.js'

interface Message {
  type: string
  username?: string
  content?: string
}

let server: Fanfare
let root: Root | undefined
const container = document.createElement('div')
/** Resolved when the page changes. */
const changes = new Inbox<void>()
new MutationObserver(() => changes.put()).observe(container, { childList: true, characterData: true, subtree: true })

let opened = 0

beforeAll(async () => {
  server = await startFanfare()
})

afterAll(async () => {
  await server?.stop()
})

afterEach(() => root?.unmount())

/** Mounts the component, whose `ws://localhost:8080` leads to the server of this test. */
function mount() {
  opened = 0
  vi.stubGlobal(
    'WebSocket',
    class extends RealSocket {
      constructor(url: string) {
        expect(url).toBe('ws://localhost:8080')
        super(server.ws)
        opened++
      }
    },
  )
  root = createRoot(container)
  root.render(
    <StrictMode>
      <ChatComponent />
    </StrictMode>,
  )
}

async function shows(text: string) {
  while (!container.textContent?.includes(text)) await changes.next()
}

/** Somebody else in the room. */
async function join(username: string) {
  const inbox = new Inbox<Message>()
  const socket = new RealSocket(server.ws)
  const say = (message: object) => socket.send(JSON.stringify({ ...message, userId: username, username, timestamp: 0 }))
  await new Promise(resolve => (socket.onopen = resolve))
  socket.onmessage = event => inbox.put(JSON.parse(event.data as string) as Message)
  say({ type: 'join' })
  await inbox.next(message => message.type === 'room_state')
  return { inbox, say, close: () => socket.close() }
}

test('the component of this test is the usual one', () => {
  const squeeze = (text: string) => text.replace(/\s+/g, ' ').trim()
  const fixture = '../../../../tests/clients/fixtures/react-client.tsx.txt'
  const usual = readFileSync(fixture, 'utf8').split('// 组件中的使用')[1] ?? 'missing'
  expect(squeeze(readFileSync('test/fixtures/ChatComponent.tsx', 'utf8'))).toContain(squeeze(usual))
})

test('it joins once, shows what is said, and nothing opens a second connection', async () => {
  const ann = await join('Ann')
  mount()
  await ann.inbox.next(({ type, username }) => type === 'join' && username === 'John Doe')
  await shows('状态:已连接')
  ann.say({ type: 'message', content: '大家好' })
  await shows('Ann: 大家好')
  for (let i = 0; i < 20; i++) ann.say({ type: 'message', content: `n${i}.` })
  await shows('Ann: n19.')
  expect(container.textContent?.match(/Ann: /g)).toHaveLength(21)
  expect(opened).toBe(1)
  root?.unmount()
  await ann.inbox.next(({ type, username }) => type === 'leave' && username === 'John Doe')
  ann.close()
})

test('it comes back after a restart of the server, and joins again', async () => {
  mount()
  await shows('状态:已连接')
  await server.stop()
  await shows('状态:未连接')
  await server.start()
  await shows('状态:已连接')
  const bob = await join('Bob')
  bob.say({ type: 'message', content: 'back' })
  await shows('Bob: back')
  bob.close()
})
