/**
 * How long a stream may be silent.
 *
 * A connection that is lost without a word (a tunnel, a network that changed) shows by nothing but silence. Servers of
 * event streams send comments while they have nothing to say, but no two at the same pace, and many send none. So the
 * limit is learned: three times the longest silence that a comment has ended, once two have been seen. A machine that
 * has slept is late with its timers, and its socket may hold what came meanwhile: then the limit counts anew.
 */

import type { Env, TimerHandle } from './env.js'

const LIMIT_MIN_MS = 15_000
/** Comments at the beginning of a stream follow each other at once. */
const GAP_MIN_MS = 1_000
const LATE_MS = 2_000
const AGAIN_MS = 4_000

/** A watch over one stream. */
export interface IdleWatch {
  /** Something came. */
  heard(): void
  /** A comment was in it. */
  comment(): void
  stop(): void
}

/** `fixed`: the limit in ms where the application gives it; 0 is none. `silent` is called once, when it is exceeded. */
export function idleWatch(env: Env, fixed: number | undefined, silent: (ms: number) => void): IdleWatch {
  let limit = fixed ?? 0
  let heardAt = env.now()
  let gap = 0
  let longest = 0
  let gaps = 0
  let timer: TimerHandle | undefined

  const arm = (ms: number) => {
    const due = env.now() + ms
    timer = env.setTimeout(
      () => {
        const now = env.now()
        const left = heardAt + limit - now
        if (left > 0) arm(left)
        else if (now - due > LATE_MS) arm(AGAIN_MS)
        else silent(limit)
      },
      Math.min(ms, 2 ** 31 - 1),
    )
  }
  if (limit > 0) arm(limit)

  return {
    heard() {
      const now = env.now()
      gap = now - heardAt
      heardAt = now
    },
    comment() {
      if (fixed !== undefined || gap < GAP_MIN_MS) return
      gaps++
      longest = Math.max(longest, gap)
      gap = 0
      if (gaps < 2) return
      limit = Math.max(LIMIT_MIN_MS, 3 * longest)
      if (timer === undefined) arm(limit)
    },
    stop() {
      env.clearTimeout(timer)
    },
  }
}
