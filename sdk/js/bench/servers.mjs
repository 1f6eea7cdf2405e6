// Small servers in the words of each client: just enough to connect, subscribe, and be sent messages.
//
// In: a kind. Out: `listen(port)`, `flood(count)` to the one client, `close()`. Each answer of a server waits for
// `delay` ms, the time of a way there and back. A flood is the same for all: bursts of 50 frames, a message in each, as
// long as little waits in the socket. `fanfare` here is such a small server too, so that all have the same pace.

import { once } from 'node:events'
import { WebSocketServer } from 'ws'

const BURST = 50
const BACKLOG_MAX = 1 << 18

const payload = n => ({ id: n, user: 'ada', text: 'Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do' })

/** By kind: the answers to what the client says, and the text of message `n`. */
const KINDS = {
  fanfare: {
    hear({ type, id, subscribe = [] }) {
      if (type !== 'connect') return []
      const limits = { message_bytes: 65536, subscriptions: 128 }
      const session = { client: 'c1', session_resumed: false, ticket: 't', ping: 25000, protocol: 'fanfare.v1' }
      return [
        { type: 'connected', id, ...session, limits },
        ...subscribe.map(({ channel }) => ({ type: 'subscribed', channel, epoch: 'e', offset: 0, publications: [] })),
      ]
    },
    isSubscribed: ({ subscribe }) => subscribe?.length > 0,
    message: n =>
      `{"type":"message","channel":"bench","offset":${n},"data":${JSON.stringify(payload(n))},` +
      `"from":{"client":"c2"},"ts":1790000000000}`,
  },
  centrifuge: {
    hear({ id, connect, subscribe }) {
      if (connect) return [{ id, connect: { client: 'c1', version: '0', ping: 25, pong: true } }]
      if (subscribe) return [{ id, subscribe: { recoverable: true, positioned: true, epoch: 'e' } }]
      return []
    },
    isSubscribed: ({ subscribe }) => subscribe !== undefined,
    message: n =>
      `{"push":{"channel":"bench","pub":{"data":${JSON.stringify(payload(n))},"offset":${n},` +
      `"info":{"client":"c2"},"time":1790000000000}}}`,
  },
  'socket.io-client': {
    greet: () => ['0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'],
    hear: text => (text === '40' ? ['40{"sid":"s1"}'] : []),
    isSubscribed: text => text === '40',
    message: n => `42${JSON.stringify(['message', payload(n)])}`,
  },
  'pusher-js': {
    greet: () => [pusher('pusher:connection_established', { socket_id: '1.1', activity_timeout: 120 })],
    hear: ({ event }) =>
      event === 'pusher:subscribe' ? [pusher('pusher_internal:subscription_succeeded', {}, 'bench')] : [],
    isSubscribed: ({ event }) => event === 'pusher:subscribe',
    message: n => pusher('message', payload(n), 'bench'),
  },
  // A socket that comes back, and no protocol: the application parses.
  partysocket: { greet: () => [], hear: () => [], isSubscribed: () => true, message: n => JSON.stringify(payload(n)) },
}
// The same without a client: what receiving and parsing alone cost.
KINDS.floor = KINDS.partysocket

function pusher(event, data, channel) {
  return JSON.stringify({ event, ...(channel && { channel }), data: JSON.stringify(data) })
}

export const kinds = Object.keys(KINDS)

export function smallServer(kind, { delay = 0 } = {}) {
  const { greet, hear, isSubscribed, message } = KINDS[kind]
  let server
  let client
  let subscribed = () => {}
  const later = run => (delay ? setTimeout(run, delay) : run())
  const say = (socket, answers) => answers.forEach(it => socket.send(typeof it === 'string' ? it : JSON.stringify(it)))
  return {
    /** Resolves with the port. */
    async listen(port = 0) {
      server = new WebSocketServer({ port, host: '127.0.0.1', perMessageDeflate: false })
      await once(server, 'listening')
      server.on('connection', socket => {
        client = socket
        socket.on('error', () => {})
        if (greet) later(() => say(socket, greet()))
        if (kind === 'partysocket' || kind === 'floor') subscribed()
        socket.on('message', data => {
          for (const text of String(data).split('\n')) {
            const command = /^[{[]/.test(text) ? JSON.parse(text) : text
            later(() => {
              say(socket, hear(command))
              if (isSubscribed(command)) subscribed()
            })
          }
        })
      })
      return server.address().port
    },
    /** The next time that a client has subscribed. */
    subscription: () => new Promise(done => (subscribed = done)),
    first: () => client.send(message(1)),
    /** Messages `from` to `from + count - 1`. */
    flood(from, count) {
      return new Promise(done => {
        let at = from
        const step = () => {
          for (let i = 0; i < BURST && at < from + count; i++) client.send(message(at++))
          if (at === from + count) return done()
          const wait = () => (client.bufferedAmount > BACKLOG_MAX ? setTimeout(wait, 1) : setImmediate(step))
          wait()
        }
        step()
      })
    },
    async close() {
      for (const socket of server.clients) socket.terminate()
      server.close()
      await once(server, 'close')
    },
  }
}
