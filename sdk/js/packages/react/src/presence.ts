/** Who is present in a channel. To read is not to enter: `useEnter` does that. */

import type { FanfareError, Presence, SubscribeOptions } from '@fanfare/client'
import { ChannelStore, keyOf } from './channel-store.js'
import { useStore } from './source.js'
import type { NameOrNull, Selecting } from './types.js'

const NOBODY: Presence = { count: 0, members: [] }

class PresenceStore extends ChannelStore<Presence> {
  #presence = NOBODY

  protected override options(): SubscribeOptions {
    return { presence: presence => this.#set(presence) }
  }

  protected override ended(_error: FanfareError): void {
    this.#set(NOBODY)
  }

  protected override build(): Presence {
    return this.#presence
  }

  #set(presence: Presence): void {
    this.#presence = presence
    this.mark()
  }
}

export function usePresence<T = Presence>(name: NameOrNull<string>, selecting?: Selecting<Presence, T>): T {
  const key = name === null || name === undefined ? null : keyOf('presence', name)
  return useStore(key, registry => new PresenceStore(registry, name as string, NOBODY), NOBODY, selecting)
}
