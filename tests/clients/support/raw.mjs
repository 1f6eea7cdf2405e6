// A WebSocket client that can break the protocol: a socket, a handshake by hand, and frames of any shape.

import { once } from 'node:events'
import net from 'node:net'

export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
export const handshakeHead = (port, lines = {}, path = '/') => {
  const headers = { Host: `127.0.0.1:${port}`, Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': KEY, ...lines }
  const list = Object.entries(headers).filter(([, value]) => value !== undefined)
  return `GET ${path} HTTP/1.1\r\n${list.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
}

export class RawSocket {
  static async open(port) {
    const socket = net.connect(port, '127.0.0.1')
    const raw = new RawSocket(socket)
    await once(socket, 'connect')
    socket.setNoDelay(true)
    return raw
  }

  /** With the handshake done. */
  static async upgraded(port, path) {
    const raw = await RawSocket.open(port)
    raw.socket.write(handshakeHead(port, {}, path))
    const head = await raw.head()
    if (head.status !== 101) throw new Error(`no upgrade: ${head.text}`)
    return raw
  }

  constructor(socket) {
    this.socket = socket
    this.buffer = Buffer.alloc(0)
    this.ended = false
    this.wake = () => {}
    socket.on('data', chunk => {
      this.buffer = Buffer.concat([this.buffer, chunk])
      this.wake()
    })
    socket.on('error', () => {}) // a reset is one of the ways in which a server may end it
    this.closed = new Promise(resolve => socket.once('close', resolve))
    for (const event of ['end', 'close']) {
      socket.once(event, () => {
        this.ended = true
        this.wake()
      })
    }
  }

  async #until(parse) {
    for (;;) {
      const value = parse()
      if (value !== undefined) return value
      if (this.ended) return null
      await new Promise(resolve => (this.wake = resolve))
    }
  }

  /** The head of an HTTP answer, or null if the peer ended first. */
  head() {
    return this.#until(() => {
      const end = this.buffer.indexOf('\r\n\r\n')
      if (end < 0) return undefined
      const text = this.buffer.subarray(0, end).toString('latin1')
      this.buffer = this.buffer.subarray(end + 4)
      const headers = Object.fromEntries(text.split('\r\n').slice(1).map(line => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]))
      return { status: Number(text.split(' ')[1]), headers, text }
    })
  }

  /** The next frame from the server, or null if the peer ended first. */
  frame() {
    return this.#until(() => {
      if (this.buffer.length < 2) return undefined
      let length = this.buffer[1] & 0x7f
      let at = 2
      if (length === 126) {
        if (this.buffer.length < 4) return undefined
        length = this.buffer.readUInt16BE(2)
        at = 4
      } else if (length === 127) {
        if (this.buffer.length < 10) return undefined
        length = Number(this.buffer.readBigUInt64BE(2))
        at = 10
      }
      if (this.buffer.length < at + length) return undefined
      const frame = { opcode: this.buffer[0] & 0x0f, payload: this.buffer.subarray(at, at + length) }
      this.buffer = this.buffer.subarray(at + length)
      return frame
    })
  }

  /** The code of the close frame, after whatever comes before it; null if the connection ended without one. */
  async closeCode() {
    for (;;) {
      const frame = await this.frame()
      if (frame === null) return null
      if (frame.opcode === 8) return frame.payload.length >= 2 ? frame.payload.readUInt16BE(0) : 1005
    }
  }
}

/** One frame from a client. `mask: false` and `rsv` are for those that must be refused. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, length } = {}) {
  const data = Buffer.from(payload)
  const size = length ?? BigInt(data.length)
  const bit = mask ? 0x80 : 0
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode
  let head
  if (size < 126n) head = Buffer.from([first, bit | Number(size)])
  else if (size < 65536n) {
    head = Buffer.from([first, bit | 126, 0, 0])
    head.writeUInt16BE(Number(size), 2)
  } else {
    head = Buffer.alloc(10)
    head[0] = first
    head[1] = bit | 127
    head.writeBigUInt64BE(size, 2)
  }
  if (!mask) return Buffer.concat([head, data])
  const key = Buffer.from([0x37, 0xfa, 0x21, 0x3d])
  for (let index = 0; index < data.length; index++) data[index] ^= key[index & 3]
  return Buffer.concat([head, key, data])
}

export const TEXT = 1
export const BINARY = 2
export const CONTINUATION = 0
export const CLOSE = 8
export const PING = 9
export const PONG = 10
