// @vitest-environment jsdom
// Rendering on a server: no connection, no timer, and markup that the first render in the browser repeats.

import type { Message } from '@fanfare/client'
import { readFileSync } from 'node:fs'
import { renderToString } from 'react-dom/server'
import { afterEach, expect, test, vi } from 'vitest'
import {
  useChannel,
  useConnection,
  useEnter,
  useLatest,
  useMessages,
  usePending,
  usePresence,
  usePublish,
  useReduced,
  useSignal,
} from '../src/index.js'
import { Page } from './support/page.js'

let page: Page
afterEach(() => page.close())

const message = (offset: number): Message => ({
  channel: 'chat:a',
  event: 'message',
  data: offset,
  position: { epoch: 'e1', offset },
  ts: 1,
})
const initial = { messages: [1, 2].map(message), position: { epoch: 'e1', offset: 2 } }

function Everything() {
  const channel = useChannel('chat:a', () => {})
  const { messages, status } = useMessages('chat:a', { initial: { ...initial }, recent: 5 })
  const count = useMessages('chat:a', { initial: { ...initial }, recent: 5, select: ({ messages }) => messages.length })
  const latest = useLatest('chat:a')
  const sum = useReduced('chat:a', (sum: number, { data }) => sum + (data as number), 100)
  const { members } = usePresence('chat:a')
  const entered = useEnter('chat:a', { name: 'Ada' })
  const { received } = useSignal('chat:a', 'typing')
  const pending = usePending('chat:a')
  usePublish('chat:a')
  const { state } = useConnection()
  const shown = [
    channel.name,
    status.name,
    messages.map(({ data }) => data).join('+'),
    count,
    String(latest?.data),
    sum,
    members?.length,
    entered.name,
    received.length + pending.length,
    state.name,
  ]
  return <p>{shown.join(' ')}</p>
}

const both = [{ strict: false }, { strict: true }]
test.each(both)('a server renders, the browser takes over ($strict)', async options => {
  page = new Page(options)
  const html = renderToString(page.wrap(<Everything />))
  expect(html).toBe('<p>subscribing subscribing 1+2 2 undefined 100 0 entering 0 disconnected</p>')
  expect(vi.getTimerCount()).toBe(0)
  expect([page.server.sent, page.frames, page.client.report().channels]).toEqual([[], 0, []])

  for (const data of [1, 2, 3]) page.server.publish('chat:a', data)
  const complaints = vi.spyOn(console, 'error').mockImplementation(() => {})
  await page.hydrate(html, <Everything />)
  await page.frame()
  await page.frame()
  expect(complaints.mock.calls).toEqual([])
  expect(page.errors).toEqual([])
  // The list went on behind what was rendered: nothing twice, nothing lost.
  expect(page.text).toBe('live live 1+2+3 3 3 100 1 entered 0 connected')
})

test('the package says that it is for the browser', () => {
  const source = readFileSync('src/index.ts', 'utf8')
  expect(source).toMatch(/^\/\*\*.*?\*\/\n'use client'\n/s) // only a comment before it
  page = new Page()
})
