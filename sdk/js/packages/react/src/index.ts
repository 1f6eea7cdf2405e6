// The public face of @fanfare/react.
'use client'

export { useWebSocket } from './useWebSocket.js'
export type { ConnectionStatus, UseWebSocketOptions, UseWebSocketResult, WebSocketConstructor } from './useWebSocket.js'
