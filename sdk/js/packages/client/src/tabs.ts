/**
 * `@fanfare/client/tabs`: one stream for all tabs of a browser, where WebSockets do not get through.
 *
 * Over HTTP/1.1 a browser opens six connections to a host, and a stream takes one for as long as it lasts: the seventh
 * tab would wait for ever. So one tab, which has the Web Lock, opens the stream. It serves the other tabs by a
 * `BroadcastChannel`, as a small server on top of its own client: they speak the native protocol to it, and know no
 * difference. When it ends, the lock goes to another tab, and the others come back there from their places.
 *
 * Tabs share one session, so one identity: `user` says whose it is, and tabs of another user do not meet.
 */

import type { Client } from './client.js'
import type { Env, MessageLike } from './env.js'
import type { Subscription } from './channel.js'
import type { Entry } from './presence.js'
import { FanfareError } from './errors.js'
import type { Wire, WireEvents } from './transport.js'
import type { Message, Position, TransportName } from './types.js'
import { type Command, fromBase64, type ServerMessage, toBase64, type WireError, type WireOptions } from './wire.js'

/** The part of `navigator.locks` that is used. */
export interface LocksLike {
  request(
    name: string,
    options: { ifAvailable?: boolean; signal?: AbortSignal },
    run: (lock: unknown) => Promise<unknown> | undefined,
  ): Promise<unknown>
}

/** The part of a `BroadcastChannel` that is used. */
export interface PostLike {
  postMessage(message: unknown): void
  close(): void
  onmessage: ((event: never) => void) | null
}

export interface TabsOptions {
  /** Whose tabs they are: a user's id, or `anonymous`. Tabs share a session only with tabs of the same one. */
  user: string
  /** Default: `navigator.locks` and `BroadcastChannel`. Without them each tab has a stream of its own. */
  locks?: LocksLike
  open?: (name: string) => PostLike
}

interface Intervals {
  setInterval(run: () => void, ms: number): unknown
  clearInterval(timer: unknown): void
}

/** For `createClient({ share })`. */
export interface Share {
  /** A wire that is the stream itself (`real`), or leads to the tab that has it. */
  open(
    transport: TransportName,
    url: string,
    events: WireEvents,
    client: () => Client,
    real: () => Wire | undefined,
  ): Wire | undefined
}

/** Between tabs. `tab` is the follower. */
type Post =
  | { kind: 'up'; tab: string; commands: Command[] }
  | { kind: 'down'; tab: string; messages: ServerMessage[] }
  | { kind: 'bye'; tab: string }

/** The followers hear something from the leader at least so often. */
const PING_MS = 10_000
const PAGE = 1_000
/** Messages of one follower that wait for its page, or are in it. */
const KEPT_MAX = 5_000

export function sharedStream(options: TabsOptions): Share {
  const g = globalThis as unknown as {
    navigator?: { locks?: LocksLike }
    BroadcastChannel?: new (name: string) => PostLike
  }
  const locks = options.locks ?? g.navigator?.locks
  const Broadcast = g.BroadcastChannel
  const open = options.open ?? (Broadcast && ((name: string) => new Broadcast(name)))
  return {
    open(transport, url, events, client, real) {
      if (!locks || !open) return real()
      return new SharedWire(transport, `fanfare ${options.user} ${url}`, events, client, real, locks, open)
    },
  }
}

/** A wire whose part, leader or follower, the lock decides when it is opened. */
class SharedWire implements Wire {
  readonly transport: TransportName
  readonly #name: string
  readonly #events: WireEvents
  readonly #client: () => Client
  readonly #real: () => Wire | undefined
  readonly #locks: LocksLike
  readonly #openPost: (name: string) => PostLike
  readonly #tab = Math.random().toString(36).slice(2)
  #over = false
  #post: PostLike | undefined
  #stream: Wire | undefined
  /** A follower waits for the lock until it is closed. */
  readonly #waiting: { signal: AbortSignal; abort(): void } | undefined
  #release: () => void = () => {}
  #stopServing: () => void = () => {}

