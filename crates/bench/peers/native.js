// As much of Fanfare's native protocol as a publication to subscribers needs, for Bun: connect with subscriptions,
// publish.
//
// A channel numbers its publications and keeps the newest 100, as Fanfare's does. A subscriber gets a newly stringified
// `message` with the publisher's client id and the server's time; the publisher also gets `published`.

const HISTORY = 100

export class Native {
  channels = new Map()
  epoch = id()

  /** @param {{ enter(conn, channel): void, leave(conn, channel): void, toAll(channel, text): void, toOne(conn, text): void }} cast */
  constructor(cast) {
    this.cast = cast
  }

  /** A new connection's state. */
  static member() {
    return { client: id(), channels: new Set() }
  }

  handle(conn, member, text) {
    let command
    try {
      command = JSON.parse(text)
    } catch {
      return
    }
    switch (command.type) {
      case 'connect':
        this.#reply(conn, { type: 'connected', id: command.id, client: member.client, session_resumed: false, ticket: id() })
        for (const { channel } of command.subscribe ?? []) this.#subscribe(conn, member, channel)
        return
      case 'publish':
        if (typeof command.channel !== 'string' || command.data === undefined) return
        return this.#publish(conn, member, command)
    }
  }

  closed(conn, member) {
    for (const name of member.channels) this.cast.leave(conn, name)
    member.channels.clear()
  }

  #subscribe(conn, member, name) {
    if (typeof name !== 'string') return
    member.channels.add(name)
    this.cast.enter(conn, name)
    const { offset } = this.#channel(name)
    this.#reply(conn, { type: 'subscribed', channel: name, epoch: this.epoch, offset, publications: [] })
  }

  #publish(conn, member, { id, channel: name, data }) {
    const channel = this.#channel(name)
    channel.offset += 1
    const publication = { offset: channel.offset, data, from: { client: member.client }, ts: Date.now() }
    channel.history[channel.offset % HISTORY] = publication
    if (id !== undefined) this.#reply(conn, { type: 'published', id, epoch: this.epoch, offset: channel.offset })
    this.cast.toAll(name, JSON.stringify({ type: 'message', channel: name, ...publication }))
  }

  #channel(name) {
    let channel = this.channels.get(name)
    if (!channel) this.channels.set(name, (channel = { offset: 0, history: [] }))
    return channel
  }

  #reply(conn, reply) {
    this.cast.toOne(conn, JSON.stringify(reply))
  }
}

/** 16 hexadecimal digits, as Fanfare's ids are. */
function id() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, '0')).join('')
}
