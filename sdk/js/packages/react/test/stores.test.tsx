// @vitest-environment jsdom
// The other hooks: newest message, reduced state, presence and entering, signals, connection.

import type { Message, Presence, Signal } from '@fanfare/client'
import { Activity, version } from 'react'
import { afterEach, describe, expect, test } from 'vitest'
import {
  type Connection,
  type EnterState,
  FanfareProvider,
  type ReducedOptions,
  shallowEqual,
  useConnection,
  useEnter,
  useFanfare,
  useLatest,
  usePresence,
  usePublish,
  useReduced,
  useSignal,
} from '../src/index.js'
import { Page } from './support/page.js'

let page: Page
afterEach(() => page.close())
const both = [{ strict: false }, { strict: true }]

describe('useLatest', () => {
  function Price({ name, event }: { name: string | null; event?: string }) {
    const price = useLatest(name, { event })
    return <p>{String(price?.data)}</p>
  }

  test.each(both)('is the newest at first, and after each frame ($strict)', async options => {
    page = new Page(options)
    page.server.publish('price:a', 1)
    page.server.publish('price:a', 2)
    await page.render(<Price name="price:a" />)
    await page.frame()
    expect(page.text).toBe('2')
    await page.frame(() => [3, 4, 5].forEach(n => page.server.publish('price:a', n)))
    expect(page.text).toBe('5')
    await page.render(<Price name="price:b" />)
    expect(page.text).toBe('undefined')
  })

  test('of one event', async () => {
    page = new Page()
    await page.render(<Price name="price:a" event="bid" />)
    await page.frame(() => {
      page.server.publish('price:a', 1, 'bid')
      page.server.publish('price:a', 2, 'ask')
    })
    expect(page.text).toBe('1')
  })
})

describe('useReduced', () => {
  let renders = 0
  function Sum({ name = 'n:a', ...options }: { name?: string } & ReducedOptions<number, string>) {
    renders++
    const sum = useReduced(name, (sum: number, { data }: Message) => sum + (data as number), 0, options)
    return <p>{sum} </p>
  }

  test.each(both)('counts each message once, and renders once a frame ($strict)', async options => {
    page = new Page(options)
    await page.render(<Sum />)
    await page.frame()
    renders = 0
    await page.frame(() => {
      for (let i = 0; i < 1_000; i++) page.server.publish('n:a', 1)
    })
    expect(page.text).toBe('1000 ')
    expect(renders).toBe(options.strict ? 2 : 1) // StrictMode renders everything twice
    await page.render(null)
    await page.render(<Sum />)
    await page.frame()
    expect(page.server.asked).toEqual([])
  })

  test('an inline reducer is that of the last render', async () => {
    page = new Page()
    function Scaled({ by }: { by: number }) {
      return <p>{useReduced('n:a', (sum: number, { data }) => sum + (data as number) * by, 0)}</p>
    }
    for (const by of [1, 10, 100]) {
      await page.render(<Scaled by={by} />)
      await page.frame(() => page.server.publish('n:a', 1))
    }
    expect(page.text).toBe('111')
    expect(page.server.asked).toEqual([])
  })

  test('each component has its own state, unless they share it', async () => {
    page = new Page()
    await page.render([<Sum key="1" />, <Sum key="2" share="s" />])
    await page.frame(() => page.server.publish('n:a', 1))
    await page.render([<Sum key="1" />, <Sum key="2" share="s" />, <Sum key="3" share="s" />, <Sum key="4" />])
    await page.frame(() => page.server.publish('n:a', 1))
    expect(page.text).toBe('2 2 2 1 ')
  })

  test('`load` brings the state, then messages change it; after a loss it loads again', async () => {
    page = new Page()
    page.server.publish('n:a', 5)
    const loads: string[] = []
    const load = async ({ reason }: { reason: string }) => {
      loads.push(reason)
      return { state: 100 * loads.length, position: page.server.position('n:a') }
    }
    await page.render(<Sum load={load} />)
    await page.frame()
    expect(page.text).toBe('100 ')
    await page.frame(() => page.server.publish('n:a', 1))
    expect(page.text).toBe('101 ')
    await page.frame(() => page.server.lose('n:a', 7, 7))
    expect(page.text).toBe('200 ')
    expect(loads).toEqual(['first', 'gap'])
  })

  test('without `load`, a loss begins the state anew, with the newest messages', async () => {
    page = new Page()
    await page.render(<Sum recent={2} />)
    await page.frame(() => page.server.publish('n:a', 50))
    await page.frame(() => page.server.lose('n:a', 1, 2, 3))
    expect(page.text).toBe('5 ')
  })

  test('a reducer that throws costs its own message alone', async () => {
    page = new Page()
    function Picky() {
      return (
        <p>
          {useReduced(
            'n:a',
            (all: string, { data }) => {
              if (data === 'b') throw new Error('not b')
              return all + data
            },
            '',
          )}
        </p>
      )
    }
    await page.render(<Picky />)
    await page.frame(() => ['a', 'b', 'c'].forEach(data => page.server.publish('n:a', data)))
    expect(page.text).toBe('ac')
    expect(page.errors).toEqual([expect.stringContaining('not b')])
  })

  test('a hidden part begins anew when it is shown again', async () => {
    if (version.startsWith('18')) return void (page = new Page())
    page = new Page()
    const show = (mode: 'visible' | 'hidden') =>
      page.render(
        <Activity mode={mode}>
          <Sum recent={9} />
        </Activity>,
      )
    await show('visible')
    await page.frame(() => page.server.publish('n:a', 1))
    await show('hidden')
    await page.wait(3_000)
    expect(page.server.asked).toEqual(['unsubscribe'])
    page.server.publish('n:a', 2)
    await show('visible')
    await page.frame()
    expect(page.text).toBe('3 ')
  })
})

