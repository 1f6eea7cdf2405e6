// @vitest-environment jsdom
/**
 * `useWebSocket` with a fake WebSocket and a fake clock, in React 18 and 19.
 */

import { act, StrictMode, useEffect } from 'react'
import { createRoot, hydrateRoot, type Root } from 'react-dom/client'
import { renderToString } from 'react-dom/server'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { useWebSocket, type UseWebSocketOptions, type UseWebSocketResult } from '../src/index.js'
import { FakeSocket } from './support/fake-socket.js'

const URL = 'ws://host/'

let root: Root
let container: HTMLElement
let told: string[]
let warned: string[]
let complained: string[]
let hook: UseWebSocketResult
let renders: number

beforeEach(() => {
  vi.useFakeTimers()
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true)
  vi.stubGlobal('WebSocket', FakeSocket)
  vi.spyOn(Math, 'random').mockReturnValue(0)
  warned = []
  complained = []
  vi.spyOn(console, 'warn').mockImplementation((...words: unknown[]) => void warned.push(words.join(' ')))
  vi.spyOn(console, 'error').mockImplementation((...words: unknown[]) => void complained.push(words.join(' ')))
  FakeSocket.all = []
  told = []
  renders = 0
  container = document.createElement('div')
  root = createRoot(container)
})

afterEach(async () => {
  await act(async () => root.unmount())
  await pass(100)
  expect(vi.getTimerCount()).toBe(0)
  vi.useRealTimers()
})

const pass = (ms = 0) => act(async () => void (await vi.advanceTimersByTimeAsync(ms)))
/** Does something to a socket, as an event does. */
const does = (what: () => void) => act(async () => what())
const words = () => container.textContent

/** Its callbacks are new ones at each render. */
function Page(options: Partial<UseWebSocketOptions>) {
  renders++
  hook = useWebSocket({
    url: URL,
    onOpen: () => told.push('open'),
    onClose: () => told.push('close'),
    onError: () => told.push('error'),
    onMessage: data => told.push(JSON.stringify(data)),
    ...options,
  })
  return (
    <>
      {hook.connectionStatus} {String(hook.isConnected)}
    </>
  )
}

const show = (options: Partial<UseWebSocketOptions> = {}) => act(async () => root.render(<Page {...options} />))

describe('a connection', () => {
  test('opens, brings messages, and is one over all renders', async () => {
    await show()
    expect(words()).toBe('connecting false')
    expect(FakeSocket.last.url).toBe(URL)
    await does(() => FakeSocket.last.open())
    expect(words()).toBe('connected true')
    for (let i = 0; i < 5; i++) await show()
    await does(() => FakeSocket.last.message({ n: 1 }))
    await does(() => FakeSocket.last.message('two'))
    expect(told).toEqual(['open', '{"n":1}', '"two"'])
    expect(FakeSocket.all).toHaveLength(1)
    expect(renders).toBe(7)
  })

  test('calls the newest callbacks', async () => {
    await show({ onMessage: () => told.push('old') })
    await does(() => FakeSocket.last.open())
    await show({ onMessage: () => told.push('new') })
    await does(() => FakeSocket.last.message(1))
    expect(told).toEqual(['open', 'new'])
  })

  test('is one in StrictMode, and nothing is said of it', async () => {
    await act(async () =>
      root.render(
        <StrictMode>
          <Page />
        </StrictMode>,
      ),
    )
    expect(FakeSocket.all).toHaveLength(1)
    await does(() => FakeSocket.last.open())
    await pass(10_000)
    expect(words()).toBe('connected true')
    expect(FakeSocket.all).toHaveLength(1)
    expect([told, warned, complained]).toEqual([['open'], [], []])
  })

  test('sends as JSON, in the order of the calls', async () => {
    await show()
    await does(() => FakeSocket.last.open())
    expect(hook.send({ a: 1 })).toBe(true)
    hook.send('b')
    hook.send(null)
    expect(FakeSocket.last.sent).toEqual([{ a: 1 }, 'b', null])
    expect(() => hook.send(undefined)).toThrow(TypeError)
    expect(() => hook.send(() => {})).toThrow(TypeError)
  })

  test('functions are the same at each render', async () => {
    await show()
    const { send, disconnect, reconnect } = hook
    await does(() => FakeSocket.last.open())
    expect(hook).toMatchObject({ send, disconnect, reconnect, isConnected: true })
  })

  test('a message that is no JSON, and a callback that throws, cost nothing else', async () => {
    const onMessage = (data: unknown) => {
      if (data === 1) throw new Error('one')
      if (data === 2) return Promise.reject(new Error('two'))
      return told.push(String(data))
    }
    await show({ onMessage })
    await does(() => FakeSocket.last.open())
    for (const text of ['{half', '1', '2', '3']) await does(() => FakeSocket.last.text(text))
    expect(told).toEqual(['open', '3'])
    expect(complained).toHaveLength(3)
    expect(words()).toBe('connected true')
  })
})

