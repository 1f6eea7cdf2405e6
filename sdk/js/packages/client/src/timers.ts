/**
 * Deadlines that know of sleep, and waits that grow.
 *
 * A laptop that was closed wakes up with all its timers overdue, and with answers that wait in its sockets. A deadline
 * that fires much too late is therefore given one short time more before it counts.
 */

import type { Env } from './env.js'

const LATE_MS = 2_000
const MORE_MS = 4_000

/** Calls `run` after `ms`, unless the returned function is called before. */
export function deadline(env: Env, ms: number, run: () => void): () => void {
  let due = env.now() + ms
  let more = true
  const fire = () => {
    if (more && env.now() - due > LATE_MS) {
      more = false
      timer = env.setTimeout(fire, MORE_MS)
    } else run()
  }
  let timer = env.setTimeout(fire, ms)
  return () => env.clearTimeout(timer)
}

/** Full jitter: from 1 ms to `min` doubled with each failure, at most `max`. Never zero. */
export function backoff(env: Env, failures: number, min: number, max: number): number {
  return 1 + Math.floor(env.random() * Math.min(max, min * 2 ** Math.min(failures, 30)))
}

/** Before a command is tried again: what the server asks for, and from a quarter to 8 s of our own. */
export function rest(env: Env, retries: number, asked = 0): number {
  const most = 500 * 2 ** Math.min(retries, 4)
  return asked + most / 2 + Math.floor((env.random() * most) / 2)
}

/** A random text of so many letters and digits. */
export function randomKey(env: Env, length = 22): string {
  let key = ''
  while (key.length < length) key += Math.floor(env.random() * 36).toString(36)
  return key
}
