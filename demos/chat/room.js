// The state of the current room: its members and those who are typing. This file knows no page and no socket.
//
// In: the server's frames, already parsed, one at a time. Out: what to show, as the return value of `handle`:
//
//   { show: 'entered' } the room's state came: we are in { show: 'message', userId, username, content, timestamp, own
//   } { show: 'joined' | 'left', userId, username } somebody else has come, or is gone with their last connection
//   null nothing to add to the log (the lists may have changed all the same)
//
// The server sends `join` for every connection (a second tab, a new one after a broken network) and `leave` only for a
// person's last one; its `room_state` names each person once. So nothing is counted here.
//
// Only people who have joined are members. A message does not prove that: an application publishes into a room by the
// HTTP API, and a native client may send a message without having entered.

/** A typing note with no successor fades after this time; senders repeat it every `TYPING_SEND_MS`. */
export const TYPING_SHOWN_MS = 5_000
export const TYPING_SEND_MS = 2_000

/** Room names travel in a channel name, where these characters take three bytes each. */
export const ROOM_BYTES_MAX = 200
export const roomBytes = room => new TextEncoder().encode(room.replace(/[\p{C}\p{Z}\s*?,+#{}:%@$]/gu, '%00')).length

/** The room that an address names: `#general`. An empty or unreadable one is the general room. */
export function roomOfHash(hash) {
  let room = hash.replace(/^#/, '')
  try {
    room = decodeURIComponent(room)
  } catch {
    // A stray % in a hand-written address: use it as it stands.
  }
  return cleanRoom(room) || 'general'
}

export const hashOfRoom = room => '#' + encodeURIComponent(room)

/** Names as people type them: with a leading # and spaces around, and never with control characters. */
export const cleanRoom = text => text.replace(/\p{Cc}/gu, '').trim().replace(/^#+/, '').trim()

export class Room {
  #userId
  #people = new Map() // userId → username
  #typing = new Map() // userId → { username, until }
  #familiar = new Set() // the members before the connection broke: their return is not shown

  constructor(userId) {
    this.#userId = userId
  }

  /** Everybody else, in the order of their names. */
  people(locale) {
    const { compare } = new Intl.Collator(locale)
    return [...this.#people].map(([userId, username]) => ({ userId, username })).sort((a, b) => compare(a.username, b.username))
  }

  typing(now) {
    for (const [userId, { until }] of this.#typing) if (until <= now) this.#typing.delete(userId)
    return [...this.#typing.values()].map(({ username }) => username)
  }

  /** The connection broke: what we knew is old, but not forgotten. */
  interrupted() {
    for (const userId of this.#people.keys()) this.#familiar.add(userId)
    this.#people.clear()
    this.#typing.clear()
  }

  handle(frame, now) {
    if (frame.type === 'room_state') return this.#entered(frame)
    if (typeof frame.userId !== 'string' || typeof frame.username !== 'string') return null
    const { userId, username } = frame
    const own = userId === this.#userId
    switch (frame.type) {
      case 'message':
        if (typeof frame.content !== 'string') return null
        this.#typing.delete(userId)
        return { show: 'message', userId, username, content: frame.content, timestamp: Number.isFinite(frame.timestamp) ? frame.timestamp : now, own }
      case 'typing':
        if (own) return null
        this.#typing.set(userId, { username, until: now + TYPING_SHOWN_MS })
        return null
      case 'join':
        return own ? null : this.#joined(userId, username)
      case 'leave':
        return own ? null : this.#left(userId, username)
      default:
        return null
    }
  }

  #entered(frame) {
    this.#people.clear()
    for (const user of Array.isArray(frame.users) ? frame.users : []) {
      if (typeof user?.userId === 'string' && typeof user.username === 'string' && user.userId !== this.#userId) this.#people.set(user.userId, user.username)
    }
    for (const userId of this.#people.keys()) this.#familiar.delete(userId)
    return { show: 'entered' }
  }

  #joined(userId, username) {
    const returned = this.#familiar.delete(userId)
    const news = !this.#people.has(userId) && !returned
    this.#people.set(userId, username)
    return news ? { show: 'joined', userId, username } : null
  }

  #left(userId, username) {
    this.#typing.delete(userId)
    return this.#people.delete(userId) ? { show: 'left', userId, username } : null
  }
}