describe('what is sent early', () => {
  test('waits, and comes after what onOpen sends', async () => {
    await show({ onOpen: () => hook.send('join') })
    hook.send(1)
    hook.send(2)
    await does(() => FakeSocket.last.open())
    expect(FakeSocket.last.sent).toEqual(['join', 1, 2])
    expect(warned).toEqual([])
  })

  test('in an effect of the component or of a child waits too, also in StrictMode', async () => {
    function Child({ send }: { send: UseWebSocketResult['send'] }) {
      useEffect(() => void send('child'), [send])
      return null
    }
    function Parent() {
      const { send } = useWebSocket({ url: URL })
      useEffect(() => void send('parent'), [send])
      return <Child send={send} />
    }
    await act(async () => root.render(<Parent />))
    await does(() => FakeSocket.last.open())
    expect(FakeSocket.last.sent).toEqual(['child', 'parent'])
    await act(async () =>
      root.render(
        <StrictMode>
          <Parent />
        </StrictMode>,
      ),
    )
    await does(() => FakeSocket.last.open())
    // StrictMode runs each effect twice.
    expect(FakeSocket.last.sent).toEqual(['child', 'parent', 'child', 'parent'])
    expect(warned).toEqual([])
  })

  test('has a bound, and what is beyond it is refused and told', async () => {
    await show()
    const results = Array.from({ length: 102 }, (_, i) => hook.send(i))
    expect(results.filter(Boolean)).toHaveLength(100)
    expect(warned).toHaveLength(2)
    await does(() => FakeSocket.last.open())
    expect(FakeSocket.last.sent).toEqual(results.slice(0, 100).map((_, i) => i))
  })

  test('while the connection is lost waits for the next one', async () => {
    await show()
    await does(() => FakeSocket.last.open())
    await does(() => FakeSocket.last.drop())
    expect(hook.send('meanwhile')).toBe(true)
    await pass(3_000)
    await does(() => FakeSocket.last.open())
    expect(FakeSocket.last.sent).toEqual(['meanwhile'])
  })

  test('is refused where no connection comes', async () => {
    await show({ reconnectAttempts: 0 })
    hook.send('lost')
    await does(() => FakeSocket.last.fail())
    expect(hook.send('refused')).toBe(false)
    await act(async () => hook.reconnect())
    expect(hook.send('waits')).toBe(true)
    await act(async () => hook.disconnect())
    expect(hook.send('refused')).toBe(false)
    expect(warned).toHaveLength(4) // lost, refused, discarded, refused
    await show({ url: null })
    expect(hook.send('refused')).toBe(false)
  })
})

