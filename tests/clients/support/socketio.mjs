// What tests do with clients of `socket.io-client`, of any version: wait for events, and join a room.

import { once } from 'node:events'

/** The first argument of the next event of this name. */
export const next = async (client, name) => (await once(client, name))[0]

/** The first argument of the next event of this name for which `is` holds. */
function nextFor(client, name, is) {
  return new Promise(resolve => {
    const listener = data => {
      if (!is(data)) return
      client.off(name, listener)
      resolve(data)
    }
    client.on(name, listener)
  })
}

/** The first argument of the next event of this name that has this field. */
export const nextWith = (client, name, field) => nextFor(client, name, data => data?.[field] !== undefined)

/** Joins a room of the built-in events; returns when the client's own message came back. */
export async function join(client, room) {
  const mine = nextFor(client, 'message', data => data?.joined === client.id)
  client.emit('join-room', room)
  client.emit('message', { joined: client.id })
  await mine
}
