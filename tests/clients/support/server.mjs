// Starts and stops the server under test.
//
// In: FANFARE_BIN (default ../../target/debug/fanfare), FANFARE_SHARDS (default 1). Out: `startServer()` → a running
// `fanfare dev` on a free port of the loopback, which has printed that it listens; `restart()` starts it again on the
// same port. Nothing here waits for a time to pass: the line "listening on http://…" and the process's exit are events.

import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'

const BIN = process.env.FANFARE_BIN ?? fileURLToPath(new URL('../../../target/debug/fanfare', import.meta.url))
const SHARDS = process.env.FANFARE_SHARDS ?? '1'
// To the end of the line: the output so far may stop within the port.
const LISTENING = /listening on (https?:\/\/\S+)\n/

/** A busy machine is no overload. */
export const CALM = { FANFARE__LIMITS__OVERLOAD_LAG: '0s' }
/** Tests of the native protocol send as fast as they can, and look at no refusals by rates. */
const UNLIMITED = { ...CALM }
for (const name of ['MESSAGES_PER_CONNECTION', 'BYTES_PER_CONNECTION', 'MESSAGES_PER_USER', 'BYTES_PER_USER', 'NEW_CHANNELS_PER_USER']) {
  UNLIMITED[`FANFARE__LIMITS__${name}`] = 'off'
}

/**
 * `args`: further arguments of `fanfare dev`, as texts; an object with `env` has settings by the environment. `rates:
 * 'default'`: clients have the rates that they have by default, where their protocol loses nothing by that.
 */
export async function startServer(...args) {
  const more = args.filter(arg => typeof arg === 'string')
  more.env = Object.assign({}, args.some(arg => arg.rates === 'default') ? CALM : UNLIMITED, ...args.map(arg => arg.env))
  let run = await launchOnFreePort(more)
  return {
    /** `http://127.0.0.1:PORT` */
    get url() {
      return run.url
    },
    get ws() {
      return run.url.replace(/^http/, 'ws') + '/'
    },
    get port() {
      return Number(new URL(run.url).port)
    },
    /** Everything the process has said since it was started: for the message of a failed test. */
    get output() {
      return run.output()
    },
    get isRunning() {
      return run.child.exitCode === null && run.child.signalCode === null
    },
    /** The most memory that the process has ever had resident; null where the system does not tell (it is Linux's word). */
    async peakBytes() {
      const status = await readFile(`/proc/${run.child.pid}/status`, 'utf8').catch(() => '')
      const kib = /^VmHWM:\s+(\d+) kB$/m.exec(status)
      return kib === null ? null : Number(kib[1]) * 1024
    },
    /** Ends it as an operator does; gives its exit `{ code, signal }`. */
    async stop() {
      return run.stop('SIGTERM')
    },
    /** As a crash would be: no drain, no goodbye. */
    async kill() {
      await run.stop('SIGKILL')
    },
    /** Stops answering without closing anything, as a hung machine does; `resume` ends it. */
    pause() {
      run.child.kill('SIGSTOP')
    },
    resume() {
      run.child.kill('SIGCONT')
    },
    /** Starts again on the same port; `stop` or `kill` it first. */
    async start() {
      run = await launch(new URL(run.url).host, more)
    },
  }
}

/**
 * On a port below those that the system gives to outgoing connections (32768 and up on Linux): while the server is away,
 * a connection of somebody else could take one of those, and the server could not come back.
 */
async function launchOnFreePort(more, tries = 20) {
  const port = 20_000 + Math.floor(Math.random() * 12_000)
  try {
    return await launch(`127.0.0.1:${port}`, more)
  } catch (error) {
    if (tries === 1 || !/in use/i.test(error.message)) throw error
    return launchOnFreePort(more, tries - 1)
  }
}

/** Starts one that is expected to end by itself: its exit code and what it said. */
export function runServer(...args) {
  return new Promise((resolve, reject) => {
    const child = spawn(BIN, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    process.once('exit', () => child.kill('SIGKILL'))
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', chunk => (stdout += chunk))
    child.stderr.on('data', chunk => (stderr += chunk))
    child.once('error', reject)
    child.once('close', code => resolve({ code, stdout, stderr }))
  })
}

function launch(listen, more) {
  return new Promise((resolve, reject) => {
    const child = spawn(BIN, ['dev', '--listen', listen, '--shards', SHARDS, ...more], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...more.env } })
    const chunks = []
    const output = () => Buffer.concat(chunks).toString()
    const exited = new Promise(done => child.once('exit', (code, signal) => done({ code, signal })))
    const stop = async signal => {
      child.kill(signal)
      return exited
    }
    let known = false
    const listener = chunk => {
      // The pipes are read until the process ends: a full one would block the server. Only the first 1 MiB is kept.
      if (chunks.length < 256) chunks.push(chunk)
      if (known) return
      const match = LISTENING.exec(output())
      if (match === null) return
      known = true
      resolve({ url: match[1].replace(/\/$/, ''), child, output, stop })
    }
    child.stdout.on('data', listener)
    child.stderr.on('data', listener)
    child.once('error', error => reject(new Error(`${BIN} cannot be started (set FANFARE_BIN): ${error.message}`)))
    exited.then(({ code, signal }) => {
      if (!known) reject(new Error(`${BIN} ended (${signal ?? `exit ${code}`}) before it listened:\n${output()}`))
    })
    // No server is left behind when a test fails.
    process.once('exit', () => child.kill('SIGKILL'))
  })
}
