/**
 * Who is present in one channel, and the entry of one's own.
 *
 * The list is asked for whenever the subscription becomes live. A change at or below the known `seq` is skipped; a list
 * that is older than a change before it is asked for again. Snapshots are new objects only where something changed.
 */

import { FanfareError } from './errors.js'
import { quiet } from './report.js'
import { rest } from './timers.js'
import type { Env } from './env.js'
import type { Member, Presence, PresenceChange } from './types.js'
import type { Command, ServerMessage, WireMember } from './wire.js'
import type { AskOptions, Done } from './calls.js'

/** Needed of its channel. */
export interface PresenceHost {
  readonly env: Env
  readonly name: string
  /** The subscription is live on this connection. */
  isLive(): boolean
  wantsPresence(): boolean
  ask(command: Command, done: Done, options?: AskOptions): void
  presence(presence: Presence, change: PresenceChange): void
  report(error: FanfareError): void
}

/** One's own entry in the channel's presence. */
export interface Entry<Data = unknown> {
  /** The server has the entry. Rejected where it refuses. */
  readonly ready: Promise<void>
  /** Changes what others see. */
  update(data: Data): void
  /** Leaves. Where another component has entered too, its entry stands again. */
  leave(): void
}

interface Wanted {
  data: unknown
  settle(error?: FanfareError): void
}

const EMPTY: Presence = { count: 0, members: [] }

export class PresenceOf {
  readonly #host: PresenceHost
  readonly #members = new Map<string, Member>()
  #count = 0
  #listed = true
  #seq: number | undefined
  /** The newest change that came before the list. */
  #early = 0
  #retries = 0
  #snapshot: Presence | undefined = EMPTY
  /** The newest counts. */
  readonly #wanted: Wanted[] = []
  /** The entry was given up, and may still stand on the server. */
  #clear = false
  #again: unknown
  #listing: unknown

  constructor(host: PresenceHost) {
    this.#host = host
  }

  get isWanted(): boolean {
    return this.#wanted.length > 0
  }

  /** The same object until something changes. */
  snapshot(): Presence {
    this.#snapshot ??= { count: this.#count, members: this.#listed ? [...this.#members.values()] : null }
    return this.#snapshot
  }

  /** The subscription is live. */
  live(): void {
    this.#seq = undefined // what changed before it, nobody has told us
    this.#retries = this.#early = 0
    if (this.#host.wantsPresence()) this.#list()
    if (this.isWanted || this.#clear) this.#set()
  }

  offline(): void {
    this.#seq = undefined
    this.#early = 0
    this.#host.env.clearTimeout(this.#again)
    this.#host.env.clearTimeout(this.#listing)
  }

  /** A list or a change that the server pushed. */
  push(message: ServerMessage & { seq: number }): void {
    const { seq } = message
    if (message.type === 'presence') return this.#replace(message)
    if (this.#seq === undefined) this.#early = Math.max(this.#early, seq)
    if (this.#seq === undefined || seq <= this.#seq) return
    this.#seq = seq
    if (message.type === 'presence_update' && message.client === undefined) {
      this.#listed = false
      this.#members.clear()
      this.#count = message.count ?? this.#count
      return this.#tell({ type: 'sync' })
    }
    if (message.type !== 'join' && message.type !== 'leave' && message.type !== 'presence_update') return
    const member = memberOf(message as WireMember)
    const known = this.#members.get(member.client)
    if (message.type === 'leave') {
      this.#members.delete(member.client)
      this.#count = this.#members.size
      return this.#tell({ type: 'leave', member: known ?? member })
    }
    this.#members.set(member.client, member)
    this.#count = this.#members.size
    this.#tell({ type: known ? 'update' : 'join', member })
  }

  enter(data: unknown): Entry {
    let settle: Wanted['settle'] = () => {}
    const ready = new Promise<void>((resolve, reject) => (settle = error => (error ? reject(error) : resolve())))
    const wanted: Wanted = { data, settle }
    this.#wanted.push(wanted)
    this.#set()
    return {
      ready: quiet(ready),
      update: data => {
        wanted.data = data
        if (this.#standing() === wanted) this.#set()
      },
      leave: () => {
        const at = this.#wanted.indexOf(wanted)
        if (at < 0) return
        this.#wanted.splice(at, 1)
        wanted.settle()
        if (at === this.#wanted.length) this.#set()
      },
    }
  }

  /** The subscription is over: so is the presence. */
  ended(error: FanfareError): void {
    this.offline()
    this.#clear = false
    for (const wanted of this.#wanted.splice(0)) wanted.settle(error)
  }

  #standing(): Wanted | undefined {
    return this.#wanted[this.#wanted.length - 1]
  }

  /**
   * Brings the entry on the server to what is wanted. Sent again after each reconnect: an unchanged one disturbs
   * nobody.
   */
  #set(retries = 0): void {
    const { env, name } = this.#host
    env.clearTimeout(this.#again)
    const wanted = this.#standing()
    this.#clear = !wanted
    if (!this.#host.isLive()) return
    const command: Command = wanted
      ? { type: 'presence_set', channel: name, data: wanted.data ?? null }
      : { type: 'presence_clear', channel: name }
    this.#host.ask(
      command,
      error => {
        if (wanted !== this.#standing() || error?.code === 'not_subscribed') return // or when it is live again
        if (error?.retryable) {
          this.#again = env.setTimeout(() => this.#set(retries + 1), rest(env, retries, error.retryAfter))
          return
        }
        this.#clear = false
        if (!wanted) return
        if (!error) return this.#wanted.forEach(({ settle }) => settle()) // it stands for the earlier ones too
        this.#wanted.pop()
        wanted.settle(error)
        this.#host.report(error)
        if (this.#standing()) this.#set()
      },
      { internal: true },
    )
  }

  #list(): void {
    const { env, name } = this.#host
    this.#host.ask(
      { type: 'presence', channel: name },
      (error, reply) => {
        if (reply?.type === 'presence') return this.#replace(reply)
        if (!error?.retryable) return error && this.#host.report(error)
        this.#listAgain(rest(env, this.#retries, error.retryAfter))
      },
      { internal: true },
    )
  }

  #listAgain(ms: number): void {
    this.#retries++
    const { env } = this.#host
    env.clearTimeout(this.#listing)
    this.#listing = env.setTimeout(() => this.#host.isLive() && this.#list(), ms)
  }

  #replace(list: ServerMessage & { type: 'presence' }): void {
    const { seq } = list
    const old = this.#seq !== undefined && seq < this.#seq
    if (old || seq < this.#early) this.#listAgain(this.#retries ? 250 * 2 ** Math.min(this.#retries, 5) : 1)
    else this.#early = this.#retries = 0
    if (old) return
    this.#seq = seq
    this.#members.clear()
    this.#listed = list.entries !== undefined
    for (const entry of list.entries ?? []) this.#members.set(entry.client, memberOf(entry))
    this.#count = list.count
    this.#tell({ type: 'sync' })
  }

  #tell(change: PresenceChange): void {
    this.#snapshot = undefined
    this.#host.presence(this.snapshot(), change)
  }
}

export function memberOf({ client, user, info, data }: WireMember): Member {
  return {
    client,
    ...(user !== undefined && { user }),
    ...(info !== undefined && { info }),
    ...(data !== undefined && { data }),
  }
}
