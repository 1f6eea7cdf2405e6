// A native client that publishes numbers, 1,000 a second, as evenly as timers let it.
//
// In: the server, a channel, the first number and how many. Resolves when the last one is stored.

import { once } from 'node:events'
import WebSocket from 'ws'

const RATE = 1_000

export async function flood(server, channel, first, count) {
  const socket = new WebSocket(`${server.ws}v1/ws`, 'fanfare.v1')
  await once(socket, 'open')
  socket.send(JSON.stringify({ type: 'connect', id: 0 }))
  let sent = 0
  await new Promise((resolve, reject) => {
    const began = performance.now()
    const step = () => {
      const due = Math.min(count, Math.ceil(((performance.now() - began) / 1000) * RATE))
      for (; sent < due; sent++) {
        const number = first + sent
        const data = { number, text: `line ${number}`, more: 'x'.repeat(100) }
        socket.send(JSON.stringify({ type: 'publish', ...(sent === count - 1 && { id: 1 }), channel, data }))
      }
      if (sent === count) clearInterval(timer)
    }
    const timer = setInterval(step, 5)
    socket.on('message', text => {
      const message = JSON.parse(text)
      if (message.type === 'error') reject(new Error(message.message))
      if (message.type === 'published') resolve()
    })
    socket.on('error', reject)
  })
  socket.close()
}