describe('usePresence and useEnter', () => {
  let state: EnterState | undefined
  const Names = ({ name = 'chat:a' }: { name?: string | null }) => (
    <p>{usePresence(name).members?.map(({ data }) => (data as { name: string }).name).join(',')}</p>
  )
  const Me = ({ name = 'chat:a', me }: { name?: string | null; me: string }) => {
    state = useEnter(name, { name: me })
    return null
  }

  test.each(both)('reading does not enter, entering does not read ($strict)', async options => {
    page = new Page(options)
    page.server.join('chat:a', 'x', { name: 'Ada' })
    await page.render(<Names />)
    await page.frame()
    expect(page.text).toBe('Ada')
    expect(page.server.asked).toEqual(['presence'])
    await page.frame(() => page.server.join('chat:a', 'y', { name: 'Bo' }))
    await page.frame(() => page.server.leave('chat:a', 'x'))
    expect(page.text).toBe('Bo')
    await page.close()

    page = new Page(options)
    await page.render(<Me me="Cy" />)
    expect(state).toEqual({ name: 'entering' })
    await page.frame()
    expect(state).toEqual({ name: 'entered' })
    expect(page.server.asked).toEqual(['presence_set'])
  })

  test('data may be inline, and is sent when it changes', async () => {
    page = new Page()
    for (const me of ['A', 'A', 'B', 'B']) await page.render([<Me key="m" me={me} />, <Names key="n" />])
    await page.frame()
    expect(page.text).toBe('B')
    expect(page.server.sent.filter(({ type }) => type === 'presence_set').map(({ data }) => data)).toEqual([
      { name: 'A' },
      { name: 'B' },
    ])
  })

  test('mounting anew sends nothing; others see one leave, a moment after the last component went', async () => {
    page = new Page()
    await page.render(<Me me="A" />)
    await page.render(null)
    await page.wait(900)
    await page.render(<Me me="A" />)
    await page.wait(5_000)
    expect(page.server.asked).toEqual(['presence_set'])
    await page.render(null)
    await page.wait(999)
    expect(page.server.asked).toEqual(['presence_set'])
    await page.wait(2_000)
    expect(page.server.asked).toEqual(['presence_set', 'presence_clear', 'unsubscribe'])
  })

  test('another name leaves the one and enters the other', async () => {
    page = new Page()
    await page.render(<Me me="A" />)
    await page.render(<Me name="chat:b" me="A" />)
    await page.wait(1_000)
    expect(page.server.present('chat:a')).toEqual([])
    expect(page.server.present('chat:b')).toEqual([['c1', { name: 'A' }]])
    await page.render(<Me name={null} me="A" />)
    expect(state).toEqual({ name: 'off' })
    await page.wait(1_000)
    expect(page.server.present('chat:b')).toEqual([])
  })

  test('the newest component counts, and the former stands again after it', async () => {
    page = new Page()
    await page.render([<Me key="1" me="A" />])
    await page.render([<Me key="1" me="A" />, <Me key="2" me="B" />])
    expect(page.server.present('chat:a')).toEqual([['c1', { name: 'B' }]])
    await page.render([<Me key="1" me="A" />])
    expect(page.server.present('chat:a')).toEqual([['c1', { name: 'A' }]])
  })

  test('a refusal is told, and can be tried again', async () => {
    page = new Page()
    page.server.denied.add('chat:a')
    await page.render(<Me me="A" />)
    await page.frame()
    expect(state).toMatchObject({ name: 'refused', error: { code: 'denied' } })
    page.server.denied.clear()
    await page.settle(() => state?.name === 'refused' && state.retry())
    await page.frame()
    expect(state).toEqual({ name: 'entered' })
    expect(page.server.present('chat:a')).toEqual([['c1', { name: 'A' }]])
    await page.frame(() => page.server.end('chat:a', 'expired'))
    expect(state).toMatchObject({ name: 'refused', error: { code: 'expired' } })
  })

  test('a selector keeps a counter from rendering for what does not change the count', async () => {
    page = new Page()
    let renders = 0
    function Count() {
      renders++
      return <p>{usePresence('chat:a', { select: ({ count }: Presence) => ({ count }), equal: shallowEqual }).count}</p>
    }
    await page.render(<Count />)
    await page.frame(() => page.server.join('chat:a', 'x', 1))
    expect(page.text).toBe('1')
    renders = 0
    await page.frame(() => page.server.join('chat:a', 'x', 2))
    expect(renders).toBe(0)
  })
})

