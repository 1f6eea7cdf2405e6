// A client of Engine.IO 4 by hand: requests and frames as the test writes them, and nothing that it did not ask for.
//
// In: the port of a server. Out: `request` (one HTTP request on a connection of its own), `Poller` (a session by
// polling) and `Frames` (a session by WebSocket). None of them answers a ping or sends a packet by itself. Reads wait
// without a bound: the deadline of the test ends one that hangs.

import { once } from 'node:events'
import net from 'node:net'
import { BINARY, CLOSE, RawSocket, TEXT, frame } from './raw.mjs'

export const PATH = '/socket.io/'
export const SEPARATOR = '\x1e'

/** A request that is on its way: `answer` resolves to `{ status, headers, body }`, or to null if there was none. */
export class Pending {
  constructor(port, { method = 'GET', path = PATH, query = '', headers = {}, body, claimed } = {}) {
    this.socket = net.connect(port, '127.0.0.1')
    this.socket.setNoDelay(true)
    const data = body === undefined ? undefined : Buffer.from(body)
    // `claimed`: another length than the body's; null is no length at all.
    const length = claimed === undefined ? data?.length : claimed
    const lines = { Host: `127.0.0.1:${port}`, Connection: 'close', ...((length ?? null) === null ? {} : { 'Content-Length': length }), ...headers }
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`)
    this.socket.write(`${method} ${path}${query} HTTP/1.1\r\n${head.join('')}\r\n`)
    if (data !== undefined) this.socket.write(data)
    this.isAnswered = false
    this.answer = read(this.socket).then(answer => {
      this.isAnswered = true
      return answer
    })
  }

  /** Ends the connection without waiting for the answer. */
  async abort() {
    this.socket.destroy()
    await this.answer
  }
}

/** One HTTP request on a connection of its own. */
export const request = (port, options) => new Pending(port, options).answer

async function read(socket) {
  const chunks = []
  socket.on('data', chunk => chunks.push(chunk))
  socket.on('error', () => {}) // a reset is an end
  await once(socket, 'close')
  const all = Buffer.concat(chunks)
  const end = all.indexOf('\r\n\r\n')
  if (end < 0) return null
  const [status, ...lines] = all.subarray(0, end).toString('latin1').split('\r\n')
  const headers = {}
  for (const line of lines) headers[line.slice(0, line.indexOf(':')).toLowerCase()] = line.slice(line.indexOf(':') + 1).trim()
  const raw = all.subarray(end + 4)
  const body = headers['transfer-encoding'] === 'chunked' ? unchunk(raw) : raw
  return { status: Number(status.split(' ')[1]), headers, body: body.toString() }
}

function unchunk(raw) {
  const parts = []
  for (let at = 0; ; ) {
    const end = raw.indexOf('\r\n', at)
    if (end < 0) return Buffer.concat(parts)
    const size = parseInt(raw.subarray(at, end).toString(), 16)
    if (size === 0) return Buffer.concat(parts)
    parts.push(raw.subarray(end + 2, end + 2 + size))
    at = end + 4 + size
  }
}

/** A session by polling. */
export class Poller {
  static async open(port, more = '') {
    const answer = await request(port, { query: `?EIO=4&transport=polling${more}` })
    if (answer?.status !== 200 || !answer.body.startsWith('0')) throw new Error(`no session: ${JSON.stringify(answer)}`)
    return new Poller(port, JSON.parse(answer.body.split(SEPARATOR)[0].slice(1)))
  }

  constructor(port, open) {
    this.port = port
    this.open = open
    this.sid = open.sid
    this.query = `?EIO=4&transport=polling&sid=${open.sid}`
    this.packets = []
  }

  /** A GET that waits. */
  get(options) {
    return new Pending(this.port, { query: this.query, ...options })
  }

  poll() {
    return this.get().answer
  }

  /** The packets of one GET, as texts. */
  async packetsOfPoll() {
    const answer = await this.poll()
    if (answer?.status !== 200) throw new Error(`a poll got ${JSON.stringify(answer)}`)
    return answer.body.split(SEPARATOR)
  }

  /** The next packet, by as many GETs as it takes. */
  async next() {
    while (this.packets.length === 0) this.packets.push(...(await this.packetsOfPoll()))
    return this.packets.shift()
  }

  post(body, headers = {}) {
    return request(this.port, { method: 'POST', query: this.query, headers: { 'Content-Type': 'text/plain; charset=UTF-8', ...headers }, body })
  }

  /** Packets that the server must take. */
  async send(...packets) {
    const answer = await this.post(packets.join(SEPARATOR))
    if (answer?.status !== 200 || answer.body !== 'ok') throw new Error(`a POST got ${JSON.stringify(answer)}`)
  }

  /** True when no request of this session is answered as that of a session. */
  async isOver() {
    const answer = await this.post('3')
    return answer?.status === 400
  }
}

/** A session by WebSocket, or the WebSocket of an upgrade (`sid`). */
export class Frames {
  static async open(port, query = '?EIO=4&transport=websocket') {
    return new Frames(await RawSocket.upgraded(port, PATH + query))
  }

  /** With the open packet read. */
  static async session(port, more = '') {
    const frames = await Frames.open(port, `?EIO=4&transport=websocket${more}`)
    const open = await frames.next()
    if (!open?.startsWith?.('0')) throw new Error(`no session: ${JSON.stringify(open)}`)
    frames.handshake = JSON.parse(open.slice(1))
    frames.sid = frames.handshake.sid
    return frames
  }

  /** The WebSocket to which a session changes. */
  static upgrade(port, sid) {
    return Frames.open(port, `?EIO=4&transport=websocket&sid=${sid}`)
  }

  constructor(raw) {
    this.raw = raw
    /** The code of the close frame, once it came. */
    this.code = undefined
  }

  send(packet) {
    this.raw.socket.write(typeof packet === 'string' ? frame(TEXT, packet) : frame(BINARY, packet))
  }

  write(bytes) {
    this.raw.socket.write(bytes)
  }

  /** A text, the bytes of a binary frame, or null when the server has ended it. */
  async next() {
    for (;;) {
      const got = await this.raw.frame()
      if (got === null) return null
      if (got.opcode === TEXT) return got.payload.toString()
      if (got.opcode === BINARY) return Buffer.from(got.payload)
      if (got.opcode === CLOSE) {
        this.code = got.payload.length >= 2 ? got.payload.readUInt16BE(0) : 1005
        this.write(frame(CLOSE, got.payload.subarray(0, 2)))
        return null
      }
    }
  }

  /** Everything that comes before the server ends the connection. */
  async rest() {
    const all = []
    for (;;) {
      const packet = await this.next()
      if (packet === null) return all
      all.push(packet)
    }
  }

  close() {
    this.raw.socket.destroy()
  }
}
