// The `ws` package on Node: a loop over the members of the room, each sent one buffer that was stringified and encoded
// to UTF-8 once. Compression is off, as it is by default; in the mode `deflate` it has the options of the package's own
// documentation.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { args, Chat } from './chat.js'
import { Native } from './native.js'

const { mode, hostname, port } = args(process.argv.slice(2), 'deflate')
const HEARTBEAT_MS = 30_000
const TEXT = { binary: false }

const chat = new Chat({
  enter: () => {},
  leave: () => {},
  toRoom(_ws, room, text) {
    const bytes = Buffer.from(text)
    for (const member of chat.rooms.get(room).keys()) member.send(bytes, TEXT)
  },
  toOthers(ws, room, text) {
    const bytes = Buffer.from(text)
    for (const member of chat.rooms.get(room)?.keys() ?? []) if (member !== ws) member.send(bytes, TEXT)
  },
  toOne: (ws, text) => ws.send(text),
})

const channels = new Map()
const native = new Native({
  enter(ws, channel) {
    if (!channels.has(channel)) channels.set(channel, new Set())
    channels.get(channel).add(ws)
  },
  leave: (ws, channel) => channels.get(channel).delete(ws),
  toAll(channel, text) {
    const bytes = Buffer.from(text)
    for (const ws of channels.get(channel)) ws.send(bytes, TEXT)
  },
  toOne: (ws, text) => ws.send(text),
})

const DEFLATE = {
  zlibDeflateOptions: { chunkSize: 1024, memLevel: 7, level: 3 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
  clientNoContextTakeover: true,
  serverNoContextTakeover: true,
  serverMaxWindowBits: 10,
  concurrencyLimit: 10,
  threshold: 1024,
}

const http = createServer()
const server = new WebSocketServer({ server: http, perMessageDeflate: mode === 'deflate' && DEFLATE, maxPayload: 16 * 1024 * 1024 })
server.on('connection', (ws) => {
  ws.on('error', () => {})
  if (mode === 'echo') {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
    return
  }
  if (mode === 'deflate') {
    const member = Native.member()
    ws.on('message', (data) => native.handle(ws, member, data))
    ws.on('close', () => native.closed(ws, member))
    return
  }
  const member = Chat.member()
  ws.alive = true
  ws.on('pong', () => (ws.alive = true))
  ws.on('message', (data) => chat.handle(ws, member, data))
  ws.on('close', () => chat.closed(ws, member))
})

if (mode === 'chat') {
  setInterval(() => {
    for (const ws of server.clients) {
      if (!ws.alive) {
        ws.terminate()
        continue
      }
      ws.alive = false
      ws.ping()
    }
  }, HEARTBEAT_MS)
}

http.listen({ port, host: hostname, backlog: 4096 })
