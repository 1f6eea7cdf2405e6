/**
 * A state that messages change: a counter, a board, a map of positions.
 *
 * The reducer runs once for each message, in order, as it comes; React renders once a frame. It may be inline. Where
 * messages were lost the state begins anew: from `load`, or from `initial` and the newest ones (`recent`).
 */

import type { Message, SubscribeOptions } from '@fanfare/client'
import { useMemo, useState } from 'react'
import { ChannelStore, eventTest, keyOf } from './channel-store.js'
import { useLatestRef, useStore } from './source.js'
import type { Registry } from './store.js'
import type { NameOrNull, ReducedOptions, Selecting } from './types.js'

type Reducer<S> = (state: S, message: Message) => S

/** What the component said in its last render. */
interface Spec<S> extends Pick<ReducedOptions<S, string>, 'recent' | 'event' | 'load'> {
  reducer: Reducer<S>
}

class ReducedStore<S> extends ChannelStore<S> {
  readonly #spec: { readonly current: Spec<S> }
  readonly #initial: S
  #state: S
  /** The next message begins anew. */
  #anew = false

  constructor(registry: Registry, name: string, spec: { readonly current: Spec<S> }, initial: S) {
    super(registry, name, initial)
    this.#spec = spec
    this.#initial = this.#state = initial
  }

  protected override reset(): void {
    this.#set(this.#initial)
  }

  protected override options(): SubscribeOptions {
    const { load, recent = 0 } = this.#spec.current
    const message = (message: Message) => this.#reduce(message)
    if (!load)
      return {
        message,
        gap: gap => {
          this.#anew = true
          this.renewAfter(gap, recent)
        },
        ...(recent > 0 ? { recent } : {}),
      }
    return {
      message,
      resync: async at => {
        const { state, position } = await (this.#spec.current.load ?? load)(at)
        this.#set(state)
        return position
      },
    }
  }

  protected override build(): S {
    return this.#state
  }

  #reduce(message: Message): void {
    const { reducer, event } = this.#spec.current
    if (!eventTest(event)(message.event)) return
    const before = this.#anew ? this.#initial : this.#state
    this.#anew = false
    this.#set(reducer(before, message))
  }

  #set(state: S): void {
    if (Object.is(this.#state, state)) return
    this.#state = state
    this.mark()
  }
}

let components = 0

export function useReduced<S, T = S>(
  name: NameOrNull<string>,
  reducer: Reducer<S>,
  initial: S,
  options: ReducedOptions<S, string> & Selecting<S, T> = {},
): T {
  const { recent, event, load, share, select, equal } = options
  const [own] = useState(() => ++components)
  const spec = useLatestRef<Spec<S>>({ reducer, recent, event, load })
  const off = name === null || name === undefined
  const key = off ? null : keyOf('reduced', name, share ?? own)
  const first = useMemo(() => initial, [key])
  return useStore<S, T>(key, registry => new ReducedStore(registry, name as string, spec, first), first, {
    select,
    equal,
  })
}
