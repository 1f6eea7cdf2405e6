/**
 * `useWebSocket`: a WebSocket with JSON for as long as a component is mounted; for the chat protocol of Fanfare, and
 * for any other server that speaks JSON. (For channels, presence and recovery there is `createHooks`.)
 *
 * The connection depends on `url` alone: callbacks and options may be new at each render, and the newest are called.
 * StrictMode opens one connection. A server renders `connecting`, and opens nothing.
 */
'use client'

import { useEffect, useInsertionEffect, useState, useSyncExternalStore } from 'react'
import { type ConnectionStatus, ManagedSocket, type WebSocketConstructor } from './managed-socket.js'

export type { ConnectionStatus, WebSocketConstructor } from './managed-socket.js'

export interface UseWebSocketOptions {
  /** Another address closes the connection and opens another one. `null`: none. */
  url: string | null
  /**
   * A message, parsed. One that is no JSON is told to the console. Nothing checks its type, so say what you expect:
   * `(data: Message) => …`. (It is `any`, the only one of this package, because components that were written for the
   * usual hook read `data.type` without a type. As a parameter of the hook it would make `onOpen: () => send(…)` refer
   * to its own type.)
   */
  onMessage?: ((data: any) => unknown) | undefined
  /** `send` may be used in it, and comes before what has waited. */
  onOpen?: (() => unknown) | undefined
  /** After each connection, and each attempt, but not after the component is gone. */
  onClose?: (() => unknown) | undefined
  onError?: ((error: Event) => unknown) | undefined
  /** Failures in a row until it gives up. Default 5. */
  reconnectAttempts?: number | undefined
  /** Ms before the first of these attempts; later ones wait longer. Default 3,000. */
  reconnectInterval?: number | undefined
  /** Where there is no global one, or another is wanted. */
  WebSocket?: WebSocketConstructor | undefined
}

export interface UseWebSocketResult {
  isConnected: boolean
  connectionStatus: ConnectionStatus
  /** Sends as JSON. While there is no connection yet, or again, up to 100 messages wait. False: refused. */
  send: (data: unknown) => boolean
  /** Closes, and stays closed until `reconnect`, or another `url`. */
  disconnect: () => void
  /** Opens at once; a connection that is there is closed first. */
  reconnect: () => void
}

const onServer = (): ConnectionStatus => 'connecting'

export function useWebSocket(options: UseWebSocketOptions): UseWebSocketResult {
  const { url } = options
  const [socket] = useState(() => new ManagedSocket())
  // Before all other effects, and only for renders that are shown.
  useInsertionEffect(() => {
    socket.options = options
  })
  useEffect(() => socket.start(url), [socket, url])
  const current = useSyncExternalStore(socket.subscribe, socket.snapshot, onServer)
  const connectionStatus = url === null ? 'disconnected' : current
  const { send, disconnect, reconnect } = socket
  return { isConnected: connectionStatus === 'connected', connectionStatus, send, disconnect, reconnect }
}
