/**
 * One channel of the fake server: its entries, their keys, and who is present.
 *
 * Offsets rise by one within an epoch, and a place is never used twice: {@link Log.begin} starts another epoch. Of the
 * entries the newest `history` are kept. Keys are kept for as long as the server says.
 */

import type { Position } from '../types.js'
import type { WireMember, WirePublication } from '../wire.js'

interface Key {
  payload: string
  position: Position
  until: number
}

/** A part of the history, oldest first. */
export interface Page {
  publications: WirePublication[]
  more: boolean
  /** Entries after the place that it goes on from are forgotten. */
  gap: boolean
}

export class Log {
  readonly name: string
  epoch: string
  offset = 0
  readonly entries: WirePublication[] = []
  readonly members = new Map<string, WireMember>()
  /** Rises with each change of `members`. */
  seq = 0
  readonly #keys = new Map<string, Key>()

  constructor(name: string, epoch: string) {
    this.name = name
    this.epoch = epoch
  }

  get position(): Position {
    return { epoch: this.epoch, offset: this.offset }
  }

  /** Another epoch: what was stored is gone. */
  begin(epoch: string): void {
    this.epoch = epoch
    this.offset = 0
    this.entries.length = 0
    this.#keys.clear()
  }

  append(publication: Omit<WirePublication, 'offset'>, max: number): WirePublication {
    const entry = { offset: ++this.offset, ...publication }
    this.entries.push(entry)
    this.forget(max)
    return entry
  }

  /** Keeps the newest `max`. */
  forget(max: number): void {
    this.entries.splice(0, Math.max(0, this.entries.length - max))
  }

  /** Nothing after this offset is forgotten. */
  get #floor(): number {
    return (this.entries[0]?.offset ?? this.offset + 1) - 1
  }

  /** Everything after this position, or undefined where something of it is missing. */
  after({ epoch, offset }: Position): WirePublication[] | undefined {
    if (epoch !== this.epoch || offset > this.offset || offset < this.#floor) return undefined
    return this.entries.filter(entry => entry.offset > offset)
  }

  /** True where the position is one of this channel's, now or before. */
  knows({ epoch, offset }: Position): boolean {
    return epoch === this.epoch && offset <= this.offset
  }

  page(limit: number, since: Position | undefined, before: Position | undefined): Page {
    if (since) {
      const all = this.entries.filter(entry => entry.offset > since.offset)
      return { publications: all.slice(0, limit), more: all.length > limit, gap: since.offset < this.#floor }
    }
    const all = before ? this.entries.filter(entry => entry.offset < before.offset) : this.entries
    return { publications: all.slice(Math.max(0, all.length - limit)), more: all.length > limit, gap: false }
  }

  /** What was stored under this key, and the payload that it had. */
  key(key: string, now: number): Key | undefined {
    const known = this.#keys.get(key)
    return known && known.until > now ? known : undefined
  }

  remember(key: string, payload: string, until: number): void {
    this.#keys.set(key, { payload, position: this.position, until })
  }
}
