// Virtual time: one order of events for the whole world, and for each device a clock of its own that jumps and sleeps.
//
// The same seed gives the same run: nothing here asks the real clock, and between two events all promises are settled.

/** Numbers from a seed (mulberry32). */
export class Rng {
  #state: number

  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) >>> 0
    for (let i = 0; i < 4; i++) this.float()
  }

  float(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** From 0 to n, without n. */
  below(n: number): number {
    return Math.floor(this.float() * n)
  }

  /** From a to b. */
  between(a: number, b: number): number {
    return a + this.below(b - a + 1)
  }

  chance(p: number): boolean {
    return this.float() < p
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T
  }
}

export interface Timer {
  due: number
  order: number
  run: (() => void) | undefined
  /** Who has set it, where that is asked for. */
  from?: string
}

/** All events, by their time. */
export class Time {
  now = 0
  #order = 0
  readonly #heap: Timer[] = []

  at(due: number, run: () => void): Timer {
    const timer: Timer = { due: Math.max(due, this.now), order: ++this.#order, run }
    const heap = this.#heap
    let i = heap.push(timer) - 1
    while (i > 0) {
      const up = (i - 1) >> 1
      if (!isBefore(timer, heap[up] as Timer)) break
      heap[i] = heap[up] as Timer
      i = up
    }
    heap[i] = timer
    return timer
  }

  after(ms: number, run: () => void): Timer {
    return this.at(this.now + ms, run)
  }

  /** Runs the next event, if it is due until then. */
  step(until: number): boolean {
    for (;;) {
      const timer = this.#heap[0]
      if (!timer || timer.due > until) {
        this.now = until
        return false
      }
      this.#pop()
      const { run } = timer
      if (!run) continue // taken back
      this.now = timer.due
      timer.run = undefined
      run()
      return true
    }
  }

  #pop(): void {
    const heap = this.#heap
    const last = heap.pop() as Timer
    if (!heap.length) return
    let i = 0
    for (;;) {
      let down = 2 * i + 1
      if (down >= heap.length) break
      if (down + 1 < heap.length && isBefore(heap[down + 1] as Timer, heap[down] as Timer)) down++
      if (!isBefore(heap[down] as Timer, last)) break
      heap[i] = heap[down] as Timer
      i = down
    }
    heap[i] = last
  }
}

function isBefore(a: Timer, b: Timer): boolean {
  return a.due < b.due || (a.due === b.due && a.order < b.order)
}

/** ms since 1970 at the beginning. */
const EPOCH = 1_700_000_000_000

/** What one device sees of time: it may be stopped, with all that happens to it, and its clock may be set. */
export class DeviceClock {
  readonly #time: Time
  readonly timers = new Set<Timer>()
  /** Came while it was asleep. */
  #overdue: (() => void)[] = []
  #missed: (() => void)[] = []
  #catchesUp = false
  asleep = false
  offset = 0
  /** Timers know who has set them: slow. */
  traces = false

  constructor(time: Time) {
    this.#time = time
  }

  now(): number {
    return EPOCH + this.#time.now + this.offset
  }

  setTimeout(run: () => void, ms: number): Timer {
    const timer = this.#time.after(Math.max(0, ms), () => {
      const fire = () => {
        if (!this.timers.delete(timer)) return // cleared while it waited
        run()
      }
      if (this.asleep || this.#catchesUp) this.#overdue.push(fire)
      else fire()
    })
    this.timers.add(timer)
    if (this.traces) timer.from = new Error('set').stack ?? ''
    return timer
  }

  clearTimeout(timer: Timer | undefined): void {
    if (!timer) return
    this.timers.delete(timer)
    timer.run = undefined
  }

  /** Something from outside, such as a text in a socket. */
  happen(run: () => void): void {
    if (this.asleep || this.#catchesUp) this.#missed.push(run)
    else run()
  }

  /** Goes on. Timers that are overdue and what waits in the sockets come in their orders, mixed in any way. */
  wake(rng: Rng): void {
    this.asleep = false
    this.#catchesUp = true
    const share = rng.pick([0, 0.5, 1])
    const next = () => {
      if (this.asleep) return
      const [timers, events] = [this.#overdue, this.#missed]
      const run = (events.length && (!timers.length || rng.chance(share)) ? events : timers).shift()
      if (!run) return void (this.#catchesUp = false)
      run()
      if (!this.asleep) this.#time.after(0.01, next)
    }
    next()
  }

  /** The device is switched off. */
  clear(): void {
    for (const timer of this.timers) timer.run = undefined
    this.timers.clear()
    this.#overdue = []
    this.#missed = []
    this.#catchesUp = false
  }
}
