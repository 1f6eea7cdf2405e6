// A chat client for tests, on the `ws` package: frames arrive in a queue and are taken off it one at a time.
//
// `next()` waits for the next frame of any kind, so a test that takes frames one after another states their order and
// that no other came between. `expectSilence(…)` proves that nothing is under way without a wait: the server does
// something whose effect must come after it.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import WebSocket from 'ws'

export class ChatClient {
  #frames = []
  #waiting = []
  #closed = null

  static async open(url, options) {
    const socket = new WebSocket(url, options)
    const client = new ChatClient(socket)
    await once(socket, 'open')
    return client
  }

  /** Opens, joins, and takes the two frames that a newcomer gets. */
  static async join(url, userId, roomId, username = userId) {
    const client = await ChatClient.open(url)
    client.userId = userId
    client.room = roomId
    client.send({ type: 'join', userId, username, ...(roomId === undefined ? {} : { roomId }), timestamp: Date.now() })
    await client.expect('join', { userId, username })
    client.state = await client.expect('room_state')
    return client
  }

  constructor(socket) {
    this.socket = socket
    this.closed = new Promise(resolve =>
      socket.once('close', (code, reason) => {
        this.#closed = { code, reason: reason.toString() }
        resolve(this.#closed)
        for (const { reject } of this.#waiting.splice(0)) reject(new Error(`closed with ${code} while a frame was awaited`))
      }),
    )
    socket.on('error', () => {}) // `close` follows and says why
    socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false, 'chat frames are text')
      const frame = JSON.parse(data.toString())
      const next = this.#waiting.shift()
      if (next) next.resolve(frame)
      else this.#frames.push(frame)
    })
  }

  send(message) {
    this.socket.send(typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message))
  }

  say(content, more = {}) {
    this.send({ type: 'message', userId: this.userId, username: this.userId, content, timestamp: Date.now(), ...more })
  }

  next() {
    if (this.#frames.length > 0) return Promise.resolve(this.#frames.shift())
    if (this.#closed) return Promise.reject(new Error(`closed with ${this.#closed.code} while a frame was awaited`))
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  /** The next frame must be of this type and hold these values. */
  async expect(type, values = {}) {
    const frame = await this.next()
    assert.equal(frame.type, type, `expected ${type}, got ${JSON.stringify(frame).slice(0, 300)}`)
    for (const [key, value] of Object.entries(values)) assert.deepEqual(frame[key], value, `${key} of ${JSON.stringify(frame).slice(0, 300)}`)
    return frame
  }

  /** The next frame of this type with these values, whatever comes before it. */
  async until(type, values = {}) {
    for (;;) {
      const frame = await this.next()
      if (frame.type === type && Object.entries(values).every(([key, value]) => frame[key] === value)) return frame
    }
  }

  /** Sends a message of its own and has it as the very next frame: nothing else was under way to this client. */
  async expectSilence() {
    const content = `marker ${Math.random()}`
    this.say(content)
    await this.expect('message', { content, userId: this.userId })
  }

  /** Closes in good order and waits for it to be over. */
  async close(code = 1000) {
    this.socket.close(code)
    return this.closed
  }
}

let rooms = 0
/** A room that no other test uses. */
export const freshRoom = () => `room-${process.pid}-${++rooms}`

/** Two new clients can chat on this server: it is alive and unharmed. */
export async function stillChats(url) {
  const room = freshRoom()
  const ann = await ChatClient.join(url, 'ann', room)
  const bob = await ChatClient.join(url, 'bob', room)
  await ann.expect('join', { userId: 'bob' })
  bob.say('still here?')
  await ann.expect('message', { content: 'still here?', userId: 'bob' })
  await Promise.all([ann.close(), bob.close()])
}
