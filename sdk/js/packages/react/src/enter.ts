/**
 * To be present: a component enters a channel for as long as it is mounted.
 *
 * Components of one page share one entry, with the data of the newest. It is left a moment after the last of them
 * went, so others see no leave and join when a page mounts anew. Data is compared as JSON: it may be inline.
 */

import type { Entry, FanfareError, SubscribeOptions } from '@fanfare/client'
import { useEffect, useRef } from 'react'
import { ChannelStore, keyOf } from './channel-store.js'
import { useRegistry } from './context.js'
import { useLatestRef, useStore } from './source.js'
import type { Registry } from './store.js'
import type { EnterState, NameOrNull, Selecting } from './types.js'

const OFF: EnterState = { name: 'off' }
const ENTERING: EnterState = { name: 'entering' }
const ENTERED: EnterState = { name: 'entered' }

interface Part {
  data: unknown
}

class EnterStore extends ChannelStore<EnterState> {
  readonly #parts: Part[] = []
  #entry: Entry | undefined
  #sent: string | undefined
  #state: EnterState = ENTERING

  constructor(registry: Registry, name: string) {
    super(registry, name, ENTERING)
  }

  /** A component enters, with data that it may change, until it leaves. */
  join(data: unknown): { update(data: unknown): void; leave(): void } {
    const part = { data }
    this.#parts.push(part)
    this.#sync()
    return {
      update: data => {
        part.data = data
        this.#sync()
      },
      leave: () => {
        this.#parts.splice(this.#parts.indexOf(part), 1)
        this.#sync()
      },
    }
  }

  /** Tells of the end of the channel, and nothing else. */
  protected override options(): SubscribeOptions {
    return {}
  }

  protected override reset(): void {
    this.#set(ENTERING)
    this.#sync()
  }

  protected override close(): void {
    this.#entry?.leave()
    this.#entry = undefined
    super.close()
  }

  protected override ended(error: FanfareError): void {
    this.#refused(error)
  }

  protected override build(): EnterState {
    return this.#state
  }

  /** Brings the entry to what the newest component wants. Where none is left, `close` follows. */
  #sync(): void {
    const part = this.#parts[this.#parts.length - 1]
    if (!part || this.#state.name === 'refused') return
    const text = textOf(part.data)
    if (!this.#entry) {
      this.#sent = text
      const entry = this.channel.enter(part.data)
      this.#entry = entry
      const mine = () => this.#entry === entry
      entry.ready.then(
        () => mine() && this.#set(ENTERED),
        (error: FanfareError) => mine() && this.#refused(error),
      )
    } else if (text !== this.#sent) {
      this.#sent = text
      this.#entry.update(part.data)
    }
  }

  #refused(error: FanfareError): void {
    this.#entry = undefined
    const retry = () => {
      if (this.#state.name !== 'refused') return
      this.#set(ENTERING)
      if (this.status.name === 'ended') this.joined()
      else this.#sync()
    }
    this.#set({ name: 'refused', error, retry })
  }

  #set(state: EnterState): void {
    if (this.#state === state) return
    this.#state = state
    this.mark()
  }
}

export function useEnter<T = EnterState>(
  name: NameOrNull<string>,
  data?: unknown,
  selecting?: Selecting<EnterState, T>,
): T {
  const registry = useRegistry()
  const off = name === null || name === undefined
  const key = off ? null : keyOf('enter', name)
  const latest = useLatestRef(data)
  const part = useRef<ReturnType<EnterStore['join']> | undefined>(undefined)
  const state = useStore(key, registry => new EnterStore(registry, name as string), off ? OFF : ENTERING, selecting)
  useEffect(() => {
    if (key === null) return undefined
    const own = registry.use(key, () => new EnterStore(registry, name as string)).join(latest.current)
    part.current = own
    return () => {
      part.current = undefined
      own.leave()
    }
  }, [registry, key, name, latest])
  const text = textOf(data)
  useEffect(() => part.current?.update(latest.current), [text, latest])
  return state
}

/** Data that is no JSON is refused by the client. */
function textOf(data: unknown): string | undefined {
  try {
    return JSON.stringify(data)
  } catch {
    return undefined
  }
}
