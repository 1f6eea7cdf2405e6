/**
 * Signals: delivered now or never. Typing, cursors, "look here".
 *
 * With a handler each one is handed over, and nothing renders. Without one, the hook shows the newest of each sender
 * and name, for a short while.
 */

import type { Signal, SignalOptions, SubscribeOptions } from '@fanfare/client'
import { useCallback, useEffect } from 'react'
import { ChannelStore, channelOf, keyOf } from './channel-store.js'
import { useRegistry } from './context.js'
import { later } from './frame.js'
import { refused } from './pending.js'
import { useLatestRef, useStore } from './source.js'
import type { Registry } from './store.js'
import type { NameOrNull, SignalsOptions } from './types.js'

const NONE: readonly Signal[] = []

class SignalsStore extends ChannelStore<readonly Signal[]> {
  readonly #event: string | undefined
  readonly #keep: number
  readonly #max: number
  /** By sender and name, oldest first. */
  readonly #signals = new Map<string, { signal: Signal; until: number }>()
  #cancel: () => void = () => {}

  constructor(registry: Registry, name: string, event: string | undefined, options: SignalsOptions) {
    super(registry, name, NONE)
    this.#event = event
    this.#keep = options.keep ?? 3_000
    this.#max = options.max ?? 100
  }

  protected override options(): SubscribeOptions {
    return { signal: signal => this.#add(signal) }
  }

  protected override close(): void {
    this.#cancel()
    this.#signals.clear()
    super.close()
  }

  protected override build(): readonly Signal[] {
    return this.#signals.size ? [...this.#signals.values()].map(({ signal }) => signal) : NONE
  }

  #add(signal: Signal): void {
    if (this.#event !== undefined && signal.event !== this.#event) return
    const key = keyOf(signal.from?.client, signal.event)
    this.#signals.delete(key) // the newest is the last
    this.#signals.set(key, { signal, until: Date.now() + this.#keep })
    for (const oldest of this.#signals.keys()) {
      if (this.#signals.size <= this.#max) break
      this.#signals.delete(oldest)
    }
    if (this.#signals.size === 1) this.#expireLater()
    this.mark()
  }

  /** When the oldest is over. */
  #expireLater(): void {
    const [oldest] = this.#signals.values()
    this.#cancel()
    if (!oldest) return
    this.#cancel = later(Math.max(1, oldest.until - Date.now()), () => {
      const now = Date.now()
      for (const [key, { until }] of this.#signals) if (until <= now) this.#signals.delete(key)
      this.mark()
      this.#expireLater()
    })
  }
}

type Send = (...args: unknown[]) => Promise<void>

export function useSignal(
  name: NameOrNull<string>,
  event?: string,
  third?: ((signal: Signal) => void) | SignalsOptions | null,
): { send: Send; received: readonly Signal[] } {
  const registry = useRegistry()
  const channel = name ?? null
  const byHandler = typeof third === 'function'
  const { keep, max } = third && !byHandler ? third : {}
  const key = channel === null || byHandler || third === null ? null : keyOf('signals', channel, event, keep, max)
  const received = useStore<readonly Signal[]>(
    key,
    registry => new SignalsStore(registry, channel as string, event, { keep, max }),
    NONE,
  )
  const handler = useLatestRef(third)
  useEffect(() => {
    if (channel === null || !byHandler) return undefined
    const subscription = channelOf(registry.client, channel).subscribe({
      signal: signal => {
        const { current } = handler
        if (typeof current === 'function' && (event === undefined || signal.event === event)) current(signal)
      },
    })
    return () => subscription.unsubscribe()
  }, [registry, channel, event, byHandler, handler])
  const send = useCallback<Send>(
    (...args) => {
      if (channel === null) return refused('there is no channel to signal to yet')
      const [named, data, options] = event === undefined ? args : [event, ...args]
      return channelOf(registry.client, channel).signal(named as string, data, options as SignalOptions | undefined)
    },
    [registry, channel, event],
  )
  return { send, received }
}
