/**
 * `MessageBatcher` under a fake clock.
 */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { MessageBatcher, type MessageBatcherOptions } from '../src/batcher.js'

let sent: number[][]
let complaints: string[]

beforeEach(() => {
  vi.useFakeTimers()
  sent = []
  complaints = []
  vi.spyOn(console, 'error').mockImplementation((text: string) => void complaints.push(text))
})

afterEach(() => {
  vi.useRealTimers()
})

const send = (messages: number[]) => void sent.push(messages)
const addAll = (batcher: MessageBatcher<number>, ...messages: number[]) => messages.forEach(one => batcher.add(one))

/** A `send` that fails as long as `down` is true. */
function shaky(options: MessageBatcherOptions<number> = {}, kind: 'throws' | 'rejects' = 'throws') {
  const state = { down: true }
  const batcher = new MessageBatcher<number>(
    messages => {
      if (state.down && kind === 'throws') throw new Error('down')
      if (state.down) return Promise.reject(new Error('down'))
      return send(messages)
    },
    { env: { random: () => 0.5 }, ...options },
  )
  return { state, batcher }
}

describe('a batch', () => {
  test('goes when ten are there, or 100 ms after the first', () => {
    const batcher = new MessageBatcher(send)
    addAll(batcher, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    expect(sent).toEqual([])
    batcher.add(10)
    expect(sent).toEqual([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]])
    batcher.add(11)
    vi.advanceTimersByTime(60)
    batcher.add(12)
    vi.advanceTimersByTime(39)
    expect(sent).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(sent[1]).toEqual([11, 12])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('has the size and the delay that are asked for', () => {
    const batcher = new MessageBatcher(send, { batchSize: 2, batchDelay: 1_000 })
    addAll(batcher, 1, 2, 3)
    expect(sent).toEqual([[1, 2]])
    vi.advanceTimersByTime(999)
    expect(sent).toHaveLength(1)
    vi.advanceTimersByTime(1)
    expect(sent).toEqual([[1, 2], [3]])
  })

  test('goes by flush and by close, and after close each message at once', () => {
    const batcher = new MessageBatcher(send)
    addAll(batcher, 1, 2)
    batcher.flush()
    batcher.flush()
    batcher.add(3)
    batcher.close()
    batcher.close()
    expect(sent).toEqual([[1, 2], [3]])
    batcher.add(4)
    expect(sent[2]).toEqual([4])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('what `send` adds is no part of the batch, and no endless loop', () => {
    const batcher: MessageBatcher<number> = new MessageBatcher(
      messages => {
        send(messages)
        if (sent.length < 4) addAll(batcher, 10 * sent.length, 10 * sent.length + 1)
      },
      { batchSize: 2 },
    )
    addAll(batcher, 1, 2)
    expect(sent).toEqual([[1, 2]])
    vi.advanceTimersByTime(100)
    expect(sent).toEqual([
      [1, 2],
      [10, 11],
    ])
    vi.advanceTimersByTime(200)
    expect(sent).toEqual([
      [1, 2],
      [10, 11],
      [20, 21],
      [30, 31],
    ])
    expect(batcher.size).toBe(0)
  })

  test('waits for the promise of the one before', async () => {
    const done: (() => void)[] = []
    const batcher = new MessageBatcher<number>(
      messages => {
        send(messages)
        return new Promise<void>(resolve => done.push(resolve))
      },
      { batchSize: 2 },
    )
    addAll(batcher, 1, 2, 3, 4, 5)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(sent).toEqual([[1, 2]])
    done[0]?.()
    await vi.advanceTimersByTimeAsync(0)
    expect(sent).toEqual([
      [1, 2],
      [3, 4],
    ])
    batcher.close() // nothing waits any more
    expect(sent).toEqual([[1, 2], [3, 4], [5]])
  })
})

describe('a send that fails', () => {
  test.each(['throws', 'rejects'] as const)('and %s keeps its messages, in order, and is tried again', async kind => {
    const { state, batcher } = shaky({ batchSize: 2 }, kind)
    addAll(batcher, 1, 2, 3)
    await vi.advanceTimersByTimeAsync(500)
    batcher.add(4)
    expect(sent).toEqual([])
    state.down = false
    await vi.advanceTimersByTimeAsync(20_000)
    expect(sent).toEqual([
      [1, 2],
      [3, 4],
    ])
    expect(complaints[0]).toContain('send failed, 2 messages wait')
    addAll(batcher, 5)
    await vi.advanceTimersByTimeAsync(100)
    expect(sent[2]).toEqual([5])
  })

  test('is tried less and less often', async () => {
    const { batcher } = shaky()
    batcher.add(1)
    await vi.advanceTimersByTimeAsync(300_000)
    // 0.1, 1.2, 3.3, 7.4, 15.5, then each 15 s.
    expect(complaints.length).toBeGreaterThan(15)
    expect(complaints.length).toBeLessThan(30)
    expect(batcher.size).toBe(1)
  })

  test.each(['throws', 'rejects'] as const)('and %s hands its messages to onError, if there is one', async kind => {
    const lost: [string, number[]][] = []
    const { state, batcher } = shaky(
      { batchSize: 2, onError: (error, messages) => lost.push([(error as Error).message, messages]) },
      kind,
    )
    addAll(batcher, 1, 2, 3)
    await vi.advanceTimersByTimeAsync(100)
    expect(lost).toEqual([
      ['down', [1, 2]],
      ['down', [3]],
    ])
    state.down = false
    addAll(batcher, 4)
    await vi.advanceTimersByTimeAsync(100)
    expect(sent).toEqual([[4]])
    expect(complaints).toEqual([])
  })

  test('has a bound: the oldest are given up, and that is told', () => {
    const { state, batcher } = shaky({ batchSize: 2, queueMax: 3 })
    addAll(batcher, 1, 2, 3, 4, 5)
    expect(batcher.size).toBe(3)
    expect(complaints.filter(text => text.includes('lost'))).toHaveLength(2)
    state.down = false
    batcher.flush()
    expect(sent).toEqual([[3, 4], [5]])
  })

  test('by close is told: nothing is left that could try again', async () => {
    for (const kind of ['throws', 'rejects'] as const) {
      complaints = []
      const { batcher } = shaky({ batchSize: 2 }, kind)
      batcher.add(1)
      batcher.close()
      await vi.advanceTimersByTimeAsync(0)
      expect(complaints, kind).toEqual(['fanfare: MessageBatcher: 1 messages are lost'])
      expect(vi.getTimerCount(), kind).toBe(0)
    }
  })

  test('an onError that throws is told, and harms nobody', () => {
    const { batcher } = shaky({
      onError: () => {
        throw new Error('again')
      },
    })
    batcher.add(1)
    batcher.flush()
    expect(complaints).toEqual(['fanfare: MessageBatcher: onError threw'])
  })
})

describe('a page that goes away', () => {
  test('sends what waits, also where a promise is pending; nothing is left on the page', async () => {
    const page = new EventTarget()
    let listeners = 0
    const window = {
      addEventListener: (...args: Parameters<EventTarget['addEventListener']>) => (
        listeners++,
        page.addEventListener(...args)
      ),
      removeEventListener: (...args: Parameters<EventTarget['addEventListener']>) => (
        listeners--,
        page.removeEventListener(...args)
      ),
    }
    vi.stubGlobal('addEventListener', window.addEventListener)
    vi.stubGlobal('removeEventListener', window.removeEventListener)
    const batcher = new MessageBatcher<number>(messages => (send(messages), new Promise<void>(() => {})), {
      batchSize: 2,
    })
    expect(listeners).toBe(0)
    batcher.add(1)
    expect(listeners).toBeGreaterThan(0)
    addAll(batcher, 2, 3, 4, 5)
    page.dispatchEvent(new Event('pagehide'))
    expect(sent).toEqual([[1, 2], [3, 4], [5]])
    batcher.close()
    expect(listeners).toBe(0)
  })

  test('is asked of nobody while nothing waits', async () => {
    const leaves = new Set<() => void>()
    const watch = (_: () => void, leave: () => void) => {
      leaves.add(leave)
      return () => leaves.delete(leave)
    }
    const batcher = new MessageBatcher(send, { env: { watch } })
    batcher.add(1)
    batcher.add(2)
    expect(leaves.size).toBe(1)
    vi.advanceTimersByTime(100)
    expect(leaves.size).toBe(0)
  })
})
