/**
 * When stores tell React what changed: once a frame.
 *
 * `requestAnimationFrame` where it is there. A page that is hidden has no frames, so a slow timer stands beside it;
 * where there are no frames at all (tests, workers) a timer as long as one stands in.
 */

/** Runs `run` once, soon. Injected by `FanfareProvider`'s `schedule`. */
export type Schedule = (run: () => void) => void

const FRAME_MS = 16
/** Titles and counters of a hidden page need no more. */
const HIDDEN_MS = 250

/** The part of the globals that is used. Read when called: a fake clock may replace them. */
interface Globals {
  requestAnimationFrame?(run: () => void): number
  cancelAnimationFrame?(frame: number): void
  setTimeout(run: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
}

const globals = (): Globals => globalThis as unknown as Globals

export const frame: Schedule = run => {
  const g = globals()
  let over = false
  const once = () => {
    if (over) return
    over = true
    g.clearTimeout(timer)
    if (drawn !== undefined) g.cancelAnimationFrame?.(drawn)
    run()
  }
  const timer = g.setTimeout(once, g.requestAnimationFrame ? HIDDEN_MS : FRAME_MS)
  const drawn = g.requestAnimationFrame?.(once)
}

/** Calls `run` after `ms`, unless the returned function is called before. */
export function later(ms: number, run: () => void): () => void {
  const g = globals()
  const timer = g.setTimeout(run, ms)
  return () => g.clearTimeout(timer)
}
