// The `ws` package on Node: a loop over the members of the room, each sent one buffer that was stringified and encoded
// to UTF-8 once. Compression is off, as it is by default.
import { createServer } from 'node:http'
import { WebSocketServer } from 'ws'
import { args, Chat } from './chat.js'

const { mode, hostname, port } = args(process.argv.slice(2))
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

const http = createServer()
const server = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 16 * 1024 * 1024 })
server.on('connection', (ws) => {
  ws.on('error', () => {})
  if (mode === 'echo') {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
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
