// The judge: knows what the server has stored, and looks at what the application is told. It asks the client nothing.

import type { FanfareError } from '../../src/errors.js'
import type { Gap, Message, Position, Published, Subscribed } from '../../src/types.js'
import type { Log } from '../../src/testing/log.js'
import type { WirePublication } from '../../src/wire.js'

export interface Entry {
  channel: string
  epoch: string
  offset: number
  key: string | undefined
  data: unknown
  /** Over all channels. */
  order: number
}

/** Everything that was ever stored, also in epochs that are over. */
export class Ledger {
  readonly #entries = new Map<string, Entry[]>()
  readonly #keys = new Map<string, Entry[]>()
  #order = 0

  add(log: Log, { offset, idempotency_key: key, data }: WirePublication): void {
    const { name, epoch } = log
    const entry = { channel: name, epoch, offset, key, data, order: ++this.#order }
    const all = this.in(name, epoch)
    all.push(entry)
    if (all.length !== offset) throw new Error('the fake server numbers its entries without holes')
    if (key !== undefined) this.of(key).push(entry)
  }

  in(channel: string, epoch: string): Entry[] {
    const name = `${channel} ${epoch}`
    let all = this.#entries.get(name)
    if (!all) this.#entries.set(name, (all = []))
    return all
  }

  of(key: string): Entry[] {
    let all = this.#keys.get(key)
    if (!all) this.#keys.set(key, (all = []))
    return all
  }

  at(channel: string, { epoch, offset }: Position): Entry | undefined {
    return this.in(channel, epoch)[offset - 1]
  }
}

export interface Court {
  readonly ledger: Ledger
  fail(what: string): void
  count(name: string): void
  log(channel: string): Log
  /** Entries that this device may or may not get: its own, without echo. */
  isQuiet(key: string | undefined): boolean
  /** Times at which the server itself told of a loss, or something unreadable came. */
  lossTime(channel: string): number
  now(): number
}

const show = (at: Position | undefined) => (at ? `${at.epoch}:${at.offset}` : 'nowhere')

/** One component's view of a channel. */
export class Watcher {
  begun = false
  over = false
  loading = false
  /** A loss that must be told before anything else. */
  owed = false
  place: Position | undefined
  /** `recent` alone: the first message is one of the newest so many at this place, or the next one. */
  #newest: { at: Position; n: number } | undefined
  #told = -Infinity

  constructor(
    readonly court: Court,
    readonly channel: string,
    readonly name: string,
    readonly since: Position | undefined,
    readonly recent: number | undefined,
    readonly readsHistory: boolean,
  ) {}

  #fail(what: string): void {
    this.court.fail(`${this.name} of ${this.channel} at ${show(this.place)}: ${what}`)
  }

  subscribed({ position, recovered }: Subscribed): void {
    if (this.over) return this.#fail('subscribed after its end')
    const first = !this.begun
    this.begun = true
    if (first) {
      if (this.since) this.place = this.since
      else if (this.recent) this.#newest = { at: position, n: this.recent }
      else this.place = position
      this.owed = recovered === false
    } else {
      this.owed = recovered !== true
      if (recovered && !this.readsHistory && this.place && this.place.epoch !== position.epoch)
        this.#fail(`recovered in another epoch, ${position.epoch}`)
    }
    this.court.count(recovered === undefined ? 'begun' : recovered ? 'recovered' : 'unrecovered')
    this.#told = this.court.now()
  }

