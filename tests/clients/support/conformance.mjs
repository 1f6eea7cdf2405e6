// The servers that the conformance suites run against: the reference (`socket.io` from npm) and Fanfare, with the same
// settings and the same handlers. A suite is written from the protocol documents, and both must pass.
//
// In: `conformance(subject, settings, suite)`, with `settings` in ms and bytes. `handlers: 'chat'` has what Fanfare has
// built in, `'all'` what handlers can do. Clients of Fanfare have the rates that they have by default, unless `rate`
// says how many messages a connection may send. Out: one `describe` for each server, whose `suite` gets a function that
// gives the port. `CONFORMANCE=node` or `fanfare` runs one of them.

import { spawn } from 'node:child_process'
import { after, before, describe } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startExample } from './example.mjs'
import { CALM, startServer } from './server.mjs'

/** A page of this origin may connect. */
export const ORIGIN = 'https://page.example'
const TEST = { timeout: 120_000 }
const NODE_SERVER = fileURLToPath(new URL('node-server.mjs', import.meta.url))

const DEFAULTS = { handlers: 'chat', parser: 'standard', pingInterval: 25_000, pingTimeout: 60_000, maxPayload: 1_000_000, connectTimeout: 45_000, upgradeTimeout: 10_000 }

export const servers = {
  node: ({ maxPayload, recovery, rate: _, ...options }) =>
    startNode({
      ...options,
      maxHttpBufferSize: maxPayload,
      cors: { origin: [ORIGIN] },
      ...(recovery !== undefined && { connectionStateRecovery: { maxDisconnectionDuration: recovery } }),
    }),
  async fanfare({ handlers, parser, pingInterval, pingTimeout, maxPayload, connectTimeout, upgradeTimeout, recovery = 0, rate }) {
    const env = {
      FANFARE__SOCKETIO__PING_INTERVAL: `${pingInterval}ms`,
      FANFARE__SOCKETIO__PING_TIMEOUT: `${pingTimeout}ms`,
      FANFARE__SOCKETIO__UPGRADE_TIMEOUT: `${upgradeTimeout}ms`,
      FANFARE__SOCKETIO__MAX_PAYLOAD: String(maxPayload),
      FANFARE__SOCKETIO__CONNECT_TIMEOUT: `${connectTimeout}ms`,
      FANFARE__SOCKETIO__PARSER: parser,
      FANFARE__SOCKETIO__MAX_DISCONNECTION_DURATION: `${recovery}ms`, // 0: as in the reference by default
      FANFARE__ORIGINS: ORIGIN,
      ...(rate !== undefined && { FANFARE__LIMITS__MESSAGES_PER_CONNECTION: rate }),
    }
    if (handlers === 'all') {
      const server = await startExample('socketio_conformance', { ...CALM, ...env })
      return Object.assign(server, { port: Number(new URL(server.url).port) })
    }
    const server = await startServer({ env, rates: 'default' })
    return server
  },
}

/** `suite(port, name, server)`: makes the tests; `port()` and `server()` are known when they run. */
export function conformance(subject, settings, suite) {
  const wanted = process.env.CONFORMANCE
  for (const [name, start] of Object.entries(servers)) {
    if (wanted !== undefined && wanted !== name) continue
    describe(`${subject}: ${name}`, TEST, () => {
      let server
      before(async () => (server = await start({ ...DEFAULTS, ...settings })), TEST)
      after(() => server?.stop(), TEST)
      suite(() => server.port, name, () => server)
    })
  }
}

/** The reference server, with options in its own words. */
export function startNode(options) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [NODE_SERVER, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] })
    process.once('exit', () => child.kill('SIGKILL'))
    const exited = new Promise(done => child.once('exit', done))
    const end = signal => (child.kill(signal), exited)
    let output = ''
    child.stdout.on('data', chunk => {
      output += chunk
      const port = /listening on \S+:(\d+)\n/.exec(output)?.[1]
      if (port === undefined) return
      resolve({
        port: Number(port),
        terminate: () => end('SIGINT'),
        stop: () => end('SIGKILL'),
      })
    })
    child.once('error', reject)
    exited.then(code => reject(new Error(`the reference server ended (${code})`)))
  })
}
