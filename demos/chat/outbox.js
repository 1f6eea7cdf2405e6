// The messages that were written here and whose copies have not come back yet.
//
// The chat protocol has no acknowledgement, but the sender gets a copy of each message: that copy is the proof. Until
// it comes, an entry is
//
//   queued    not sent: there was no connection, or it belongs to another room; sent by itself when we are (back) there
//   pending   sent on the present connection, copy not seen yet
//   unsure    sent on a connection that broke: it may have arrived, so only the writer may decide to send it again
//
// An entry leaves this list only when its copy comes or its writer removes it. The list survives a reload of the tab
// (`storage`).

const KEY = 'fanfare.chat.outbox'

export class Outbox {
  #entries
  #storage
  #onChange
  #next = 1

  constructor(storage, onChange) {
    this.#storage = storage
    this.#onChange = onChange
    // The page that was sending has gone, and its connection too.
    this.#entries = restore(storage).map(({ room, content, state }) => ({ id: this.#next++, room, content, state: state === 'queued' ? 'queued' : 'unsure' }))
  }

  inRoom(room) {
    return this.#entries.filter(entry => entry.room === room)
  }

  add(room, content) {
    this.#entries.push({ id: this.#next++, room, content, state: 'queued', since: 0 })
    this.#changed()
  }

  /** Hands every queued entry of `room` to `transmit`, oldest first, until it says that it cannot. */
  flush(room, transmit) {
    for (const entry of this.#entries) {
      if (entry.room !== room || entry.state !== 'queued') continue
      if (!transmit(entry.content)) break
      entry.state = 'pending'
      entry.since = Date.now()
    }
    this.#changed()
  }

  /** A copy of one's own message came back. Copies come in the order sent, so the oldest with these words is meant. */
  confirm(room, content) {
    const index = this.#entries.findIndex(entry => entry.state === 'pending' && entry.room === room && entry.content === content)
    if (index < 0) return false
    this.#entries.splice(index, 1)
    this.#changed()
    return true
  }

  /** The connection or the room was left: what was under way can no longer be confirmed. */
  unsettle() {
    for (const entry of this.#entries) if (entry.state === 'pending') entry.state = 'unsure'
    this.#changed()
  }

  sendAgain(id) {
    const index = this.#entries.findIndex(entry => entry.id === id)
    if (index < 0) return
    const [entry] = this.#entries.splice(index, 1)
    this.#entries.push({ ...entry, state: 'queued' })
    this.#changed()
  }

  discard(id) {
    this.#entries = this.#entries.filter(entry => entry.id !== id)
    this.#changed()
  }

  /** When the oldest pending entry was sent, or null: silence for long after it means a dead connection. */
  oldestPendingSince() {
    const entry = this.#entries.find(entry => entry.state === 'pending')
    return entry ? entry.since : null
  }

  #changed() {
    this.#storage.set(KEY, JSON.stringify(this.#entries.map(({ room, content, state }) => ({ room, content, state }))))
    this.#onChange()
  }
}

function restore(storage) {
  try {
    const list = JSON.parse(storage.get(KEY) ?? '[]')
    return Array.isArray(list) ? list.filter(entry => typeof entry?.room === 'string' && typeof entry?.content === 'string') : []
  } catch {
    return []
  }
}
