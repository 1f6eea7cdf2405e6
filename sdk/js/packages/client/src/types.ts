/**
 * The public types: what an application says to the client, and what it hears from it.
 *
 * Durations are milliseconds. An `epoch` is opaque. Offsets of one epoch rise; offsets of two epochs are not compared.
 * Wire: docs/protocol.md.
 */

import type { FanfareError } from './errors.js'

/** What an application's channels and calls carry, by pattern. All parts are optional. */
export interface AppTypes {
  /**
   * By pattern: `"chat:*"` is one segment, `"chat:**"` the rest. The very name of a channel counts before patterns,
   * which should not overlap: TypeScript knows no order of keys.
   */
  channels?: Record<string, ChannelTypes>
  /** By method: the argument and the result. */
  rpc?: Record<string, readonly [args: unknown, result: unknown]>
}

/** What one channel carries. */
export interface ChannelTypes {
  /** Publications by event name. Those without a name are `message`, as with `EventSource`. */
  events?: Record<string, unknown>
  /** Signals by event name. */
  signals?: Record<string, unknown>
  /** The `data` of a presence entry, which its client sets. */
  presence?: unknown
  /** The `info` of a presence entry, which the application sets by the token or a hook. */
  info?: unknown
}

/** Without types of its own an application gets `unknown`. */
export interface UntypedChannel {
  events: Record<string, unknown>
  signals: Record<string, unknown>
  presence: unknown
  info: unknown
}

type Segment<P extends string> = P extends `${infer A}:${infer B}` ? [A, ...Segment<B>] : [P]
type MatchSegments<P extends readonly string[], N extends readonly string[]> = P extends readonly ['**']
  ? N extends readonly []
    ? false
    : true
  : P extends readonly [infer A extends string, ...infer PR extends string[]]
    ? N extends readonly [infer B extends string, ...infer NR extends string[]]
      ? A extends '*'
        ? MatchSegments<PR, NR>
        : B extends A
          ? MatchSegments<PR, NR>
          : false
      : false
    : N extends readonly []
      ? true
      : false

/** True where the channel's name matches the pattern, segment by segment. */
export type Matches<Pattern extends string, Name extends string> = MatchSegments<Segment<Pattern>, Segment<Name>>

type Match<C, Name extends string> = Name extends keyof C
  ? Name
  : { [P in keyof C & string]: Matches<P, Name> extends true ? P : never }[keyof C & string]

/** The types of the channel with this name. */
export type ChannelOf<App extends AppTypes, Name extends string> = App['channels'] extends infer C
  ? C extends Record<string, ChannelTypes>
    ? [Match<C, Name>] extends [never]
      ? UntypedChannel
      : C[Match<C, Name>]
    : UntypedChannel
  : UntypedChannel

export type EventsOf<C extends ChannelTypes> =
  C['events'] extends Record<string, unknown> ? C['events'] : Record<string, unknown>
export type SignalsOf<C extends ChannelTypes> =
  C['signals'] extends Record<string, unknown> ? C['signals'] : Record<string, unknown>
type Or<T, D> = [T] extends [undefined] ? D : T
export type PresenceOf<C extends ChannelTypes> = Or<C['presence'], unknown>
export type InfoOf<C extends ChannelTypes> = Or<C['info'], unknown>

/** A place in a channel. Keep it and give it back; compare offsets only within one epoch. */
export interface Position {
  readonly epoch: string
  readonly offset: number
}

/** Who sent something. Absent where the application did, or the channel's rule hides it. */
export interface From {
  readonly client?: string
  readonly user?: string
}

/** A publication. `event` is `"message"` where it has no name. */
export type Message<Events extends Record<string, unknown> = Record<string, unknown>> = {
  [E in keyof Events & string]: {
    readonly channel: string
    readonly event: E
    /** Binary publications are a `Uint8Array`. */
    readonly data: Events[E]
    readonly position: Position
    /** The idempotency key of its publisher: tells one's own message from others'. */
    readonly key?: string
    readonly from?: From
    /** The server's time, ms since 1970. */
    readonly ts: number
  }
}[keyof Events & string]

