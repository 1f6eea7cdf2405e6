// @vitest-environment jsdom
// `useChannel`: each message once, by callback; nothing is sent that a change of handlers or a remount would cause.

import { useState } from 'react'
import { afterEach, describe, expect, test } from 'vitest'
import type { Message, SubscribeOptions } from '@fanfare/client'
import { useChannel } from '../src/index.js'
import { Page } from './support/page.js'

let page: Page
afterEach(() => page.close())

function Reader({ name, ...options }: { name: string | null } & SubscribeOptions) {
  const status = useChannel(name, options)
  return <p>{status.name}</p>
}

const datas = (messages: Message[]) => messages.map(message => message.data)

test.each([{ strict: false }, { strict: true }])('each message comes once ($strict)', async ({ strict }) => {
  page = new Page({ strict })
  page.server.publish('chat:a', 'old')
  const got: Message[] = []
  await page.render(<Reader name="chat:a" recent={5} message={message => void got.push(message)} />)
  expect(page.text).toBe('live')
  await page.settle(() => {
    for (let i = 0; i < 500; i++) page.server.publish('chat:a', i)
  })
  expect(datas(got)).toEqual(['old', ...Array(500).keys()])
  expect(page.server.sent.map(({ type }) => type)).toEqual(['connect'])
})

test('a function alone is the handler of messages', async () => {
  page = new Page()
  const got: unknown[] = []
  function Component() {
    useChannel('chat:a', ({ data }) => got.push(data))
    return null
  }
  await page.render(<Component />)
  await page.settle(() => page.server.publish('chat:a', 1))
  expect(got).toEqual([1])
})

test('the handlers are those of the last render, and a render sends nothing', async () => {
  page = new Page()
  const got: string[] = []
  const show = (n: number) =>
    page.render(
      <Reader
        name="chat:a"
        recent={n}
        message={({ data }) => void got.push(`${n}: ${data}`)}
        signal={({ event }) => void got.push(`${n}: ${event}`)}
      />,
    )
  for (const n of [1, 2, 3]) {
    await show(n)
    await page.settle(() => page.server.publish('chat:a', `m${n}`))
    await page.settle(() => page.server.signal('chat:a', `s${n}`, null))
  }
  expect(got).toEqual(['1: m1', '1: s1', '2: m2', '2: s2', '3: m3', '3: s3'])
  expect(page.server.asked).toEqual([])
})

test('null skips; another name is another channel, and nothing of the first comes after', async () => {
  page = new Page()
  const got: unknown[] = []
  const show = (name: string | null) =>
    page.render(<Reader name={name} message={({ channel, data }) => void got.push([channel, data])} />)
  await show(null)
  expect(page.text).toBe('off')
  expect(page.server.sent).toEqual([])
  await show('chat:a')
  await page.settle(() => page.server.publish('chat:a', 1))
  await show('chat:b')
  expect(page.text).toBe('live')
  await page.settle(() => {
    page.server.publish('chat:a', 2)
    page.server.publish('chat:b', 3)
  })
  expect(got).toEqual([
    ['chat:a', 1],
    ['chat:b', 3],
  ])
  await show(null)
  expect(page.text).toBe('off')
  await page.wait(2_000)
  expect(page.server.asked).toEqual(['subscribe', 'unsubscribe', 'unsubscribe'])
})

test('mounting, unmounting and mounting again sends nothing', async () => {
  page = new Page()
  await page.render(<Reader name="chat:a" />)
  for (let i = 0; i < 5; i++) {
    await page.render(null)
    await page.wait(500)
    await page.render(<Reader name="chat:a" />)
  }
  await page.wait(5_000)
  expect(page.server.sent.map(({ type }) => type)).toEqual(['connect'])
  await page.render(null)
  await page.wait(1_000)
  expect(page.server.asked).toEqual(['unsubscribe'])
})

test('a presence handler that comes later costs no message, and repeats none', async () => {
  page = new Page()
  const got: unknown[] = []
  const message = ({ data }: Message) => void got.push(data)
  page.server.publish('chat:a', 0)
  await page.render(<Reader name="chat:a" recent={10} message={message} />)
  await page.settle(() => page.server.publish('chat:a', 1))
  let members = -1
  await page.render(
    <Reader name="chat:a" recent={10} message={message} presence={({ count }) => void (members = count)} />,
  )
  await page.settle(() => page.server.publish('chat:a', 2))
  expect(got).toEqual([0, 1, 2])
  expect(members).toBe(0)
})

test('what is missed while the connection is away comes once, and a loss is told', async () => {
  page = new Page()
  const got: unknown[] = []
  await page.render(
    <Reader
      name="chat:a"
      message={({ data }) => void got.push(data)}
      gap={({ reason }) => void got.push(reason)}
      subscribed={({ recovered }) => void got.push(recovered)}
    />,
  )
  await page.settle(() => page.server.publish('chat:a', 1))
  await page.settle(() => page.server.cut())
  page.server.publish('chat:a', 2)
  await page.wait(1_000)
  await page.settle()
  await page.settle(() => page.server.restart())
  page.server.publish('chat:a', 3)
  await page.wait(2_000)
  await page.settle()
  expect(got).toEqual([undefined, 1, true, 2, false, 'unrecovered'])
})

test('a component that is unmounted by its own handler hears nothing more', async () => {
  page = new Page()
  const got: unknown[] = []
  let leave = () => {}
  function Parent() {
    const [here, set] = useState(true)
    leave = () => set(false)
    return here ? <Reader name="chat:a" message={({ data }) => (got.push(data), leave())} /> : <b>gone</b>
  }
  await page.render(<Parent />)
  await page.settle(() => page.server.publish('chat:a', 1))
  await page.settle(() => page.server.publish('chat:a', 2))
  expect(page.text).toBe('gone')
  expect(got).toEqual([1])
  expect(page.errors).toEqual([])
})

test('a handler that throws costs its own message alone, and is reported', async () => {
  page = new Page()
  const got: unknown[] = []
  const message = ({ data }: Message) => {
    if (data === 1) throw new Error('mine')
    got.push(data)
  }
  await page.render(<Reader name="chat:a" message={message} />)
  await page.settle(() => [1, 2].forEach(n => page.server.publish('chat:a', n)))
  expect(got).toEqual([2])
  expect(page.errors).toEqual([expect.stringContaining('mine')])
  expect(page.text).toBe('live')
})

describe('the end of a subscription', () => {
  test('has a reason, and a way back', async () => {
    page = new Page()
    page.server.denied.add('chat:a')
    let retry = () => {}
    function Component() {
      const status = useChannel('chat:a')
      if (status.name !== 'ended') return <p>{status.name}</p>
      retry = status.retry
      return <p>{status.error.code}</p>
    }
    await page.render(<Component />)
    expect(page.text).toBe('denied')
    page.server.denied.clear()
    await page.settle(retry)
    expect(page.text).toBe('live')
    await page.settle(() => page.server.end('chat:a', 'expired'))
    expect(page.text).toBe('expired')
  })
})

test('`resync` loads first, then messages follow from there', async () => {
  page = new Page()
  const got: unknown[] = []
  let loaded = () => {}
  const resync = ({ reason }: { reason: string }) => {
    got.push(reason)
    return new Promise<void>(resolve => (loaded = resolve))
  }
  await page.render(<Reader name="chat:a" resync={resync} message={({ data }) => void got.push(data)} />)
  await page.settle(() => page.server.publish('chat:a', 1))
  expect(got).toEqual(['first'])
  await page.settle(() => loaded())
  expect(got).toEqual(['first', 1])
})
