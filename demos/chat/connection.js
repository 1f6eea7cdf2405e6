// One WebSocket at a time, kept alive for as long as the page is.
//
// In: an address, and `send`. Out: `onMessage(object)`, and `onState(state)` at each change that a person should see:
//
//   { name: 'connecting' }            a socket is being opened
//   { name: 'open' }                  frames can be sent
//   { name: 'waiting', until }        lost; the next try comes at `until` (ms, `Date.now()`'s clock)
//   { name: 'refused', reason }       the server said not to come back; only `retry()` does
//
// It never gives up by itself, and many pages do not reconnect at the same time: the wait before try n is drawn evenly
// from 0 to min(30 s, 0.5 s · 2ⁿ) ("full jitter"), so a thousand pages that a restart cut off come back at different
// times. A socket that is given up loses its handlers first: its late `close` cannot disturb its successor.

export const RETRY_FIRST_MS = 500
export const RETRY_MAX_MS = 30_000

/** A connection that held this long was a good one: the next loss starts from the shortest wait again. */
const STABLE_MS = 5_000

/** The longest wait before try `attempt` (0, 1, 2…); the real one is drawn evenly below it. */
export const retryCeiling = attempt => Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(attempt, 16))

/** A peer that has not finished the handshake by now will not: the browser itself would wait for minutes. */
const OPENING_MS = 15_000

/** Close codes after which the same client would only be turned away again: policy, and Fanfare's 4500 to 4999. */
const isFinal = code => code === 1008 || (code >= 4500 && code <= 4999)

export class Connection {
  #url
  #handlers
  #random
  #socket = null
  #timer = 0
  #attempt = 0
  #openedAt = 0

  constructor(url, handlers, random = Math.random) {
    this.#url = url
    this.#handlers = handlers
    this.#random = random
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN
  }

  /** Opens a socket now, whatever the timer says. Does nothing while one is open or opening. */
  retry() {
    if (this.#socket !== null) return
    clearTimeout(this.#timer)
    this.#handlers.onState({ name: 'connecting' })
    const socket = new WebSocket(this.#url)
    this.#socket = socket
    this.#timer = setTimeout(() => this.abandon(), OPENING_MS)
    socket.onopen = () => {
      clearTimeout(this.#timer)
      this.#openedAt = Date.now()
      this.#handlers.onState({ name: 'open' })
    }
    socket.onmessage = event => {
      const message = parse(event.data)
      if (message !== null) this.#handlers.onMessage(message)
    }
    // An `error` adds nothing to the `close` that follows it.
    socket.onclose = event => this.#lost(event.code, event.reason)
  }

  /** True if the frame was handed to an open socket: not that it arrived. */
  send(message) {
    if (!this.isOpen) return false
    this.#socket.send(JSON.stringify(message))
    return true
  }

  /** Lets go of a socket that looks dead. `close()` alone would wait for the very peer that no longer answers. */
  abandon() {
    if (this.#socket === null) return
    const socket = this.#socket
    socket.onopen = socket.onmessage = socket.onclose = null
    socket.close()
    this.#lost(1006, '')
  }

  #lost(code, reason) {
    this.#socket = null
    clearTimeout(this.#timer)
    if (isFinal(code)) {
      this.#handlers.onState({ name: 'refused', reason: reason || String(code) })
      return
    }
    if (this.#openedAt !== 0 && Date.now() - this.#openedAt > STABLE_MS) this.#attempt = 0
    this.#openedAt = 0
    const wait = this.#random() * retryCeiling(this.#attempt)
    this.#attempt += 1
    // Also when the browser believes that it is offline: `onLine` is wrong on many a VPN and never right about
    // localhost.
    this.#timer = setTimeout(() => this.retry(), wait)
    this.#handlers.onState({ name: 'waiting', until: Date.now() + wait })
  }
}

function parse(data) {
  try {
    const message = JSON.parse(data)
    return typeof message === 'object' && message !== null ? message : null
  } catch {
    return null
  }
}
