// Socket.IO on Node, over its own protocol and the websocket transport only: `io.to(room).emit` encodes the packet once
// and writes it to each member. The chat is the same; its `type` is the event's name instead of a field.
import { createServer } from 'node:http'
import { Server } from 'socket.io'
import { args } from './chat.js'

const { mode, hostname, port } = args(process.argv.slice(2), 'rooms')

const http = createServer()
const io = new Server(http, { transports: ['websocket'], perMessageDeflate: false, serveClient: false })

io.on('connection', { echo, chat, rooms }[mode])

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

http.listen({ port, host: hostname, backlog: 4096 })