describe('a connection that is lost', () => {
  test('comes back, each time later, and then it is given up', async () => {
    await show()
    for (const wait of [3_000, 6_000, 12_000, 24_000, 30_000]) {
      await does(() => FakeSocket.last.fail())
      expect(words()).toBe('disconnected false')
      const before = FakeSocket.all.length
      await pass(wait - 1)
      expect(FakeSocket.all).toHaveLength(before)
      await pass(1)
      expect(FakeSocket.all).toHaveLength(before + 1)
      expect(words()).toBe('connecting false')
    }
    await does(() => FakeSocket.last.fail())
    expect(words()).toBe('error false')
    await pass(3600_000)
    expect(FakeSocket.all).toHaveLength(6)
    expect(told.join()).toBe(Array.from({ length: 6 }, () => 'error,close').join())
    await act(async () => hook.reconnect())
    await does(() => FakeSocket.last.open())
    expect(words()).toBe('connected true')
  })

  test('waits a random part less, so that not all clients come at once', async () => {
    vi.mocked(Math.random).mockReturnValue(0.999)
    await show()
    await does(() => FakeSocket.last.fail())
    await pass(1_600)
    expect(FakeSocket.all).toHaveLength(2)
  })

  test('takes the options as they are then', async () => {
    await show({ reconnectAttempts: 1, reconnectInterval: 100 })
    await does(() => FakeSocket.last.fail())
    await pass(100)
    await show({ reconnectAttempts: 2, reconnectInterval: 60_000 })
    await does(() => FakeSocket.last.fail())
    await pass(59_999)
    expect(FakeSocket.all).toHaveLength(2)
    await pass(1)
    expect(FakeSocket.all).toHaveLength(3)
  })

  test('counts failures anew after a connection that was stable, and not after a short one', async () => {
    await show({ reconnectAttempts: 1 })
    await does(() => FakeSocket.last.open())
    await pass(5_000)
    for (let i = 0; i < 2; i++) {
      await does(() => FakeSocket.last.drop())
      expect(words()).toBe('disconnected false')
      await pass(3_000)
      await does(() => FakeSocket.last.open())
      await pass(5_000)
    }
    await does(() => FakeSocket.last.drop())
    await pass(3_000)
    await does(() => FakeSocket.last.open())
    await does(() => FakeSocket.last.drop())
    expect(words()).toBe('error false')
  })

  test('an attempt that nobody answers is a failure', async () => {
    await show()
    await pass(15_000)
    expect(words()).toBe('disconnected false')
    await pass(3_000)
    expect(FakeSocket.all).toHaveLength(2)
  })

  test('comes back with the network', async () => {
    await show({ reconnectAttempts: 0 })
    await does(() => FakeSocket.last.fail())
    expect(words()).toBe('error false')
    await does(() => window.dispatchEvent(new Event('online')))
    expect(words()).toBe('connecting false')
    await does(() => FakeSocket.last.open())
    await does(() => window.dispatchEvent(new Event('online')))
    expect(FakeSocket.all).toHaveLength(2)
    await act(async () => hook.disconnect())
    await does(() => window.dispatchEvent(new Event('online')))
    expect(FakeSocket.all).toHaveLength(2)
  })

  test('an address that is none is an error, without more attempts', async () => {
    await show({ url: 'nonsense' })
    expect(words()).toBe('error false')
    expect(told).toEqual(['error'])
    await show({ url: URL })
    await does(() => FakeSocket.last.open())
    expect(words()).toBe('connected true')
    vi.stubGlobal('WebSocket', undefined)
    await show({ url: URL + 'other' })
    expect(words()).toBe('error false')
  })
})

