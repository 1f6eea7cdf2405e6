// Starts and stops an example of the library, beside the binary under test.
//
// In: FANFARE_BIN as in server.mjs; cargo has built the examples into `examples/` beside it. Out: `startExample(name)`
// → a running program on a free port of the loopback, which accepts connections.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const BIN = process.env.FANFARE_BIN ?? fileURLToPath(new URL('../../../target/debug/fanfare', import.meta.url))

export async function startExample(name, env = {}) {
  const port = await freePort()
  const program = join(dirname(BIN), 'examples', name)
  const child = spawn(program, [`127.0.0.1:${port}`], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  process.once('exit', () => child.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', chunk => (output += chunk))
  const ended = new Promise((_, reject) => {
    child.once('error', error => reject(new Error(`${program} cannot be started: ${error.message}`)))
    child.once('exit', code => reject(new Error(`${program} ended (${code}):\n${output}`)))
  })
  ended.catch(() => {}) // it is looked at while the program starts
  await Promise.race([ended, listens(port)])
  const closed = new Promise(done => child.once('close', done)) // with all of its output
  const end = signal => (child.kill(signal), closed)
  return {
    url: `http://127.0.0.1:${port}`,
    get output() {
      return output
    },
    /** Ends it as an operator does. */
    terminate: () => end('SIGINT'),
    stop: () => end('SIGKILL'),
  }
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** Ready when the port accepts a connection. Each refusal is an event, after which it is tried again. */
async function listens(port) {
  for (;;) {
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return
    } catch {
      await new Promise(setImmediate)
    } finally {
      socket.destroy()
    }
  }
}
