/** The newest message of a channel, or the newest one with an event: for prices, positions, states. */

import type { Message, SubscribeOptions } from '@fanfare/client'
import { ChannelStore, eventTest, keyOf } from './channel-store.js'
import { useStore } from './source.js'
import type { Registry } from './store.js'
import type { LatestOptions, NameOrNull, Selecting } from './types.js'

class LatestStore extends ChannelStore<Message | undefined> {
  readonly #recent: number
  readonly #wants: (event: string) => boolean
  #message: Message | undefined

  constructor(registry: Registry, name: string, { event, recent = 1 }: LatestOptions<string>) {
    super(registry, name, undefined)
    this.#recent = recent
    this.#wants = eventTest(event)
  }

  protected override options(): SubscribeOptions {
    return {
      message: message => {
        if (!this.#wants(message.event)) return
        this.#message = message
        this.mark()
      },
      gap: gap => this.renewAfter(gap, this.#recent),
      ...(this.#recent > 0 ? { recent: this.#recent } : {}),
    }
  }

  protected override build(): Message | undefined {
    return this.#message
  }
}

export function useLatest<T = Message | undefined>(
  name: NameOrNull<string>,
  options: LatestOptions<string> & Selecting<Message | undefined, T> = {},
): T {
  const { event, recent, select, equal } = options
  const key = name === null || name === undefined ? null : keyOf('latest', name, event, recent)
  return useStore<Message | undefined, T>(
    key,
    registry => new LatestStore(registry, name as string, { event, recent }),
    undefined,
    { select, equal },
  )
}