describe('useSignal', () => {
  let send: ((...all: never[]) => Promise<void>) | undefined
  let renders = 0
  function Typing({ keep }: { keep?: number }) {
    renders++
    const typing = useSignal('chat:a', 'typing', { keep })
    send = typing.send as typeof send
    return <p>{typing.received.map(({ from }) => from?.client).join(',')}</p>
  }

  test('the newest of each sender is shown for a while', async () => {
    page = new Page()
    await page.render(<Typing keep={1_000} />)
    await page.frame()
    await page.frame(() => {
      for (const client of ['x', 'y', 'x']) page.server.signal('chat:a', 'typing', null, client)
      page.server.signal('chat:a', 'mouse', null, 'z')
    })
    expect(page.text).toBe('y,x')
    await page.wait(500)
    await page.frame(() => page.server.signal('chat:a', 'typing', null, 'y'))
    await page.wait(500)
    await page.frame()
    expect(page.text).toBe('y')
    await page.wait(499)
    await page.frame()
    expect(page.text).toBe('y')
    await page.wait(1)
    await page.frame()
    expect(page.text).toBe('')
  })

  test('with a handler nothing renders', async () => {
    page = new Page()
    const got: Signal[] = []
    function Cursor() {
      renders++
      useSignal('chat:a', 'mouse', signal => void got.push(signal))
      return null
    }
    await page.render(<Cursor />)
    renders = 0
    await page.frame(() => [1, 2].forEach(n => page.server.signal('chat:a', 'mouse', n)))
    expect(got.map(({ data }) => data)).toEqual([1, 2])
    expect(renders).toBe(0)
  })

  test('sends, by one function that stays the same', async () => {
    page = new Page()
    await page.render(<Typing />)
    const before = send
    await page.render(<Typing />)
    expect(send).toBe(before)
    await page.settle(() => send?.(...([{ on: true }] as never[])))
    expect(page.server.sent.at(-1)).toMatchObject({ type: 'signal', event: 'typing', data: { on: true } })
  })

  test('without a channel it sends nothing, and says so', async () => {
    page = new Page()
    let sent: Promise<void> | undefined
    function Nowhere() {
      const { send } = useSignal(null)
      const publish = usePublish(null)
      sent = send('x', 1)
      void publish(1)
      return null
    }
    await page.render(<Nowhere />)
    await expect(sent).rejects.toThrow('no channel')
    expect(page.server.sent).toEqual([])
  })
})

describe('useConnection', () => {
  let connection: Connection | undefined
  const Shown = () => {
    connection = useConnection()
    return null
  }

  test('rendering starts nothing', async () => {
    page = new Page({ strict: true })
    await page.render(<Shown />)
    await page.wait(60_000)
    expect(page.server.sent).toEqual([])
    expect(connection).toMatchObject({ state: { name: 'disconnected', reason: { code: 'idle' } } })
  })

  test('tells the state, and what a banner says, also to who comes later', async () => {
    page = new Page()
    const User = () => (useLatest('a'), null)
    await page.render([<User key="u" />, <Shown key="s" />])
    await page.frame()
    expect(connection).toMatchObject({ state: { name: 'connected', client: 'c1' }, connectivity: undefined })
    const online = page.server.offline()
    await page.frame()
    expect(connection?.state.name).toMatch(/disconnected|connecting/)
    await page.render([<User key="u" />])
    await page.wait(6_000)
    await page.render([<User key="u" />, <Shown key="s" />])
    await page.frame()
    expect(connection?.connectivity?.name).toBe('lost')
    online()
    await page.wait(30_000)
    await page.frame()
    expect(connection).toMatchObject({ state: { name: 'connected' }, connectivity: undefined })
  })

  test('a selector', async () => {
    page = new Page()
    let renders = 0
    const Dot = () => {
      renders++
      const isUp = useConnection({ select: ({ state }) => state.name === 'connected' })
      useLatest('a')
      return <p>{String(isUp)}</p>
    }
    await page.render(<Dot />)
    await page.frame()
    expect(page.text).toBe('true')
    expect(renders).toBeLessThanOrEqual(3)
  })
})

describe('FanfareProvider', () => {
  test('its absence is said plainly', async () => {
    page = new Page()
    const { renderToString } = await import('react-dom/server')
    const Lost = () => (useFanfare(), null)
    expect(() => renderToString(<Lost />)).toThrow(/no <FanfareProvider client/)
  })

  test('another client is another world', async () => {
    page = new Page()
    const other = new Page()
    page.server.publish('a', 'one')
    other.server.publish('a', 'two')
    const Shown = () => <p>{String(useLatest('a')?.data)}</p>
    const show = (client = page.client) =>
      page.render(
        <FanfareProvider client={client} schedule={run => void setTimeout(run, 1)}>
          <Shown />
        </FanfareProvider>,
      )
    await show()
    await page.wait(10)
    expect(page.text).toBe('one')
    await show(other.client)
    await page.wait(10)
    expect(page.text).toBe('two')
    await other.close()
    page.client.close()
  })
})

