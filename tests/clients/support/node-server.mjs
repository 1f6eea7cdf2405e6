// The reference server (`socket.io` from npm) with the handlers of the conformance suites.
//
// In: its options as JSON, the only argument; `parser` is `standard` or `msgpack`. Out: the line
// "listening on http://…"; it runs until it is killed.

import { createServer } from 'node:http'
import { Server } from 'socket.io'
import msgpack from 'socket.io-msgpack-parser'

const http = createServer()
const { parser, ...options } = JSON.parse(process.argv[2])
const io = new Server(http, { ...options, ...(parser === 'msgpack' && { parser: msgpack }) })
chat(io)
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
