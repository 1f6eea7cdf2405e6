/**
 * What the fake server knows of one client, and of one connection.
 *
 * A session outlives its connection by the grace. It ends by `disconnect`, by a close with 1000, by the end of its
 * token, or when the grace is over.
 */

import type { TimerHandle } from '../env.js'

/** The other side of a connection: a socket, a stream, or the box of a poll. */
export interface Peer {
  /** One text: a message, or an array of messages. */
  send(messages: object): void
  /** The server closes it. */
  close(code: number, reason: string): void
  /** It breaks, and nobody says why. */
  cut(): void
}

/** Who shows a token. */
export interface Identity {
  user?: string
  /** Shown in presence. */
  info?: unknown
  /** The token is valid for so many ms. */
  expires?: number
  /** Subscribed by the server. */
  channels?: readonly string[]
}

/** One subscription of a session. */
export interface Sub {
  presence: boolean
  signals: boolean
  byServer: boolean
  batch?: { size: number; delay: number; kept: object[]; timer: TimerHandle }
}

export interface Session {
  readonly client: string
  readonly tickets: Set<string>
  identity: Identity
  page: string | undefined
  /** The number of the last connection that had it. */
  last: number
  connection: Connection | undefined
  readonly subs: Map<string, Sub>
  /** Signals to this client alone that wait for its return. */
  readonly mailbox: { channel: string }[]
  grace: TimerHandle
  reminder: TimerHandle
  expiry: TimerHandle
}

export interface Connection {
  readonly n: number
  readonly peer: Peer
  readonly pings: boolean
  session: Session | undefined
  over: boolean
  /** Something came since the last ping. */
  heard: boolean
  timer: TimerHandle
}