/** A signal: delivered now or never. */
export type Signal<Signals extends Record<string, unknown> = Record<string, unknown>> = {
  [E in keyof Signals & string]: {
    readonly channel: string
    readonly event: E
    readonly data: Signals[E]
    readonly from?: From
  }
}[keyof Signals & string]

/** One client that has entered a channel. */
export interface Member<Data = unknown, Info = unknown> {
  readonly client: string
  readonly user?: string
  /** From the application: it can be trusted. */
  readonly info?: Info
  /** From the client itself. */
  readonly data?: Data
}

/** Who is present. A new object after each change; `members` is `null` where the channel is too large for a list. */
export interface Presence<Data = unknown, Info = unknown> {
  readonly count: number
  readonly members: readonly Member<Data, Info>[] | null
}

/** What changed. `sync`: the list was replaced. */
export type PresenceChange<Data = unknown, Info = unknown> =
  { readonly type: 'join' | 'leave' | 'update'; readonly member: Member<Data, Info> } | { readonly type: 'sync' }

/** Publications are lost: load what you keep of the channel again. What follows is above `position`. */
export interface Gap {
  readonly channel: string
  readonly position: Position
  /**
   * `unrecovered`: after a reconnect, or where the history was read; `gap`: on a live subscription; `overflow`: one's
   * own code was too slow.
   */
  readonly reason: 'unrecovered' | 'gap' | 'overflow'
}

/** The subscription is live (again). */
export interface Subscribed {
  readonly channel: string
  readonly position: Position
  /**
   * True: all that was missed follows. False: something is lost (and {@link Gap} was told). Undefined: the first time.
   */
  readonly recovered: boolean | undefined
  /** Publications that come now because they were missed, or were asked for by `recent`. */
  readonly count: number
  /** More of them follow than `count` says. */
  readonly more: boolean
}

/** What a component wants of a channel. Handlers are called in order; one that throws costs its own message alone. */
export interface SubscribeOptions<C extends ChannelTypes = UntypedChannel> {
  message?: (message: Message<EventsOf<C>>) => void
  signal?: (signal: Signal<SignalsOf<C>>) => void
  /** Asks for presence; called with the whole and with what changed. */
  presence?: (presence: Presence<PresenceOf<C>, InfoOf<C>>, change: PresenceChange<PresenceOf<C>, InfoOf<C>>) => void
  subscribed?: (subscribed: Subscribed) => void
  gap?: (gap: Gap) => void
  /** The subscription is over, for this reason. It is not tried again until something subscribes anew. */
  ended?: (error: FanfareError) => void
  /**
   * For state that the application owns. Called on the first subscribe, on a gap and where a recovery was not whole:
   * the position comes first, then load your state, then the messages from that position on are delivered. Messages
   * wait until the promise is settled; one that fails is repeated with back-off. It may return the position at which
   * the loaded state stands: messages up to there are skipped.
   */
  resync?: (at: { position: Position; reason: 'first' | Gap['reason'] }) => Promise<Position | void> | Position | void
  /** The newest n publications first. */
  recent?: number
  /** Go on from here: everything after it is delivered, or a `gap`. */
  since?: Position
  /** Let the server gather messages: up to `size` of them, for at most `delay` ms. */
  batch?: { size?: number; delay?: number }
  /** What happens when one reads too slowly; the rule's if absent. */
  slow?: 'pull' | 'latest' | 'disconnect'
}

/** The options of one publication. */
export interface PublishOptions {
  event?: string
  /** The idempotency key; a random one by default. The same on each try. */
  key?: string
  /** `false`: do not send it back to this client. */
  echo?: boolean
  /** Give up after so long. Default: the outbox's. */
  ttl?: number
  /** `false`: it need not wait for earlier publications on the channel, and may overtake them. Default true. */
  ordered?: boolean
}

/** Where a publication stands. */
export interface Published {
  readonly position: Position
  readonly key: string
  /** It had been stored before, by an earlier try. */
  readonly duplicate: boolean
}

/** A publication that is not answered yet. */
export interface PendingPublish {
  readonly channel: string
  readonly key: string
  readonly data: unknown
  readonly event?: string
  readonly state: 'queued' | 'sending'
  /** When it was asked for, ms since 1970. */
  readonly since: number
}

export interface HistoryOptions {
  limit?: number
  since?: Position
  before?: Position
}

