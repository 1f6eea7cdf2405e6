// @vitest-environment jsdom
// The hooks against the real server: two pages that chat, see each other, and come back after a crash.

import { createClient, type Client } from '@fanfare/client'
import { type ReactNode, StrictMode } from 'react'
import { createRoot, type Root } from 'react-dom/client'
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest'
import { WebSocket } from 'ws' // jsdom's own does not work on Node 20
import type { SocketConstructor } from '../../client/src/env.js'
import { api, type Fanfare, startFanfare } from '../../../support/fanfare.js'
import {
  FanfareProvider,
  useConnection,
  useEnter,
  useMessages,
  usePending,
  usePresence,
  usePublish,
  useSignal,
} from '../src/index.js'

let server: Fanfare
beforeAll(async () => {
  server = await startFanfare()
})
afterAll(() => server?.stop())

const pages: { root: Root; client: Client; box: Element }[] = []
afterEach(async () => {
  for (const { root, client, box } of pages.splice(0)) {
    root.unmount()
    client.close()
    box.remove()
  }
})

function open(children: ReactNode) {
  const box = document.createElement('div')
  document.body.append(box)
  const env = { WebSocket: WebSocket as unknown as SocketConstructor }
  const client = createClient({ url: server.url, env, backoff: { max: 500 } })
  const root = createRoot(box)
  pages.push({ root, client, box })
  const page = (children: ReactNode) =>
    root.render(
      <StrictMode>
        <FanfareProvider client={client}>{children}</FanfareProvider>
      </StrictMode>,
    )
  page(children)
  const until = (check: (text: string) => void) =>
    vi.waitFor(() => check(box.textContent ?? ''), { timeout: 20_000, interval: 20 })
  const click = (tag: string) => (box.querySelector(tag) as HTMLElement | null)?.click()
  return { until, click, client, render: page }
}

interface History {
  epoch: string
  offset: number
  publications: { offset: number; data: unknown; ts: number }[]
}

function Chat({ me, name }: { me: string; name: string }) {
  const { messages, status } = useMessages(name, { recent: 50 })
  const pending = usePending(name)
  const publish = usePublish(name)
  const { members } = usePresence(name)
  const { send, received } = useSignal(name, 'typing')
  const { state } = useConnection()
  useEnter(name, { name: me })
  return (
    <>
      {state.name} {status.name} [{messages.map(({ data }) => String(data)).join(',')}] [
      {members?.map(({ data }) => (data as { name: string }).name).sort().join(',')}] [
      {received.map(({ data }) => String(data)).join(',')}] {pending.length}
      <b onClick={() => void publish(`from ${me}`)} />
      <i onClick={() => void send(me)} />
    </>
  )
}

test('two pages chat and see each other', async () => {
  const name = 'chat:two'
  await api(server, 'publish', { channel: name, data: 'before' })
  const a = open(<Chat me="A" name={name} />)
  const b = open(<Chat me="B" name={name} />)
  await a.until(text => expect(text).toBe('connected live [before] [A,B] [] 0'))
  await b.until(text => expect(text).toBe('connected live [before] [A,B] [] 0'))
  a.click('b')
  b.click('b')
  for (const { until } of [a, b])
    await until(text => expect(text).toMatch(/live \[before,from (A,from B|B,from A)\] \[A,B\] \[\] 0/))
  a.click('i')
  await b.until(text => expect(text).toContain('[A] 0'))
  b.render(null)
  await a.until(text => expect(text).toContain('[A]'))
})

test('a list goes on behind the history that a server rendered', async () => {
  const name = 'chat:rendered'
  for (const data of [1, 2]) await api(server, 'publish', { channel: name, data })
  // As docs/react.md reads it.
  const { epoch, offset, publications } = (await api(server, 'history', { channel: name, limit: 50 })) as History
  const messages = publications.map(({ offset, data, ts }) => {
    return { channel: name, event: 'message', data, ts, position: { epoch, offset } }
  })
  const initial = { messages, position: { epoch, offset } }
  await api(server, 'publish', { channel: name, data: 3 })
  const List = () => <p>{useMessages(name, { initial }).messages.map(({ data }) => String(data)).join(',')}</p>
  const a = open(<List />)
  await a.until(text => expect(text).toBe('1,2,3'))
  await api(server, 'publish', { channel: name, data: 4 })
  await a.until(text => expect(text).toBe('1,2,3,4'))
})

test('a server that crashed and came back is found again', async () => {
  const name = 'chat:crash'
  const a = open(<Chat me="A" name={name} />)
  await a.until(text => expect(text).toBe('connected live [] [A] [] 0'))
  a.click('b')
  await a.until(text => expect(text).toBe('connected live [from A] [A] [] 0'))
  await server.kill()
  await a.until(text => expect(text).toMatch(/^(connecting|disconnected)/))
  a.click('b') // waits in the outbox
  await a.until(text => expect(text).toMatch(/\[from A\] \[A\] \[\] 1$/))
  await server.start()
  await a.until(text => expect(text).toMatch(/^connected live \[from A\] \[A\] \[\] 0$/))
  expect((await a.client.channel(name).history()).messages).toHaveLength(1) // of the new server
})