describe('disconnect and reconnect', () => {
  test('disconnect closes for good, whatever the next render brings', async () => {
    await show()
    await does(() => FakeSocket.last.open())
    await act(async () => hook.disconnect())
    expect(FakeSocket.last.readyState).toBe(2)
    await show()
    await pass(3600_000)
    expect(words()).toBe('disconnected false')
    expect(told).toEqual(['open', 'close'])
    expect(FakeSocket.all).toHaveLength(1)
    await act(async () => hook.reconnect())
    await does(() => FakeSocket.last.open())
    expect(words()).toBe('connected true')
  })

  test.each(['connecting', 'waiting'])('disconnect while it is %s', async state => {
    await show()
    if (state === 'waiting') await does(() => FakeSocket.last.fail())
    await act(async () => hook.disconnect())
    told = []
    await pass(3600_000)
    expect(FakeSocket.all).toHaveLength(1)
    expect(words()).toBe('disconnected false')
    expect(told).toEqual([])
  })

  test('disconnect in an effect at the beginning: nothing is opened', async () => {
    function Closed() {
      const { disconnect, connectionStatus } = useWebSocket({ url: URL })
      useEffect(() => disconnect(), [disconnect])
      return <>{connectionStatus}</>
    }
    await act(async () =>
      root.render(
        <StrictMode>
          <Closed />
        </StrictMode>,
      ),
    )
    await pass(60_000)
    expect(words()).toBe('disconnected')
    expect(FakeSocket.all).toHaveLength(0)
  })

  test('reconnect while one is open: one is left', async () => {
    await show()
    await does(() => FakeSocket.last.open())
    const [first] = FakeSocket.all
    await act(async () => hook.reconnect())
    await does(() => FakeSocket.last.open())
    await does(() => first?.message('late'))
    await pass(60_000)
    expect(FakeSocket.all.map(socket => socket.readyState)).toEqual([3, 1])
    expect(told).toEqual(['open', 'close', 'open'])
  })

  test('reconnect within onClose is one attempt for each', async () => {
    await show({ onClose: () => hook.reconnect() })
    await does(() => FakeSocket.last.open())
    await act(async () => hook.reconnect())
    expect(FakeSocket.all.filter(socket => socket.readyState < 2)).toHaveLength(1)
    await pass(1_000)
    const before = FakeSocket.all.length
    await does(() => FakeSocket.last.fail())
    await pass(1_000)
    expect(FakeSocket.all).toHaveLength(before + 1)
    expect(FakeSocket.all.filter(socket => socket.readyState < 2)).toHaveLength(1)
  })
})

describe('another address, and the end', () => {
  test('another address closes the one, and opens the other', async () => {
    await show()
    await does(() => FakeSocket.last.open())
    await show({ url: 'ws://other/' })
    expect(words()).toBe('connecting false')
    expect(FakeSocket.all.map(socket => [socket.url, socket.readyState])).toEqual([
      [URL, 2],
      ['ws://other/', 0],
    ])
    await does(() => FakeSocket.last.open())
    expect(told).toEqual(['open', 'close', 'open'])
    await show({ url: null })
    expect(words()).toBe('disconnected false')
    await pass(60_000)
    expect(FakeSocket.all.map(socket => socket.readyState)).toEqual([3, 3])
  })

  test('what waits for the one address does not go to the other, and that is told', async () => {
    await show()
    hook.send('secret')
    await show({ url: 'ws://other/' })
    await does(() => FakeSocket.last.open())
    expect(FakeSocket.last.sent).toEqual([])
    expect(warned).toEqual(['useWebSocket: 1 messages are lost: not connected'])
  })

  test('another address after disconnect opens', async () => {
    await show()
    await act(async () => hook.disconnect())
    await show({ url: 'ws://other/' })
    expect(FakeSocket.last.url).toBe('ws://other/')
    await show()
    expect(FakeSocket.last.url).toBe(URL)
  })

  test('unmount closes, and nothing is called any more', async () => {
    await show()
    const socket = FakeSocket.last
    await does(() => socket.open())
    await act(async () => root.unmount())
    expect(socket.readyState).toBe(2)
    socket.message('late')
    await pass(3600_000)
    expect(told).toEqual(['open'])
    expect(complained).toEqual([])
    expect(hook.send('late')).toBe(false)
    hook.reconnect()
    await pass(3600_000)
    expect(FakeSocket.all).toHaveLength(1)
    root = createRoot(container)
  })

  test('a server renders, opens nothing, and the page goes on from there', async () => {
    const html = renderToString(<Page />)
    expect(html).toContain('connecting')
    await pass(60_000)
    expect(FakeSocket.all).toHaveLength(0)
    container = document.createElement('div')
    container.innerHTML = html
    await act(async () => {
      root = hydrateRoot(container, <Page />)
    })
    await does(() => FakeSocket.last.open())
    expect(words()).toBe('connected true')
    expect(complained).toEqual([])
  })
})
