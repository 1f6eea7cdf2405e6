// Socket.IO on Node, over its own protocol: `io.to(room).emit` encodes the packet once and writes it to each member.
// The chat is the same; its `type` is the event's name instead of a field. As `api` it recovers connections, and emits
// each event that is posted to it.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { args } from './chat.js'

const { mode, hostname, port } = args(process.argv.slice(2), 'rooms', 'api')

const http = createServer(mode === 'api' ? emitted : undefined)
const recovery = mode === 'api' ? { connectionStateRecovery: { maxDisconnectionDuration: 120_000 } } : {}
const io = new Server(http, { perMessageDeflate: false, serveClient: false, ...recovery })

io.on('connection', { echo, chat, rooms, api() {} }[mode])

function echo(socket) {
  socket.on('echo', (message) => socket.emit('echo', message))
}

function chat(socket) {
  const identity = socket.data
  const stamped = (content) => ({
    userId: identity.userId,
    username: identity.username,
    content,
    timestamp: Date.now(),
  })

  socket.on('join', ({ userId, username, roomId = 'general' }) => {
    leave()
    Object.assign(identity, { userId, username, roomId })
    socket.join(roomId)
    io.to(roomId).emit('join', stamped())
    const users = []
    for (const id of io.of('/').adapter.rooms.get(roomId)) {
      const other = io.of('/').sockets.get(id)?.data
      if (other && other.userId !== userId) users.push({ userId: other.userId, username: other.username })
    }
    socket.emit('room_state', { users, timestamp: Date.now() })
  })
  socket.on('message', ({ content }) => {
    if (identity.roomId !== undefined && typeof content === 'string') io.to(identity.roomId).emit('message', stamped(content))
  })
  socket.on('typing', () => {
    if (identity.roomId !== undefined) socket.to(identity.roomId).emit('typing', stamped())
  })
  socket.on('leave', leave)
  socket.on('disconnect', leave)

  function leave() {
    const { roomId } = identity
    if (roomId === undefined) return
    identity.roomId = undefined
    socket.leave(roomId)
    socket.to(roomId).emit('leave', stamped())
  }
}

// The events that Fanfare has built in.
function rooms(socket) {
  const userId = socket.id
  const room = () => [...socket.rooms].find((room) => room !== userId)
  socket.on('join-room', (name) => {
    socket.join(name)
    socket.to(name).emit('user-joined', { userId, timestamp: Date.now() })
  })
  socket.on('message', (data) => {
    if (room() !== undefined) io.to(room()).emit('message', { ...data, userId, timestamp: Date.now() })
  })
}

// `POST {event, args}`: to all sockets. The answer is the number of the event, as a place in Fanfare's answer.
let emits = 0
function emitted(request, response) {
  const parts = []
  request.on('data', (part) => parts.push(part))
  request.on('end', () => {
    const { event, args } = JSON.parse(Buffer.concat(parts))
    io.emit(event, ...args)
    const body = `{"offset":${++emits}}`
    response.writeHead(200, { 'content-length': body.length }).end(body)
  })
}

http.keepAliveTimeout = 120_000 // a busy server would close the application's connection between two requests
http.listen({ port, host: hostname, backlog: 4096 })
