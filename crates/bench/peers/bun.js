// Bun's own WebSocket server (uWebSockets inside). Rooms are Bun topics: one `server.publish` encodes once and fans out
// natively, which is the fastest way Bun offers.
import { args, Chat } from './chat.js'
import { Native } from './native.js'

const { mode, hostname, port } = args(process.argv.slice(2), 'native', 'deflate')

const chat = new Chat({
  enter: (ws, room) => ws.subscribe(room),
  leave: (ws, room) => ws.unsubscribe(room),
  toRoom: (_ws, room, text) => server.publish(room, text),
  toOthers: (ws, room, text) => (ws.readyState === WebSocket.OPEN ? ws.publish(room, text) : server.publish(room, text)),
  toOne: (ws, text) => ws.send(text),
})

const native = new Native({
  enter: (ws, channel) => ws.subscribe(channel),
  leave: (ws, channel) => ws.unsubscribe(channel),
  // Compressed once for all receivers that asked for it. The program decides which messages are long enough: those that
  // `ws` and Fanfare compress.
  toAll: (channel, text) => server.publish(channel, text, mode === 'deflate' && text.length >= 1024),
  toOne: (ws, text) => ws.send(text),
})

const handlers = {
  chat: {
    message: (ws, text) => chat.handle(ws, ws.data, text),
    close: (ws) => chat.closed(ws, ws.data),
  },
  echo: {
    message: (ws, message) => void ws.send(message),
  },
  native: {
    message: (ws, text) => native.handle(ws, ws.data, text),
    close: (ws) => native.closed(ws, ws.data),
  },
}
handlers.deflate = handlers.native
const speaksNative = mode === 'native' || mode === 'deflate'
const member = speaksNative ? Native.member : Chat.member
const headers = speaksNative ? { 'Sec-WebSocket-Protocol': 'fanfare.v1' } : {}

const server = Bun.serve({
  hostname,
  port,
  fetch(request, server) {
    if (server.upgrade(request, { data: member(), headers })) return
    return new Response('WebSocket only', { status: 426 })
  },
  // `idleTimeout` stays at its default of 120 s with Bun's own pings: its form of a heartbeat.
  websocket: { perMessageDeflate: mode === 'deflate', maxPayloadLength: 16 * 1024 * 1024, ...handlers[mode] },
})
