// The reference server (`socket.io` from npm) with the handlers of the conformance suites.
//
// In: its options as JSON, the only argument; `parser` is `standard` or `msgpack`, `handlers` is `chat` or `all`. Out:
// the line "listening on http://…"; it runs until it is killed.

import { createServer } from 'node:http'
import { Server } from 'socket.io'
import msgpack from 'socket.io-msgpack-parser'

const http = createServer()
const { parser, handlers, ...options } = JSON.parse(process.argv[2])
const io = new Server(http, { ...options, ...(parser === 'msgpack' && { parser: msgpack }) })
if (handlers === 'all') all(io)
else chat(io)
process.once('SIGINT', () => io.close())
http.listen(0, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${http.address().port}`))

/** The events of a chat room, which Fanfare has built in. */
function chat(io) {
  io.on('connection', socket => {
    const userId = socket.id
    const room = () => [...socket.rooms].find(room => room !== socket.id)
    socket.on('join-room', name => {
      socket.join(name)
      socket.to(name).emit('user-joined', { userId, timestamp: Date.now() })
    })
    socket.on('message', data => {
      if (room() !== undefined) io.to(room()).emit('message', { ...data, userId, timestamp: Date.now() })
    })
    socket.on('typing', isTyping => {
      if (room() !== undefined) socket.to(room()).emit('user-typing', { userId, isTyping })
    })
  })
}

/** Everything that a handler can do: crates/server/examples/socketio_conformance.rs is the same in Rust. */
function all(io) {
  const main = io.of('/')
  main.on('connection', socket => {
    socket.emit('auth', socket.handshake.auth)
    socket.on('echo', (...args) => socket.emit('echoed', ...args))
    socket.on('ack', (...args) => args.pop()(...args))
    socket.on('no-ack', () => {})
    socket.on('join', (room, ack) => {
      socket.join(room)
      ack()
    })
    socket.on('leave', (room, ack) => {
      socket.leave(room)
      ack()
    })
    socket.on('rooms', ack => ack([...socket.rooms]))
    socket.on('to', (rooms, except, ...args) => socket.to(rooms).except(except).emit('sent', ...args))
    socket.on('in', (rooms, except, ...args) => main.in(rooms).except(except).emit('sent', ...args))
    socket.on('broadcast', (...args) => socket.broadcast.emit('sent', ...args))
    socket.on('all', (...args) => main.emit('sent', ...args))
    socket.on('ask', async (timeout, ...args) => {
      try {
        socket.emit('answer', await socket.timeout(timeout).emitWithAck('question', ...args))
      } catch {
        socket.emit('no-answer')
      }
    })
    socket.on('ask-bytes', async () => socket.emit('answer', await socket.emitWithAck('question')))
    socket.on('ask-room', (room, timeout, arg) => {
      main.to(room).timeout(timeout).emit('question', arg, (error, answers) => socket.emit('answers', error !== null, answers))
    })
    socket.on('sequence', room => {
      // In program order: the room hears what is said before its sockets leave it.
      main.to(room).emit('sent', 1)
      socket.emit('sent', 2)
      main.to(room).emit('sent', 3)
      main.in(room).socketsLeave(room)
      main.to(room).emit('sent', 4)
      socket.emit('sent', 5)
    })
    socket.on('sockets-join', (room, other) => main.in(room).socketsJoin(other))
    socket.on('disconnect-room', (room, close) => main.in(room).disconnectSockets(close))
    socket.on('disconnect-me', close => socket.disconnect(close))
    socket.on('disconnect', reason => main.to('watchers').emit('gone', socket.handshake.auth.name, reason))
    socket.on('fetch', async (room, ack) => ack((await main.in(room).fetchSockets()).map(({ id, rooms }) => [id, [...rooms].sort()])))
  })
  io.of('/custom').on('connection', socket => {
    socket.emit('auth', socket.handshake.auth)
    socket.on('echo', (...args) => socket.emit('echoed', ...args))
    socket.on('ack', (...args) => args.pop()(...args))
  })
  io.of('/guarded')
    .use((socket, next) => {
      if (socket.handshake.auth.token === 'let me in') return next()
      const error = new Error('not authorized')
      if (socket.handshake.auth.more) error.data = { content: 'Please retry later', n: 1 }
      next(error)
    })
    .on('connection', socket => socket.emit('auth', socket.handshake.auth))
  const visits = new Map()
  io.of('/visits')
    .use(({ handshake: { auth } }, next) => {
      visits.set(auth.name, (visits.get(auth.name) ?? 0) + 1)
      next()
    })
    .on('connection', socket => socket.emit('visits', visits.get(socket.handshake.auth.name), socket.recovered))
  io.of(/^\/dynamic-.*$/).on('connection', socket => socket.emit('auth', socket.nsp.name))
}