  message({ position, data, key }: Message): void {
    const { court, channel } = this
    if (this.over) return this.#fail(`a message after its end, ${show(position)}`)
    if (!this.begun) return this.#fail(`a message before \`subscribed\`, ${show(position)}`)
    if (this.loading) return this.#fail('a message while it loads')
    if (this.owed) return this.#fail(`a message before the gap, ${show(position)}`)
    const entry = court.ledger.at(channel, position)
    if (!entry || JSON.stringify(entry.data) !== JSON.stringify(data) || entry.key !== key)
      return this.#fail(`${JSON.stringify(data)} is not the entry at ${show(position)}`)
    const { place } = this
    if (!place) {
      const { at, n } = this.#newest ?? { at: position, n: 0 }
      const good = at.epoch === position.epoch && position.offset <= at.offset + 1 && position.offset > at.offset - n
      if (!good && !this.#skips(at, position) && court.log(channel).after(at))
        this.#fail(`${show(position)} is not one of the newest ${n} at ${show(at)}`)
    } else if (place.epoch !== position.epoch) this.#fail(`${show(position)} without a gap`)
    else if (position.offset <= place.offset) this.#fail(`${show(position)} does not rise`)
    else if (!this.#skips(place, position)) this.#fail(`${show(position)} leaves something out`)
    this.place = position
    this.#told = court.now()
  }

  gap({ position, reason }: Gap): void {
    const { court, channel, place } = this
    if (this.over) return this.#fail('a gap after its end')
    if (!this.begun) return this.#fail('a gap before `subscribed`')
    if (place && place.epoch === position.epoch && position.offset < place.offset)
      this.#fail(`a gap backwards, to ${show(position)}`)
    const whole = place && court.log(channel).after(place) !== undefined
    if (whole && !this.readsHistory && court.lossTime(channel) < this.#told && reason !== 'overflow')
      this.#fail(`a gap (${reason}) to ${show(position)}, and nothing is lost`)
    this.owed = false
    this.place = position
    this.#newest = undefined
    this.#told = court.now()
    court.count(`gap ${reason}`)
  }

  ended(): void {
    if (this.over) this.#fail('ended twice')
    this.over = true
  }

  /** A signal or a presence. */
  other(what: string): void {
    if (this.over) this.#fail(`${what} after its end`)
    else if (!this.begun) this.#fail(`${what} before \`subscribed\``)
  }

  resync(at: Position): void {
    if (this.over) return this.#fail('resync after its end')
    this.loading = true
    this.place = at
  }

  loaded(at: Position | undefined): void {
    this.loading = false
    const { place } = this
    if (at && place && at.epoch === place.epoch && at.offset > place.offset) this.place = at
  }

  /** All faults are over. */
  atTop(): void {
    const { court, channel, place } = this
    if (this.over) return
    const log = court.log(channel)
    if (!this.begun) this.#fail('never became live')
    else if (this.loading) this.#fail('still loads')
    else if (this.owed) this.#fail('a gap is owed')
    else if (!place) this.#fail(`no message ever came; the channel is at ${show(log.position)}`)
    else if (place.epoch !== log.epoch || !this.#skips(place, { ...place, offset: log.offset + 1 }))
      this.#fail(`it did not reach ${show(log.position)}`)
  }

  /** Nothing between the two is owed to this device. */
  #skips(from: Position, to: Position): boolean {
    if (from.epoch !== to.epoch) return false
    const all = this.court.ledger.in(this.channel, from.epoch)
    for (let offset = from.offset + 1; offset < to.offset; offset++)
      if (!this.court.isQuiet(all[offset - 1]?.key)) return false
    return true
  }
}

export interface Publishing {
  key: string
  channel: string
  device: string
  /** Its device was switched off while it waited. */
  dead: boolean
  /** The storage did not learn that it was sent, and it was sent again in another life. */
  risky?: boolean
  /** The storage did not learn of its end, and had it once more in another life. */
  revived?: boolean
  ordered: boolean
  done?: Published | FanfareError
}

/** Rejected so by the client, it was never stored. (The server may deny what it has stored before.) */
const NEVER = ['timed_out', 'outbox_full', 'bad_argument', 'too_large', 'not_sent', 'key_conflict']

/** What was confirmed is stored once, what was not at most once, and the order of one device's calls holds. */
export function judgePublishes(ledger: Ledger, all: readonly Publishing[], fail: (what: string) => void): void {
  /** The last place of the one before, by device, channel and epoch. */
  const last = new Map<string, { order: number; key: string }>()
  for (const { key, channel, device, dead, risky, revived, ordered, done } of all) {
    const entries = ledger.of(key)
    const epochs = entries.map(({ epoch }) => epoch)
    const twice = new Set(epochs).size < epochs.length
    if (twice && !risky) fail(`${key} is stored twice in ${channel}: ${epochs.join(' ')}`)
    if (!done) {
      if (!dead) fail(`the promise of ${key} is not settled`)
    } else if ('position' in done) {
      if (!entries.some(({ epoch, offset }) => epoch === done.position.epoch && offset === done.position.offset))
        fail(`${key} is confirmed at ${show(done.position)}, and does not stand there`)
    } else if (NEVER.includes(done.code) && entries.length && !revived)
      fail(`${key} is refused as ${done.code}, and is stored`)
    if (!ordered || risky || revived) continue
    for (const { epoch, order } of entries) {
      const name = `${device} ${channel} ${epoch}`
      const before = last.get(name)
      if (before && order < before.order) fail(`${key} stands before ${before.key}, which was published first`)
      last.set(name, { order, key })
    }
  }
}
