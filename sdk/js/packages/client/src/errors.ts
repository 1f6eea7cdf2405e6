/**
 * Errors: one class, told apart by `code`.
 *
 * Codes of the server are those of docs/protocol.md; those of the client are below. Every code has an entry in
 * `docs/errors.md`, which is shipped in this package and which the text of the error names.
 */

/** Codes that the client gives by itself. */
export type ClientCode =
  /** There is no connection, and this call is not kept for the next one. */
  | 'offline'
  /** No answer came in time, or a publication was given up before it was ever sent. */
  | 'timed_out'
  /** It was sent, and the answer was lost: it may have taken effect or not. */
  | 'unknown'
  /** The connection was lost before it was sent: it took no effect. */
  | 'not_sent'
  /** Too many calls, or too many publications, are waiting. */
  | 'outbox_full'
  /** The client was closed, or has ended with an error. */
  | 'closed'
  /** The channel has no subscription of this client. */
  | 'not_subscribed'
  /** The argument cannot be sent: no JSON, too long, or the schema refuses it. */
  | 'bad_argument'
  /** The application's own code threw: a handler, `resync`, the token function, the storage. */
  | 'handler'
  /** The server, or something in front of it, said something that is not the protocol. */
  | 'protocol'

/** What an error says besides its code and text. */
export interface ErrorDetails {
  /** The same call may succeed later. */
  retryable?: boolean
  /** After so many ms. */
  retryAfter?: number
  channel?: string
  /** The rule that decided. */
  rule?: string
  closeCode?: number
  cause?: unknown
}

/** Every error that this package gives. */
export class FanfareError extends Error {
  readonly code: string
  declare readonly retryable: boolean
  declare readonly retryAfter: number | undefined
  declare readonly channel: string | undefined
  declare readonly rule: string | undefined
  declare readonly closeCode: number | undefined
  declare readonly cause?: unknown

  constructor(code: ClientCode | (string & {}), message: string, details: ErrorDetails = {}) {
    super(`${message} [${code}; see docs/errors.md of @fanfare/client]`)
    this.name = 'FanfareError'
    this.code = code
    Object.assign(this, { retryable: false }, details)
  }
}

/** Whatever was thrown, as text. */
export function textOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
