// One client in a process of its own: `node client.mjs KIND PORT`, told what to do by messages of its parent.
//
// `count N`: answers with the CPU time (µs) that this process takes until N messages have been handed over. Tells
// `first` with the ms since it was begun, and `back` each time that it is subscribed again. Modules are loaded before
// the time begins.

import WebSocket from 'ws'

const [kind, port] = process.argv.slice(2)
const url = `ws://127.0.0.1:${port}`
globalThis.WebSocket = WebSocket

let got = 0
let began = 0
let lives = 0
let target
/** What an application does with a message: next to nothing. */
let sum = 0
function handle(data) {
  sum += data.id + data.text.length
  if (++got === 1) process.send({ first: performance.now() - began })
  if (target && got === target.got) {
    const { user, system } = process.cpuUsage(target.usage)
    process.send({ cpu: user + system, sum })
    target = undefined
  }
}
const subscribed = () => lives++ > 0 && process.send({ back: true })

const CLIENTS = {
  async fanfare() {
    const { createClient } = await import('../packages/client/dist/esm/index.js')
    return () =>
      createClient({ url: `http://127.0.0.1:${port}`, env: { WebSocket } })
        .channel('bench')
        .subscribe({ message: message => handle(message.data), subscribed })
  },
  async centrifuge() {
    const { Centrifuge } = await import('centrifuge')
    return () => {
      const client = new Centrifuge(url, { websocket: WebSocket })
      const subscription = client.newSubscription('bench', { recoverable: true, positioned: true })
      subscription.on('publication', ({ data }) => handle(data)).on('subscribed', subscribed)
      subscription.subscribe()
      client.connect()
    }
  },
  async 'socket.io-client'() {
    const { io } = await import('socket.io-client')
    return () => io(url, { transports: ['websocket'] }).on('message', handle).on('connect', subscribed)
  },
  async 'pusher-js'() {
    // Its build for workers takes the global `WebSocket`, as all others here do.
    globalThis.self = globalThis
    globalThis.addEventListener ??= () => {}
    const { default: Pusher } = await import('pusher-js/worker/index.js')
    return () => {
      const server = { cluster: '', wsHost: '127.0.0.1', wsPort: Number(port), forceTLS: false }
      const channel = new Pusher('key', { ...server, enabledTransports: ['ws'], enableStats: false }).subscribe('bench')
      channel.bind('message', handle)
      channel.bind('pusher:subscription_succeeded', subscribed)
    }
  },
  async partysocket() {
    const { WebSocket: ReconnectingSocket } = await import('partysocket')
    return () => {
      const socket = new ReconnectingSocket(url, [], { WebSocket })
      socket.addEventListener('message', ({ data }) => handle(JSON.parse(data)))
      socket.addEventListener('open', subscribed)
    }
  },
  async floor() {
    return () => (new WebSocket(url).onmessage = ({ data }) => handle(JSON.parse(data)))
  },
}

const open = await CLIENTS[kind]()
process.on('message', ({ count }) => {
  target = { got: got + count, usage: process.cpuUsage() }
  process.send({ counts: true })
})
process.on('disconnect', () => process.exit())
began = performance.now()
open()
