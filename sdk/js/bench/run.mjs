// The SDK beside other clients, in one run: `npm ci && node run.mjs` in this folder, after `npm run build` of the SDK.
//
// Prints a table of the gzipped size, the time to the first message, the CPU time for 100,000 received messages in Node
// and the time until a client is back after its server was away for a second: medians of interleaved rounds, with small
// servers (servers.mjs) that send all of them the same at the same pace. Only ratios of one run say something: the
// machine matters. `--rounds N`, `--only KIND`; PROF=1 writes CPU profiles of the clients.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'
import { kinds, smallServer } from './servers.mjs'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '5' }, only: { type: 'string' } },
})
const ROUNDS = Number(options.rounds)
const MESSAGES = 100_000
const WARM = 30_000
/** A way there and back, for the first message. */
const DELAY_MS = 50
const AWAY_MS = 1_000

const at = path => fileURLToPath(new URL(path, import.meta.url))
const BUNDLES = {
  fanfare: `import { createClient } from '${at('../packages/client/dist/esm/index.js')}'; console.log(createClient)`,
  centrifuge: `import { Centrifuge } from 'centrifuge'; console.log(Centrifuge)`,
  'socket.io-client': `import { io } from 'socket.io-client'; console.log(io)`,
  'pusher-js': `import Pusher from 'pusher-js'; console.log(Pusher)`,
  partysocket: `import { WebSocket } from 'partysocket'; console.log(WebSocket)`,
}

async function sizeOf(kind) {
  if (!BUNDLES[kind]) return 0
  const common = { bundle: true, minify: true, write: false, format: 'esm', target: 'es2022', platform: 'browser' }
  const { outputFiles } = await build({ stdin: { contents: BUNDLES[kind], resolveDir: at('.') }, ...common })
  return gzipSync(outputFiles[0].contents, { level: 9 }).length
}

const median = all => all.toSorted((a, b) => a - b)[all.length >> 1]
const wait = ms => new Promise(done => setTimeout(done, ms))

function client(kind, port) {
  const child = fork(at('client.mjs'), [kind, port], { execArgv: process.env.PROF ? ['--cpu-prof'] : [] })
  const messages = []
  const waiting = []
  child.on('message', message => {
    const place = waiting.findIndex(({ name }) => name in message)
    if (place < 0) messages.push(message)
    else {
      const [{ name, done }] = waiting.splice(place, 1)
      done(message[name])
    }
  })
  return {
    /** The next message with this field. */
    next(name) {
      const place = messages.findIndex(message => name in message)
      if (place >= 0) return Promise.resolve(messages.splice(place, 1)[0][name])
      return new Promise(done => waiting.push({ name, done }))
    },
    count: count => child.send({ count }),
    async end() {
      child.disconnect()
      await once(child, 'exit')
    },
  }
}

async function first(kind) {
  const server = smallServer(kind, { delay: DELAY_MS })
  const port = await server.listen()
  const subscribed = server.subscription().then(() => server.first())
  const one = client(kind, port)
  await subscribed
  const ms = await one.next('first')
  await one.end()
  await server.close()
  return ms
}

async function cpu(kind) {
  const server = smallServer(kind)
  const port = await server.listen()
  const subscribed = server.subscription()
  const one = client(kind, port)
  await subscribed
  await server.flood(1, WARM - 1)
  one.count(MESSAGES + 1)
  await one.next('counts')
  // One that comes after the last of the warm-up has been handed over begins the time anew.
  await server.flood(WARM, 1)
  await server.flood(WARM + 1, MESSAGES)
  const used = await one.next('cpu')
  await one.end()
  await server.close()
  return used / 1000
}

async function reconnect(kind) {
  const server = smallServer(kind)
  const port = await server.listen()
  const subscribed = server.subscription()
  const one = client(kind, port)
  await subscribed
  server.first()
  await one.next('first')
  await server.close()
  await wait(AWAY_MS)
  await server.listen(port)
  const began = performance.now()
  await one.next('back')
  const ms = performance.now() - began
  await one.end()
  await server.close()
  return ms
}

const rows = Object.fromEntries(
  kinds.filter(kind => !options.only || options.only === kind).map(kind => [kind, { first: [], cpu: [], back: [] }]),
)
for (let round = 0; round < ROUNDS; round++) {
  for (const [kind, row] of Object.entries(rows)) {
    row.cpu.push(await cpu(kind))
    row.first.push(await first(kind))
    if (kind !== 'floor') row.back.push(await reconnect(kind))
  }
}
console.log(`medians of ${ROUNDS} rounds, ${process.version}\n`)
console.log('| client | bytes, gzipped | CPU for 100,000 messages | of ours | first message | back after 1 s away |')
console.log('|---|---|---|---|---|---|')
const ours = median(rows.fanfare?.cpu ?? [NaN])
for (const [kind, row] of Object.entries(rows)) {
  const used = median(row.cpu)
  const spread = `${Math.min(...row.cpu).toFixed(0)}–${Math.max(...row.cpu).toFixed(0)}`
  const back = row.back.length ? `${median(row.back).toFixed(0)} ms` : '–'
  const size = (await sizeOf(kind)) || '–'
  const first = `${median(row.first).toFixed(0)} ms`
  const cells = [size, `${used.toFixed(0)} ms (${spread})`, (used / ours).toFixed(2), first, back]
  console.log(`| ${kind} | ${cells.join(' | ')} |`)
}