/** A page of history, oldest first. */
export interface History<Events extends Record<string, unknown> = Record<string, unknown>> {
  readonly messages: readonly Message<Events>[]
  /** The channel's newest position. */
  readonly position: Position
  readonly more: boolean
  /** With `since`: messages between that position and the first of the page, or `position` where the page is empty, are
   * not in the history any more, or not for this client to read. */
  readonly gap: boolean
  /** The position that was asked for is not in this history: load again without it. */
  readonly reset: boolean
}

export type TransportName = 'websocket' | 'sse' | 'stream' | 'poll'

/** Why a connection is as it is. `code` is stable and has an entry in docs/errors.md. */
export interface Reason {
  readonly code: string
  readonly message: string
  /** The close code, where there was one. */
  readonly closeCode?: number
}

/** The state of the connection: one of five. */
export type ConnectionState =
  | {
      readonly name: 'connecting'
      readonly attempt: number
      readonly transport: TransportName
      readonly reason?: Reason
    }
  | {
      readonly name: 'connected'
      readonly transport: TransportName
      readonly client: string
      readonly user?: string
      /** The session of before goes on. */
      readonly resumed: boolean
      readonly reason?: undefined
    }
  /** Not connected now. With `retryAt` (ms since 1970) the next attempt is under way. */
  | { readonly name: 'disconnected'; readonly reason: Reason; readonly retryAt?: number; readonly attempt: number }
  /**
   * It does not come back by itself: `connect()` tries again. With `retryAt` it does: what came was not the protocol,
   * but the page of a captive portal, perhaps.
   */
  | { readonly name: 'error'; readonly reason: Reason; readonly retryAt?: number; readonly attempt?: number }
  /** A token is missing, was refused or has expired. `setToken()` goes on. */
  | { readonly name: 'needs-auth'; readonly reason: Reason }

/** For a banner, apart from the state: told only where the connection was away for `lostAfter`. */
export type Connectivity =
  | { readonly name: 'lost'; readonly reason: Reason }
  | { readonly name: 'restored'; readonly after: number }
  | { readonly name: 'failed'; readonly reason: Reason }

/** What the client tells besides its channels. */
export interface ClientEvents {
  state: ConnectionState
  connectivity: Connectivity
  /** A command without an answer failed, a handler threw, the storage failed. Without a listener the console has it. */
  error: FanfareError
  /** The server has subscribed this client to a channel. */
  subscribed: { readonly channel: string }
  /** The list of publications that are not answered has changed. */
  outbox: readonly PendingPublish[]
}

/** What happened, for a bug report. Tokens and payloads are not in it. */
export interface Report {
  readonly version: string
  readonly state: ConnectionState
  readonly transport: TransportName
  readonly counters: Readonly<Record<string, number>>
  readonly channels: readonly { channel: string; state: string; position?: Position; handlers: number }[]
  readonly pending: number
  /** Newest last: time (ms since 1970) and text. */
  readonly log: readonly string[]
}

/** A publication as a storage keeps it. JSON. */
export interface StoredPublish {
  readonly key: string
  readonly channel: string
  readonly data?: unknown
  readonly data64?: string
  readonly event?: string
  readonly echo?: boolean
  readonly since: number
  readonly expires: number
  /** When it was first sent, and for whom the key holds. */
  readonly sent?: number
  readonly scope?: string
}

/** Where the outbox keeps what is not answered. One that throws costs nothing but the durability. */
export interface OutboxStorage {
  load(): Promise<readonly StoredPublish[]>
  put(entry: StoredPublish): Promise<void>
  remove(key: string): Promise<void>
}

export interface OutboxOptions {
  /** Publications that wait; more are refused (`outbox_full`). Default 1,000. */
  max?: number
  /** A publication is given up after so long. Default 90,000 ms. With a storage it may be days. */
  ttl?: number
  /** Memory by default; `indexedDbOutbox()` of `@fanfare/client/outbox` outlives the page. */
  storage?: OutboxStorage
}

/** A token, or a function that gets one; it is called when the old one expires or was refused. `null`: signed out. */
export type TokenSource = string | null | (() => Promise<string | null> | string | null)

/** A check of what is published, received or signalled. Any library with `parse` will do, such as Zod. */
export type Schema = { parse(data: unknown): unknown }
