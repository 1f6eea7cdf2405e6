// @vitest-environment jsdom
// `useMessages`: immutable snapshots, one render a frame, no lost message, lists that are shared and bounded.

import type { Message } from '@fanfare/client'
import { afterEach, expect, test, vi } from 'vitest'
import { type Messages, type PendingMessage, shallowEqual, useMessages, usePending, usePublish } from '../src/index.js'
import { Page } from './support/page.js'

let page: Page
afterEach(() => page.close())

let renders = 0
let last: Messages<Message> | undefined
interface Props {
  name: string | null
  limit?: number
  recent?: number
  event?: string
}
function List({ name, ...options }: Props) {
  renders++
  const list = useMessages(name, options)
  last = list
  return (
    <p>
      {list.status.name}:{list.messages.map(({ data }) => String(data)).join(',')}
    </p>
  )
}

const fresh = (options = {}) => {
  renders = 0
  last = undefined
  page = new Page(options)
}

test.each([{ strict: false }, { strict: true }])('begins with the history, follows it ($strict)', async options => {
  fresh(options)
  for (const data of ['a', 'b', 'c']) page.server.publish('chat:a', data)
  await page.render(<List name="chat:a" recent={2} />)
  expect(page.text).toBe('subscribing:') // nothing before the frame
  await page.frame()
  expect(page.text).toBe('live:b,c')
  await page.frame(() => page.server.publish('chat:a', 'd'))
  expect(page.text).toBe('live:b,c,d')
  expect(page.server.asked).toEqual([])
})

test('ten thousand messages between two frames are one render, and the newest are in it', async () => {
  fresh()
  await page.render(<List name="chat:a" limit={100} />)
  await page.frame()
  renders = 0
  const before = last
  await page.settle(() => {
    for (let i = 0; i < 10_000; i++) page.server.publish('chat:a', i)
  })
  expect(last).toBe(before)
  expect([renders, page.frames]).toEqual([0, 1])
  await page.frame()
  expect([renders, page.frames]).toEqual([1, 0])
  expect(last?.messages.map(({ data }) => data)).toEqual([...Array(10_000).keys()].slice(-100))
})

test('without frames a timer stands in', async () => {
  fresh()
  vi.stubGlobal('requestAnimationFrame', undefined)
  const { FanfareProvider } = await import('../src/index.js')
  await page.render(
    <FanfareProvider client={page.client}>
      <List name="chat:a" />
    </FanfareProvider>,
  )
  await page.wait(100)
  renders = 0
  await page.settle(() => {
    for (let i = 0; i < 50; i++) page.server.publish('chat:a', i)
  })
  expect(renders).toBe(0)
  await page.wait(16)
  expect(renders).toBe(1)
})

test('a hidden page has no frames, and is brought up to date all the same', async () => {
  fresh()
  vi.stubGlobal('requestAnimationFrame', () => 7)
  vi.stubGlobal('cancelAnimationFrame', () => {})
  const { FanfareProvider } = await import('../src/index.js')
  await page.render(
    <FanfareProvider client={page.client}>
      <List name="chat:a" />
    </FanfareProvider>,
  )
  await page.settle(() => page.server.publish('chat:a', 'x'))
  await page.wait(250)
  expect(page.text).toBe('live:x')
})

test('a snapshot never changes', async () => {
  fresh()
  await page.render(<List name="chat:a" limit={2} />)
  await page.frame(() => page.server.publish('chat:a', 1))
  const kept = last as Messages<Message>
  const copy = JSON.stringify(kept)
  for (let i = 2; i < 9; i++) await page.frame(() => page.server.publish('chat:a', i))
  expect(JSON.stringify(kept)).toBe(copy)
  expect(page.text).toBe('live:7,8')
})

test('components with the same options share one list; the end of one is not the end of another', async () => {
  fresh()
  page.server.publish('chat:a', 1)
  await page.render([<List key="1" name="chat:a" recent={5} />, <List key="2" name="chat:a" recent={5} />])
  await page.frame()
  expect(page.text).toBe('live:1live:1')
  expect(page.client.report().channels).toMatchObject([{ handlers: 1 }])
  await page.render([<List key="2" name="chat:a" recent={5} />])
  await page.wait(5_000)
  await page.frame(() => page.server.publish('chat:a', 2))
  expect(page.text).toBe('live:1,2')
  expect(page.server.asked).toEqual([])
})