  constructor(
    transport: TransportName,
    name: string,
    events: WireEvents,
    client: () => Client,
    real: () => Wire | undefined,
    locks: LocksLike,
    openPost: (name: string) => PostLike,
  ) {
    this.transport = transport
    this.#name = name
    this.#events = events
    this.#client = client
    this.#real = real
    this.#locks = locks
    this.#openPost = openPost
    const { AbortController } = globalThis as Pick<Env, 'AbortController'>
    this.#waiting = AbortController && new AbortController()
  }

  /** The leader's replies come by requests of their own; a follower has one order. */
  get overtakes(): boolean {
    return this.#stream?.overtakes === true
  }

  connect(greeting: () => Command): void {
    const failed = (thrown: unknown) => this.#end(`the lock of the tabs failed: ${String(thrown)}`)
    const decide = (lock: unknown) => {
      if (this.#over) return undefined
      if (!lock) return void this.#follow(greeting)
      const held = new Promise<void>(resolve => (this.#release = resolve))
      this.#lead(greeting)
      return held
    }
    this.#locks.request(this.#name, { ifAvailable: true }, decide).catch(failed)
  }

  send(commands: Command[]): void {
    if (this.#stream) this.#stream.send(commands)
    else this.#say({ kind: 'up', tab: this.#tab, commands })
  }

  backlog(): number {
    return this.#stream?.backlog() ?? 0
  }

  unsent(): ReadonlySet<number> {
    return this.#stream?.unsent() ?? new Set()
  }

  close(leave?: boolean): void {
    if (this.#over) return
    this.#over = true
    this.#stopServing()
    if (!this.#stream) this.#say({ kind: 'bye', tab: this.#tab })
    this.#stream?.close(leave)
    this.#post?.close()
    this.#waiting?.abort()
    this.#release()
  }

  /** This tab opens the stream, and serves the others. */
  #lead(greeting: () => Command): void {
    const stream = this.#real()
    if (!stream) return this.#end(`${this.transport} is not to be had here`)
    this.#stream = stream
    stream.connect(greeting)
    if (this.#over) return
    const post = (this.#post = this.#openPost(this.#name))
    this.#stopServing = serve(post, this.#client())
  }

  /** Another tab has it. When that one is gone, this wire is over, and the next one may lead. */
  #follow(greeting: () => Command): void {
    const events = this.#events
    this.#post = this.#openPost(this.#name)
    this.#post.onmessage = ({ data }: MessageLike) => {
      const post = data as Post
      if (post.kind !== 'down' || post.tab !== this.#tab || this.#over) return
      events.reached()
      events.messages(post.messages)
    }
    const freed = () => void this.#end('the tab that had the stream is gone')
    const waiting = this.#waiting ? { signal: this.#waiting.signal } : {}
    this.#locks.request(this.#name, waiting, () => (freed(), undefined)).catch(() => {}) // aborted
    this.#say({ kind: 'up', tab: this.#tab, commands: [greeting()] })
  }

  #say(post: Post): void {
    this.#post?.postMessage(post)
  }

  #end(message: string): void {
    if (this.#over) return
    this.close()
    this.#events.closed({ kind: 'lost', message })
  }
}

/** Serves the followers with the leader's client, until the returned function is called. */
function serve(post: PostLike, client: Client): () => void {
  const tabs = new Map<string, Follower>()
  post.onmessage = ({ data }: MessageLike) => {
    const { kind, tab, ...rest } = data as Post
    if (kind === 'bye') {
      tabs.get(tab)?.end()
      tabs.delete(tab)
    }
    if (kind !== 'up') return
    let follower = tabs.get(tab)
    for (const command of (rest as { commands: Command[] }).commands) {
      if (command.type === 'connect') {
        follower?.end()
        follower = new Follower(client, messages => post.postMessage({ kind: 'down', tab, messages } satisfies Post))
        tabs.set(tab, follower)
      }
      follower?.take(command)
    }
  }
  const { setInterval, clearInterval } = globalThis as unknown as Intervals
  const ping = setInterval(() => {
    for (const follower of tabs.values()) follower.say({ type: 'ping' })
  }, PING_MS)
  return () => {
    clearInterval(ping)
    for (const follower of tabs.values()) follower.end()
    tabs.clear()
  }
}

/** One follower: its subscriptions and entries, which end with it. */
class Follower {
  readonly #client: Client
  readonly #send: (messages: ServerMessage[]) => void
  readonly #subscriptions = new Map<string, Subscription>()
  readonly #entries = new Map<string, Entry>()
  #seq = 0
  #over = false

  constructor(client: Client, send: (messages: ServerMessage[]) => void) {
    this.#client = client
    this.#send = send
  }

  say(message: ServerMessage): void {
    if (!this.#over) this.#send([message])
  }

  end(): void {
    this.#over = true
    for (const subscription of this.#subscriptions.values()) subscription.unsubscribe()
    for (const entry of this.#entries.values()) entry.leave()
  }

  take(command: Command): void {
    const { type, id, channel = '' } = command
    const at = this.#client.channel(channel || 'none')
    /** The reply to the command, once it is there. */
    const answer = (work: Promise<ServerMessage>) => {
      work.then(
        reply => this.say({ ...reply, ...(id !== undefined && { id }) } as ServerMessage),
        error => this.say(refusal(error as FanfareError, id, channel)),
      )
    }
    const done = { type: 'result' } as const
    switch (type) {
      case 'connect':
        return this.#connect(command)
      case 'subscribe':
        if (Array.isArray(command.channels)) return answer(Promise.resolve({ type: 'result', data: [] }))
        return this.#subscribe(command as Command & WireOptions, id)
      case 'unsubscribe':
        this.#subscriptions.get(channel)?.unsubscribe()
        this.#subscriptions.delete(channel)
        return answer(Promise.resolve({ type: 'unsubscribed', channel, code: 'requested' }))
      case 'publish': {
        const { idempotency_key: key, event, echo, data, data64 } = command as Command & { idempotency_key?: string }
        const options = {
          ...(key && { key }),
          ...(event ? { event: event as string } : {}),
          ...(echo === false && { echo }),
        }
        const work = at.publish(data64 === undefined ? data : fromBase64(data64 as string), {
          ...options,
          ordered: false,
        })
        return answer(work.then(({ position, duplicate }) => ({ type: 'published', ...position, duplicate })))
      }
      case 'presence_set': {
        const entry = this.#entries.get(channel)
        entry?.update(command.data)
        if (!entry) this.#entries.set(channel, at.enter(command.data))
        return answer((this.#entries.get(channel) as Entry).ready.then(() => done))
      }
      case 'presence_clear':
        this.#entries.get(channel)?.leave()
        this.#entries.delete(channel)
        return answer(Promise.resolve(done))
      case 'presence':
        return answer(
          at.members().then(({ count, members }) => ({
            type: 'presence',
            channel,
            seq: ++this.#seq,
            count,
            ...(members && { entries: [...members] }),
          })),
        )
      case 'signal': {
        const { event, data, to } = command as Command & { event: string; to?: string }
        return answer(at.signal(event, data, to === undefined ? {} : { to }).then(() => done))
      }
      case 'rpc': {
        const { method, data } = command as Command & { method: string }
        return answer(this.#client.rpc(method, data).then(data => ({ type: 'result', data })))
      }
      case 'history': {
        const { limit, since, before } = command as Command & Parameters<typeof at.history>[0]
        const options = { ...(limit && { limit }), ...(since && { since }), ...(before && { before }) }
        return answer(
          at.history(options).then(({ messages, position, more, gap, reset }) => ({
            type: 'history',
            channel,
            ...position,
            publications: messages.map(publicationOf),
            more,
            gap,
            reset,
          })),
        )
      }
      case 'refresh':
        return answer(Promise.resolve(done)) // the leader shows its own
    }
  }

  #connect(command: Command): void {
    const ready = () => {
      const { state } = this.#client
      if (state.name !== 'connected' || this.#over) return false
      this.say({
        type: 'connected',
        id: command.id as number,
        client: state.client,
        ...(state.user !== undefined && { user: state.user }),
        session_resumed: false,
        ping: PING_MS,
      })
      for (const options of (command.subscribe ?? []) as WireOptions[]) this.#subscribe(options, undefined)
      return true
    }
    if (ready()) return
    const off = this.#client.on('state', () => ready() && off())
  }

  #subscribe(options: WireOptions, id: number | undefined): void {
    const { channel, since, recent, presence } = options
    /** Messages that come while the page before them is read. */
    let kept: Message[] | undefined = []
    let first = true
    const deliver = (message: Message) =>
      this.say({ type: 'message', channel, epoch: message.position.epoch, ...publicationOf(message) })
    const begin = (position: Position) => {
      this.#page(channel, position, since, recent).then(page => {
        const { epoch, offset } = page.position
        const publications = page.messages.map(publicationOf)
        const { recovered } = page
        const reply = { ...(id !== undefined && { id }), ...(recovered !== undefined && { recovered }) }
        this.say({ type: 'subscribed', ...reply, channel, epoch, offset, publications })
        const later = kept ?? []
        kept = undefined
        later.forEach(deliver) // those up to the page's end are passed over as known
      })
    }
    this.#subscriptions.get(channel)?.unsubscribe()
    const subscription = this.#client.channel(channel).subscribe({
      subscribed: ({ position }) => {
        if (first) begin(position) // later the leader has come back, and nothing is missing
        first = false
      },
      message: message => {
        if (!kept) return deliver(message)
        if (kept.push(message) > KEPT_MAX) this.#leave()
      },
      signal: ({ event, data, from }) => this.say({ type: 'signal', channel, event, data, ...(from && { from }) }),
      gap: ({ position }) => {
        if (kept) return this.#leave()
        this.say({ type: 'gap', channel, ...position })
      },
      ended: error => {
        this.#subscriptions.delete(channel)
        if (kept) this.say(refusal(error, id, channel))
        else this.say({ type: 'unsubscribed', channel, code: error.code, message: error.message })
      },
      ...(presence && {
        presence: (list, change) => {
          const seq = ++this.#seq
          if (change.type !== 'sync') {
            const type = change.type === 'update' ? 'presence_update' : change.type
            return this.say({ type, channel, ...change.member, seq })
          }
          const { count, members } = list
          this.say({ type: 'presence', channel, seq, count, ...(members && { entries: [...members] }) })
        },
      }),
    })
    this.#subscriptions.set(channel, subscription)
  }

  /** What comes with `subscribed`: everything after `since`, else the newest ones, else nothing. */
  async #page(
    name: string,
    position: Position,
    since: Position | undefined,
    recent: number | undefined,
  ): Promise<{ position: Position; messages: Message[]; recovered?: boolean }> {
    const channel = this.#client.channel(name)
    const recovered = since ? { recovered: false } : {}
    try {
      if (since) {
        const messages: Message[] = []
        let page = await channel.history({ since, limit: PAGE })
        while (!page.reset && !page.gap) {
          messages.push(...(page.messages as Message[]))
          const last = messages[messages.length - 1]
          if (!page.more || !last) return { position: page.position, messages, recovered: true }
          if (messages.length > KEPT_MAX) break
          page = await channel.history({ since: last.position, limit: PAGE })
        }
      }
      if (!recent) return { position, messages: [], ...recovered }
      const page = await channel.history({ limit: recent })
      return { position: page.position, messages: page.messages as Message[], ...recovered }
    } catch {
      return { position, messages: [], ...recovered } // the history may not be read
    }
  }

  /** It cannot be served in order any more: it comes back, from its places. */
  #leave(): void {
    this.say({ type: 'disconnect', code: 4008, reason: 'reconnect', retry: true, delay: 0 })
    this.end()
  }
}

function publicationOf({ position, data, event, key, from, ts }: Message) {
  return {
    offset: position.offset,
    ...(data instanceof Uint8Array ? { data64: toBase64(data) } : { data }),
    ...(event !== 'message' && { event }),
    ...(key !== undefined && { idempotency_key: key }),
    ...(from && { from }),
    ts,
  }
}

function refusal(error: FanfareError, id: number | undefined, channel: string): WireError {
  const { code, message, retryable, retryAfter, rule } = error
  return {
    type: 'error',
    ...(id !== undefined && { id }),
    code,
    message,
    retryable,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
    ...(channel && { channel }),
    ...(rule !== undefined && { rule }),
  }
}
