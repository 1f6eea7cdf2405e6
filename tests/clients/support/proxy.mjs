// A proxy between clients and a server, as a company or a mobile network has one.
//
// In: the port of a server. `websockets: false` blocks WebSockets as such proxies do: they forward the request
// without its upgrade, and the answer of the server to that. `page` is the HTML at `/page`, of the same origin. Out:
// a port for clients; `cut()` ends all connections without a word, `down()` new ones too, until `up()`; `stall()`
// lets no byte pass any more, in either direction, until `heal()`, which ends what was stalled; `mute()` loses all
// that the server says by the WebSockets that are open; `seen` counts requests by their transport.

import { once } from 'node:events'
import http from 'node:http'
import net from 'node:net'

export async function startProxy(port, { websockets = true, page } = {}) {
  const seen = { polling: 0, websocket: 0 }
  const open = new Set()
  const stalled = new WeakSet()
  const tunnels = new Set()
  let isStalled = false
  let isDown = false
  const stall = socket => {
    socket.unpipe()
    socket.pause()
    stalled.add(socket)
  }
  const track = socket => {
    open.add(socket)
    socket.on('error', () => {}) // a cut is an error of its peer
    socket.once('close', () => open.delete(socket))
    return socket
  }
  const agent = new http.Agent({ keepAlive: true })

  /** To the server and back, without the headers that are about one connection. */
  const forward = (request, answer) => {
    if (stalled.has(request.socket)) return
    const headers = { ...request.headers }
    for (const name of ['connection', 'upgrade', ...Object.keys(headers).filter(name => name.startsWith('sec-websocket'))]) delete headers[name]
    const onward = http.request({ port, host: '127.0.0.1', agent, method: request.method, path: request.url, headers })
    onward.on('socket', socket => open.has(socket) || track(socket))
    onward.on('error', () => answer.destroy())
    onward.on('response', from => {
      if (stalled.has(request.socket)) return
      answer.writeHead(from.statusCode, from.headers)
      from.pipe(answer)
    })
    answer.on('close', () => onward.destroy())
    request.pipe(onward)
  }

  const server = http.createServer((request, answer) => {
    if (page !== undefined && request.url === '/page') return void answer.writeHead(200, { 'Content-Type': 'text/html' }).end(page)
    seen.polling++
    forward(request, answer)
  })
  server.on('connection', socket => {
    track(socket)
    if (isDown) socket.destroy()
    if (isStalled) stall(socket)
  })
  server.on('upgrade', (request, socket, head) => {
    seen.websocket++
    if (stalled.has(request.socket)) return
    if (!websockets) {
      const answer = new http.ServerResponse(request)
      answer.assignSocket(socket)
      answer.shouldKeepAlive = false
      answer.on('finish', () => socket.end())
      return forward(request, answer)
    }
    const onward = track(net.connect(port, '127.0.0.1'))
    const lines = Array.from({ length: request.rawHeaders.length / 2 }, (_, at) => `${request.rawHeaders[2 * at]}: ${request.rawHeaders[2 * at + 1]}\r\n`)
    onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join('')}\r\n`)
    onward.write(head)
    const tunnel = { socket, onward }
    tunnels.add(tunnel)
    socket.once('close', () => tunnels.delete(tunnel))
    onward.pipe(socket)
    socket.pipe(onward)
    onward.once('close', () => socket.destroy())
    socket.once('close', () => onward.destroy())
  })
  const cut = () => {
    for (const socket of open) socket.destroy()
  }
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    port: server.address().port,
    seen,
    mute() {
      for (const { socket, onward } of tunnels) {
        onward.unpipe(socket)
        onward.resume()
      }
    },
    cut,
    down() {
      isDown = true
      cut()
    },
    up() {
      isDown = false
    },
    stall() {
      isStalled = true
      open.forEach(stall)
    },
    heal() {
      isStalled = false
      for (const socket of open) if (stalled.has(socket)) socket.destroy()
    },
    async stop() {
      agent.destroy()
      server.close()
      server.closeAllConnections()
      cut()
    },
  }
}