test('a list that comes later, with other options, reads its own beginning', async () => {
  fresh()
  for (let i = 0; i < 5; i++) page.server.publish('chat:a', i)
  await page.render([<List key="1" name="chat:a" recent={1} />])
  await page.frame()
  await page.render([<List key="1" name="chat:a" recent={1} />, <List key="2" name="chat:a" recent={3} />])
  await page.frame()
  expect(page.text).toBe('live:4live:2,3,4')
})

test('mounting, unmounting and mounting again sends nothing and keeps what was shown', async () => {
  fresh()
  page.server.publish('chat:a', 1)
  await page.render(<List name="chat:a" recent={5} />)
  await page.frame()
  await page.render(null)
  await page.settle(() => page.server.publish('chat:a', 2))
  await page.wait(900)
  await page.render(<List name="chat:a" recent={5} />)
  await page.frame()
  expect(page.text).toBe('live:1,2')
  expect(page.server.asked).toEqual([])
  await page.render(null)
  await page.wait(3_000)
  expect(page.server.asked).toEqual(['unsubscribe'])
})

test('another name or limit swaps the list, and shows nothing of the former', async () => {
  fresh()
  page.server.publish('chat:a', 'a')
  page.server.publish('chat:b', 'b')
  await page.render(<List name="chat:a" recent={5} />)
  await page.frame()
  expect(page.text).toBe('live:a')
  await page.render(<List name="chat:b" recent={5} />)
  expect(page.text).toBe('subscribing:')
  await page.frame()
  expect(page.text).toBe('live:b')
  await page.render(<List name={null} />)
  expect(page.text).toBe('off:')
})

test('only the events that are asked for', async () => {
  fresh()
  await page.render(<List name="chat:a" event="said" />)
  await page.frame(() => {
    page.server.publish('chat:a', 1, 'said')
    page.server.publish('chat:a', 2, 'edited')
    page.server.publish('chat:a', 3)
  })
  expect(page.text).toBe('live:1')
})

test('a selector renders only where its value changes, and may be inline', async () => {
  fresh()
  let seen: unknown
  function Last() {
    renders++
    seen = useMessages('chat:a', {
      select: ({ messages }) => messages.filter(({ event }) => event === 'said').map(({ data }) => data),
      equal: shallowEqual,
    })
    return null
  }
  await page.render(<Last />)
  await page.frame(() => page.server.publish('chat:a', 1, 'said'))
  const before = seen
  renders = 0
  await page.frame(() => page.server.publish('chat:a', 2, 'edited'))
  expect(renders).toBe(0)
  await page.render(<Last />)
  expect(seen).toBe(before)
  await page.frame(() => page.server.publish('chat:a', 3, 'said'))
  expect(seen).toEqual([1, 3])
})

test('after a loss on a live subscription the list begins anew with the newest', async () => {
  fresh()
  await page.render(<List name="chat:a" recent={3} />)
  await page.frame(() => page.server.publish('chat:a', 1))
  await page.frame(() => page.server.lose('chat:a', 2, 3, 4))
  expect(page.text).toBe('live:2,3,4')
  expect(last?.gap).toMatchObject({ reason: 'gap' })
  await page.frame(() => page.server.publish('chat:a', 5))
  expect(page.text).toBe('live:2,3,4,5')
})

test('after a restart of the server that lost the history the list begins anew', async () => {
  fresh()
  await page.render(<List name="chat:a" recent={3} />)
  await page.frame(() => page.server.publish('chat:a', 'old'))
  page.server.restart()
  page.server.publish('chat:a', 'new')
  await page.wait(1_000)
  await page.frame()
  expect(page.text).toBe('live:new')
})

test('a subscription that the server ends is tried again by `retry`, or by a component that comes', async () => {
  fresh()
  page.server.denied.add('chat:a')
  await page.render([<List key="1" name="chat:a" />])
  await page.frame()
  expect(page.text).toBe('ended:')
  page.server.denied.clear()
  await page.frame(() => last?.status.name === 'ended' && last.status.retry())
  expect(page.text).toBe('live:')
  await page.frame(() => page.server.end('chat:a'))
  expect(page.text).toBe('ended:')
  await page.render([<List key="1" name="chat:a" />, <List key="2" name="chat:a" />])
  await page.frame()
  expect(page.text).toBe('live:live:')
})

