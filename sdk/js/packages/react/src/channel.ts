/**
 * A channel by callbacks: each message once, in order, to the handlers of the last render.
 *
 * Only another client or name makes another subscription: handlers and options may be inline. Where the effect runs
 * again for the same channel (StrictMode, a hidden part that is shown again), it goes on behind the last message that
 * was handed over.
 */

import type { Channel, Message, Position, SubscribeOptions } from '@fanfare/client'
import { useCallback, useEffect, useRef, useState } from 'react'
import { channelOf, LIVE, OFF, SUBSCRIBING } from './channel-store.js'
import { useRegistry } from './context.js'
import { useLatestRef } from './source.js'
import type { Registry } from './store.js'
import type { NameOrNull, Status } from './types.js'

/** How far this component has read. */
interface Place {
  registry: Registry
  name: string
  position: Position
}

export function useChannel(
  nameOrNull: NameOrNull<string>,
  handlers: ((message: Message) => void) | SubscribeOptions = {},
): Status {
  const registry = useRegistry()
  const name = nameOrNull ?? null
  const wanted: SubscribeOptions = typeof handlers === 'function' ? { message: handlers } : handlers
  const latest = useLatestRef(wanted)
  const place = useRef<Place | undefined>(undefined)
  const [tries, setTries] = useState(0)
  const [told, setTold] = useState<Told | undefined>(undefined)
  const retry = useCallback(() => {
    setTold(undefined)
    setTries(tries => tries + 1)
  }, [])
  const [withPresence, withResync] = [wanted.presence !== undefined, wanted.resync !== undefined]

  useEffect(() => {
    if (name === null) return undefined
    const channel = channelOf(registry.client, name)
    const tell = (status: Status) =>
      setTold(told => (isOf(told, registry, name) && told.status === status ? told : { registry, name, status }))
    const read = (position: Position) => (place.current = { registry, name, position })
    const subscription = channel.subscribe({
      ...beginning(latest.current, isOf(place.current, registry, name) ? place.current.position : undefined, channel),
      message: message => {
        read(message.position)
        return latest.current.message?.(message)
      },
      signal: signal => latest.current.signal?.(signal),
      subscribed: info => {
        tell(LIVE)
        if (info.count === 0 && !info.more && !isOf(place.current, registry, name)) read(info.position)
        return latest.current.subscribed?.(info)
      },
      gap: gap => {
        read(gap.position)
        return latest.current.gap?.(gap)
      },
      ended: error => {
        tell({ name: 'ended', error, retry })
        return latest.current.ended?.(error)
      },
      ...(withPresence && { presence: (all, change) => latest.current.presence?.(all, change) }),
      ...(withResync && { resync: at => latest.current.resync?.(at) }),
    })
    return () => subscription.unsubscribe()
  }, [registry, name, withPresence, withResync, tries, latest, retry])

  if (name === null) return OFF
  return isOf(told, registry, name) ? told.status : SUBSCRIBING
}

interface Told {
  registry: Registry
  name: string
  status: Status
}

function isOf<T extends Place | Told>(of: T | undefined, registry: Registry, name: string): of is T {
  return of?.registry === registry && of.name === name
}

/** Where the subscription begins, and the options that are the application's. `read`: where this component stands. */
function beginning(options: SubscribeOptions, read: Position | undefined, channel: Channel): SubscribeOptions {
  const { message, signal, presence, subscribed, gap, ended, resync, recent, since, ...others } = options
  const first = { ...others, ...(recent && { recent }), ...(since && { since }) }
  if (!read || resync) return first
  const at = channel.position
  const isThere = at?.epoch === read.epoch && at.offset === read.offset
  return isThere ? others : { ...others, since: read }
}
