/**
 * What a browser has, with its own types, is what `@fanfare/client` asks for: nobody has to cast. It stands here
 * because the core's own tests know no DOM. `npm run check` compiles it.
 */

import { createClient } from '@fanfare/client'
import { MessageBatcher } from '@fanfare/client/batcher'
import { indexedDbOutbox } from '@fanfare/client/outbox'
import { SSEClient } from '@fanfare/client/sse'
import { sharedStream } from '@fanfare/client/tabs'
import { expectTypeOf } from 'vitest'

createClient({ url: 'wss://host', env: { WebSocket, fetch, AbortController, TextDecoder } })
sharedStream({ user: 'anonymous', locks: navigator.locks, open: name => new BroadcastChannel(name) })
indexedDbOutbox({ indexedDB, locks: navigator.locks })
new SSEClient({ fetch, AbortController, TextDecoder })

new SSEClient().connect('/events', {
  onMessage: data => expectTypeOf(data).toBeUnknown(),
  onError: ({ reason, status }) => {
    expectTypeOf(status).toEqualTypeOf<number | undefined>()
    // @ts-expect-error there is no such reason
    return reason === 'nonsense'
  },
})
new SSEClient().connect<{ n: number }>('/events', { onMessage: ({ n }) => n })

expectTypeOf(new MessageBatcher((messages: string[]) => messages.length)).toEqualTypeOf<MessageBatcher<string>>()
// @ts-expect-error only texts
new MessageBatcher((_: string[]) => {}).add(1)