test('nothing stays behind', async () => {
  fresh()
  const names = [...Array(20).keys()].map(n => `chat:${n}`)
  for (const name of names) await page.render(<List name={name} />)
  await page.render(null)
  await page.wait(3_000)
  expect(page.client.report().channels.filter(({ handlers }) => handlers > 0)).toEqual([])
  expect(page.server.asked.filter(type => type === 'unsubscribe')).toHaveLength(20)
})

function Chat() {
  const { messages } = useMessages('chat:a', { recent: 5 })
  const pending = usePending('chat:a')
  const publish = usePublish('chat:a')
  return (
    <p>
      <b onClick={() => void publish('mine', { event: 'said' })} />
      {messages.map(({ data }) => String(data)).join(',')}|
      {pending.map(({ data, state }) => `${data} ${state}`).join(',')}
      {pending[0]?.state === 'failed' && <i onClick={pending[0].retry}>!</i>}
      {pending[0]?.state === 'failed' && <u onClick={pending[0].dismiss}>x</u>}
    </p>
  )
}
const click = (tag: string) => () => page.box.querySelector(tag)?.dispatchEvent(new Event('click', { bubbles: true }))

test('a publication is pending, then in the list: in the same frame', async () => {
  fresh()
  document.body.append(page.box)
  page.server.hold = []
  await page.render(<Chat />)
  await page.frame()
  await page.frame(click('b'))
  expect(page.text).toBe('|mine pending')
  await page.settle(() => page.server.hold?.shift()?.())
  expect(page.text).toBe('|mine pending')
  await page.frame()
  expect(page.text).toBe('mine|')
})

test('a publication that fails can be tried again with its key, or dismissed', async () => {
  fresh()
  document.body.append(page.box)
  page.server.refusePublish = { code: 'denied', message: 'no', retryable: false }
  await page.render(<Chat />)
  await page.frame()
  await page.frame(click('b'))
  expect(page.text).toBe('|mine failed!x')
  page.server.refusePublish = undefined
  await page.frame(click('i'))
  expect(page.text).toBe('mine|')
  const keys = page.server.sent.filter(({ type }) => type === 'publish').map(command => command.idempotency_key)
  expect(keys).toHaveLength(2)
  expect(keys[0]).toBe(keys[1])
  page.server.refusePublish = { code: 'denied', message: 'no', retryable: false }
  await page.frame(click('b'))
  await page.frame(click('u'))
  expect(page.text).toBe('mine|')
})

test('without a list, a publication is gone when it is stored', async () => {
  fresh()
  let pending: readonly unknown[] = []
  let publish: ReturnType<typeof usePublish<string>> | undefined
  function Component() {
    pending = usePending('chat:b')
    publish = usePublish('chat:b')
    return null
  }
  page.server.hold = []
  await page.render(<Component />)
  await page.frame(() => void publish?.(1))
  expect(pending).toMatchObject([{ data: 1, state: 'pending', event: 'message' }])
  await page.frame(() => page.server.hold?.shift()?.())
  expect(pending).toEqual([])
})

test('what the client has in its outbox is pending too, and a key that waits is refused without harm', async () => {
  fresh()
  let pending: readonly PendingMessage[] = []
  let publish: ReturnType<typeof usePublish<string>> | undefined
  function Component() {
    pending = usePending('chat:b')
    publish = usePublish('chat:b')
    return null
  }
  page.server.hold = []
  const sent = page.client.channel('chat:b').publish('by the client')
  void page.client.channel('chat:other').publish('elsewhere')
  await page.render(<Component />)
  await page.frame(() => void publish?.('by the hook', { key: 'k' }))
  const datas = () => pending.map(({ data, state }) => `${data} ${state}`)
  expect(datas()).toEqual(['by the client pending', 'by the hook pending'])
  await expect(publish?.('again', { key: 'k' })).rejects.toMatchObject({ code: 'bad_argument' })
  await page.frame()
  expect(datas()).toEqual(['by the client pending', 'by the hook pending'])
  await page.frame(() => page.server.hold?.splice(0).forEach(answer => answer()))
  await sent
  expect(datas()).toEqual(['by the hook pending'])
  await page.frame(() => page.server.hold?.splice(0).forEach(answer => answer()))
  expect(datas()).toEqual([])
})
