// The chat that every WebSocket peer serves: the members of each room, and the messages that the server makes.
//
// Semantics of Fanfare's chat protocol: a join goes to everyone in the room, then the newcomer gets `room_state`; a
// message goes to everyone in the room, sender included, with the joined identity and the server's time. Each server
// sends the bytes to the members in its own way (`cast`), because the benchmark compares that.

/** @typedef {{ room: string | null, userId: string, username: string }} Member what a server keeps for a connection */

export class Chat {
  /** @type {Map<string, Map<object, Member>>} */
  rooms = new Map()

  /**
   * @param {{ enter(conn, room): void, leave(conn, room): void,
   *           toRoom(conn, room, text): void, toOthers(conn, room, text): void, toOne(conn, text): void }} cast
   */
  constructor(cast) {
    this.cast = cast
  }

  /** A new connection's state, before it has joined. */
  static member() {
    return { room: null, userId: '', username: '' }
  }

  handle(conn, member, text) {
    let message
    try {
      message = JSON.parse(text)
    } catch {
      return
    }
    switch (message.type) {
      case 'join':
        return this.#join(conn, member, message)
      case 'message':
        if (member.room === null || typeof message.content !== 'string') return
        return this.cast.toRoom(conn, member.room, stamped('message', member, message.content))
      case 'typing':
        if (member.room === null) return
        return this.cast.toOthers(conn, member.room, stamped('typing', member))
      case 'leave':
        return this.closed(conn, member)
    }
  }

  closed(conn, member) {
    const room = member.room
    if (room === null) return
    member.room = null
    const members = this.rooms.get(room)
    members.delete(conn)
    if (members.size === 0) this.rooms.delete(room)
    this.cast.leave(conn, room)
    this.cast.toOthers(conn, room, stamped('leave', member))
  }

  #join(conn, member, { userId, username, roomId = 'general' }) {
    if (typeof userId !== 'string' || typeof username !== 'string' || typeof roomId !== 'string') return
    this.closed(conn, member)
    member.room = roomId
    member.userId = userId
    member.username = username
    let members = this.rooms.get(roomId)
    if (!members) this.rooms.set(roomId, (members = new Map()))
    members.set(conn, member)
    this.cast.enter(conn, roomId)
    this.cast.toRoom(conn, roomId, stamped('join', member))
    const users = []
    for (const other of members.values()) {
      if (other.userId !== userId) users.push({ userId: other.userId, username: other.username })
    }
    this.cast.toOne(conn, JSON.stringify({ type: 'room_state', users, timestamp: Date.now() }))
  }
}

function stamped(type, { userId, username }, content) {
  return JSON.stringify({ type, userId, username, content, timestamp: Date.now() })
}

/** `node server.js chat 127.0.0.1:9000` → `{ mode, hostname, port }`; `more` modes than the two that all know. */
export function args(argv, ...more) {
  const [mode, address = ''] = argv
  const [hostname, port] = address.split(':')
  if (!['chat', 'echo', ...more].includes(mode) || !port) {
    console.error(`usage: (${['chat', 'echo', ...more].join(' | ')}) HOST:PORT`)
    process.exit(1)
  }
  return { mode, hostname, port: Number(port) }
}
