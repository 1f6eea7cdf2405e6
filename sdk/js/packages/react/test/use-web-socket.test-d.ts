/**
 * The types of `useWebSocket`. `npm run check` compiles this.
 */

import { expectTypeOf } from 'vitest'
import { useWebSocket } from '../src/index.js'

export function Untyped() {
  const { send, connectionStatus } = useWebSocket({
    url: 'wss://host',
    onMessage: data => data.type === 'message',
    // It refers to what the hook returns.
    onOpen: () => send({ type: 'join' }),
    onError: error => expectTypeOf(error).toEqualTypeOf<Event>(),
    WebSocket,
  })
  expectTypeOf(connectionStatus).toEqualTypeOf<'connecting' | 'connected' | 'disconnected' | 'error'>()
}

export function Typed() {
  useWebSocket({ url: null, onMessage: ({ n }: { n: number }) => expectTypeOf(n).toBeNumber() })
  // @ts-expect-error an address is needed
  useWebSocket({})
}
