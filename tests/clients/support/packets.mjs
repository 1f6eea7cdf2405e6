// Sockets of the namespace `/` by hand, for the suites of Socket.IO: each packet is written and read as it is.

import assert from 'node:assert/strict'
import { Frames, Poller } from './engineio.mjs'

/** The JSON of a packet. */
export const json = packet => JSON.parse(packet.slice(packet.search(/[[{]/)))

/** The data of an event: its first argument. */
export const said = packet => json(packet)[1]

/** A WebSocket in the namespace `/` and the room `room`: its own message has come back, as `joined` with its id. */
export async function joined(port, room) {
  const frames = await Frames.session(port)
  frames.send('40')
  const connected = await frames.next()
  assert.match(connected, /^40\{"sid":/)
  const joined = JSON.stringify(json(connected).sid)
  frames.send(`42["join-room",${JSON.stringify(room)}]`)
  frames.send(`42["message",{"joined":${joined}}]`)
  while (!(await frames.next()).includes(`"joined":${joined}`)) {}
  return frames
}

/** A session by polling in the namespace `/`. */
export async function enteredByPolling(port) {
  const session = await Poller.open(port)
  await session.send('40')
  assert.match(await session.next(), /^40\{"sid":/)
  return session
}

/** The same in the room `room`, with nothing to take. */
export async function joinedByPolling(port, room) {
  const session = await enteredByPolling(port)
  await session.send(`42["join-room",${JSON.stringify(room)}]`, '42["message",{"joined":true}]')
  while (!(await session.next()).includes('"joined":true')) {}
  return session
}

/** A WebSocket in the namespace `/`, where the handlers of the suites have said `auth`. */
export async function connect(port, auth = {}) {
  const frames = await Frames.session(port)
  frames.send(`40${JSON.stringify(auth)}`)
  const connected = await frames.next()
  assert.match(connected, /^40\{"sid":/)
  Object.assign(frames, { id: json(connected).sid, pid: json(connected).pid })
  assert.match(await frames.next(), /^42\["auth",/)
  return frames
}

/** Sends an event, waits for its ack, and gives the ack's arguments. Nothing else may come before it. */
export async function ask(frames, ...event) {
  frames.send(`4277${JSON.stringify(event)}`)
  const ack = await frames.next()
  assert.match(ack ?? 'the end', /^4377\[/)
  return json(ack)
}
