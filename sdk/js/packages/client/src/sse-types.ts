/**
 * The public words of `SSEClient`: what goes in, and what its errors say.
 */

import type { StreamEvent } from './event-stream.js'

/** The kinds of failures. */
export type SSEReason =
  /** The server ended the stream. */
  | 'ended'
  /** No connection, or it broke off. `cause` is what `fetch` said. */
  | 'network'
  /** No answer within `connectTimeout`. */
  | 'timeout'
  /** The stream has been silent for too long. */
  | 'silence'
  /** Another status than 200. `status` has it; `message` has what the server said. */
  | 'status'
  /** The answer is no event stream: the page of a proxy or of a login, for example. */
  | 'content-type'
  /** An event exceeds `maxEventSize`. */
  | 'too-large'
  /** The data of an event cannot be parsed. `event` has it; `cause` is what the parser said. */
  | 'parse'
  /** The application's code threw: a handler, or `headers`. `cause` is what it threw. */
  | 'handler'
  /** The server told of lost events (`fanfare.gap`), and there is no handler for that event. */
  | 'gap'
  /** This place has no `fetch` that can stream. */
  | 'unsupported'

/** What `onError` gets. */
export class SSEError extends Error {
  override readonly name = 'SSEError'
  readonly status: number | undefined
  readonly event: StreamEvent | undefined
  override readonly cause: unknown

  constructor(
    readonly reason: SSEReason,
    message: string,
    /** The stream is not affected, or will be opened again. `false`: it is over, until `connect` is called. */
    readonly willReconnect: boolean,
    details: { status?: number | undefined; event?: StreamEvent | undefined; cause?: unknown } = {},
  ) {
    super(message)
    this.status = details.status
    this.event = details.event
    this.cause = details.cause
  }
}

/** Gets the parsed data, and the event as it came. */
export type SSEHandler<T = unknown> = (data: T, event: StreamEvent) => unknown

export type SSEHeaders = Readonly<Record<string, string>>

/** The handlers of a stream, and how it is asked for. */
export interface SSEConnectOptions<T = unknown> {
  /** Events without a name. */
  onMessage?: SSEHandler<T> | undefined
  /** Whatever goes wrong. Without it the console gets what is not going to pass by itself. */
  onError?: ((error: SSEError) => unknown) | undefined
  /** Each time that a stream is open. */
  onOpen?: (() => unknown) | undefined
  /** Events by name. */
  events?: Readonly<Record<string, SSEHandler>> | undefined
  /** Of each request. A function is asked anew for each, for tokens that expire. */
  headers?: SSEHeaders | (() => SSEHeaders | Promise<SSEHeaders>) | undefined
  /** Cookies of other origins too: `include`. */
  credentials?: 'include' | 'same-origin' | 'omit' | undefined
  /** Where to begin: what an earlier `client.lastEventId` was. */
  lastEventId?: string | undefined
  /**
   * The name of a parameter of the address that takes the last id, in place of the header `Last-Event-ID`: for servers
   * of another origin that do not allow pages this header. Fanfare allows it.
   */
  lastEventIdParam?: string | undefined
  /** Tries in a row, until it gives up. Default: no limit. */
  maxReconnectAttempts?: number | undefined
  /** Ms until the answer must have begun. Default 20 s. */
  connectTimeout?: number | undefined
  /**
   * Ms of silence after which the connection is taken for lost; 0: never. By default it is learned from the comments by
   * which servers show that they are there: three times their distance, at least 15 s.
   */
  idleTimeout?: number | undefined
  /** The size of one event, in UTF-16 units. Default 1 MiB. */
  maxEventSize?: number | undefined
  /** Makes data of the text of an event. Default `JSON.parse`. `text => text` leaves it as it is. */
  parse?: ((text: string) => unknown) | undefined
}

/** What the client is doing: `ended` needs a new `connect`, all others go on by themselves. */
export type SSEState = 'idle' | 'connecting' | 'open' | 'waiting' | 'ended'
