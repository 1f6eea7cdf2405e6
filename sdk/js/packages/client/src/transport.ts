/**
 * The seam between the connection and what carries it: a WebSocket, a stream or polls.
 *
 * A {@link Wire} is one attempt and, where it gets through, one connection. Contract of a wire: `connect` is called
 * once; then come any number of `reached`, `messages` and `replies`, and at most one `closed`, which is the last;
 * after `close` nothing comes any more. A wire keeps its own deadlines for its requests, and none for the connection:
 * the connection decides when an attempt takes too long or a server is silent. A wire never throws.
 */

import type { Command, ServerMessage, WireError } from './wire.js'
import type { TransportName } from './types.js'

/** What the server gave us, over all connections. In memory only: a duplicated tab has none of it. */
export interface Session {
  ticket?: string
  client?: string
  user?: string
  /** Shown with every `connect`: a connection of ours takes the session over from an earlier one of ours. */
  readonly page: string
  /** The last answer to a poll that was had on the connection before. */
  ack?: number
  /** An answer over HTTP has asked for patience until then (ms since 1970): no `connect` goes up earlier. */
  notBefore?: number
}

/** Why a wire is over. */
export type WireEnd =
  /** Closed or lost, with the close code if there was one. Before `reached`: the server was not reached. */
  | { kind: 'lost'; code?: number; message: string }
  /** Something answered that is no Fanfare, or the transport is not to be had here: no retry will change that. */
  | { kind: 'refused'; message: string }
  /** The server, or a proxy, asks for patience. */
  | { kind: 'unavailable'; retryAfter?: number; message: string }
  /**
   * The server refused the `connect`, or the session of a request. `session`: `connect` anew, without the ticket if
   * so.
   */
  | { kind: 'error'; error: WireError; session?: 'keep' | 'forget' }
  /** What came is not the protocol. */
  | { kind: 'nonsense'; message: string }

export interface WireEvents {
  /** The server, or a proxy before it, has accepted the connection. */
  reached(): void
  /** Messages, in the order of the server. None: a sign of life of a server that has nothing to say. */
  messages(messages: ServerMessage[]): void
  /** Replies that came by another way than `messages`. */
  replies(replies: ServerMessage[]): void
  closed(end: WireEnd): void
}

export interface Wire {
  readonly transport: TransportName
  /** Replies come by another way than messages, and may overtake them. */
  readonly overtakes: boolean
  /** Opens. `greeting` gives the `connect` command at the moment at which it can be sent. */
  connect(greeting: () => Command): void
  /** Sends commands, in order. Only after `connected` has come. */
  send(commands: Command[]): void
  /** Bytes that wait to be sent. */
  backlog(): number
  /**
   * The commands with these ids were not sent, as far as the server can have seen. Called when the wire is over, or
   * about to be closed, before `offline`.
   */
  unsent(): ReadonlySet<number>
  /** Ends it. `leave`: the session too. */
  close(leave?: boolean): void
}

/** Makes wires of one kind, and keeps what outlives them. */
export interface Carrier {
  /** Undefined where this place has no such transport (no `WebSocket`, no `fetch`). */
  open(transport: TransportName, events: WireEvents): Wire | undefined
  /**
   * A connection, by whatever transport, is there, and its ticket is noted. `resumed`: the session of before goes on.
   */
  online(resumed: boolean): void
  /**
   * The connection, or the attempt, is gone, and its wire closed. `leave`: the session, which may be alive without
   * a connection, is left.
   */
  offline(leave?: boolean): void
  /** A command of an earlier connection may still end a subscription to this channel. */
  mayLeave(channel: string): boolean
  /** The client has ended: nothing is on its way any more. */
  end(): void
}
