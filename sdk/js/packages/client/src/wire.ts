/**
 * The messages of the native protocol, and their reading.
 *
 * `decode` takes whatever came and gives messages whose fields have the types that are said here, or throws a {@link
 * FanfareError} `protocol` that shows how the text begins. Unknown types and fields pass. Wire: docs/protocol.md.
 */

import { FanfareError } from './errors.js'
import type { From, Position } from './types.js'

export interface WirePublication {
  offset: number
  data?: unknown
  data64?: string
  event?: string
  idempotency_key?: string
  from?: From
  ts: number
}

export interface WireMember {
  client: string
  user?: string
  info?: unknown
  data?: unknown
}

export interface WireSubscribed {
  type: 'subscribed'
  id?: number
  channel: string
  epoch: string
  offset: number
  recovered?: boolean
  publications: WirePublication[]
  more?: boolean
}

export interface WireError {
  type: 'error'
  id?: number
  code: string
  message: string
  retryable: boolean
  retry_after?: number
  channel?: string
  rule?: string
}

export interface WireConnected {
  type: 'connected'
  id?: number
  client: string
  user?: string
  ticket?: string
  expires?: number
  session_resumed: boolean
  ping: number
  limits?: { message_bytes?: number; subscriptions?: number; idempotency_keys_ttl?: number; commands?: number }
}

export interface WireDisconnect {
  type: 'disconnect'
  code: number
  reason: string
  retry: boolean
  delay?: number
}

/** The messages of the server. */
export type ServerMessage =
  | WireConnected
  | WireSubscribed
  | WireError
  | WireDisconnect
  | (WirePublication & { type: 'message'; channel: string; epoch?: string })
  | { type: 'signal'; channel: string; event: string; data?: unknown; from?: From }
  | (WireMember & { type: 'join' | 'leave'; channel: string; seq: number })
  | (Partial<WireMember> & { type: 'presence_update'; channel: string; seq: number; count?: number })
  | { type: 'presence'; id?: number; channel: string; seq: number; count: number; entries?: WireMember[] }
  | { type: 'gap'; channel: string; epoch: string; offset: number; reset?: boolean }
  | { type: 'unsubscribed'; id?: number; channel: string; code: string; message?: string; rule?: string }
  | { type: 'published'; id?: number; epoch: string; offset: number; duplicate?: boolean }
  | {
      type: 'history'
      id?: number
      channel: string
      epoch: string
      offset: number
      publications: WirePublication[]
      more?: boolean
      gap?: boolean
      reset?: boolean
    }
  | { type: 'result'; id?: number; data?: unknown; expires?: number }
  | { type: 'ticket'; ticket: string }
  | { type: 'ping' }
  | { type: 'token_expiring'; expires?: number }

/** The messages of the client. The fields are those of docs/protocol.md. */
export interface Command {
  type: string
  id?: number
  channel?: string
  [field: string]: unknown
}

/** The options of a subscription as they are sent. */
export interface WireOptions {
  channel: string
  since?: Position
  recent?: number
  presence?: boolean
  signals?: boolean
  batch?: { size?: number; delay?: number }
  slow?: string
}

/** A page has 256 KiB, and JSON text may be escaped: longer texts are not the server's. */
export const TEXT_MAX = 8 << 20

type Kind = 'string' | 'number' | 'boolean' | 'object'
/** The fields that this client relies on, by type of message. */
const FIELDS: Record<string, Record<string, Kind>> = {
  message: { channel: 'string', offset: 'number' },
  connected: { client: 'string', ping: 'number' },
  subscribed: { channel: 'string', epoch: 'string', offset: 'number', publications: 'object' },
  error: { code: 'string', message: 'string' },
  disconnect: { code: 'number', reason: 'string', retry: 'boolean' },
  signal: { channel: 'string', event: 'string' },
  join: { channel: 'string', client: 'string', seq: 'number' },
  leave: { channel: 'string', client: 'string', seq: 'number' },
  presence_update: { channel: 'string', seq: 'number' },
  presence: { channel: 'string', seq: 'number', count: 'number' },
  gap: { channel: 'string', epoch: 'string', offset: 'number' },
  unsubscribed: { channel: 'string', code: 'string' },
  published: { epoch: 'string', offset: 'number' },
  history: { channel: 'string', epoch: 'string', offset: 'number', publications: 'object' },
  ticket: { ticket: 'string' },
}

/** Says what came instead of the protocol, in one line. */
export function nonsense(what: string, text: unknown): FanfareError {
  const shown = typeof text === 'string' ? text.slice(0, 80).replace(/\s+/g, ' ') : typeof text
  return new FanfareError('protocol', `${what}: ${shown}`, { retryable: true })
}

/** The messages of one text. */
export function decode(text: unknown): ServerMessage[] {
  if (typeof text !== 'string') throw nonsense('a binary message is not the protocol', '')
  if (text.length > TEXT_MAX) throw nonsense(`a message of ${text.length} characters; at most ${TEXT_MAX}`, text)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw nonsense('this is not JSON', text)
  }
  return check(value, text)
}

/** The same for a value that is parsed already: a message, or an array of messages. */
export function check(value: unknown, text: unknown = ''): ServerMessage[] {
  const { type, channel, offset } = (value ?? {}) as { type?: unknown; channel?: unknown; offset?: unknown }
  if (type === 'message' && typeof channel === 'string' && typeof offset === 'number') return [value as ServerMessage]
  const list = Array.isArray(value) ? value : [value]
  for (const message of list) {
    const type = (message as { type?: unknown } | null)?.type
    if (typeof type !== 'string') throw nonsense('a message needs a type', text)
    const fields = FIELDS[type] // of a type such as `constructor` nothing is enumerable
    for (const name in fields) {
      const field = (message as Record<string, unknown>)[name]
      if (typeof field !== fields[name] || field === null) throw nonsense(`\`${name}\` of \`${type}\` is wrong`, text)
    }
    const lists = message as { publications?: unknown; entries?: unknown }
    if (type === 'subscribed' || type === 'history') checkAll(lists.publications, 'offset', 'number', text)
    if (type === 'presence' && lists.entries != null) checkAll(lists.entries, 'client', 'string', text)
  }
  return list as ServerMessage[]
}

function checkAll(list: unknown, name: string, kind: Kind, text: unknown): void {
  const good =
    Array.isArray(list) && list.every(entry => typeof (entry as Record<string, unknown> | null)?.[name] === kind)
  if (!good) throw nonsense(`an entry needs \`${name}\``, text)
}

/** The error of the server as one of ours. */
export function errorOf(error: WireError): FanfareError {
  const { code, message, retryable, retry_after, channel, rule } = error
  return new FanfareError(code, message, {
    retryable: retryable === true,
    ...(retry_after !== undefined && { retryAfter: retry_after }),
    ...(channel !== undefined && { channel }),
    ...(rule !== undefined && { rule }),
  })
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

/** Bytes as base64. Browsers' `btoa` takes no bytes, and Node's `Buffer` is not everywhere. */
export function toBase64(bytes: Uint8Array): string {
  let text = ''
  for (let i = 0; i < bytes.length; i += 3) {
    const [a = 0, b = 0, c = 0] = bytes.subarray(i, i + 3)
    const word = (a << 16) | (b << 8) | c
    for (let k = 0; k < 4; k++) text += i + k > bytes.length ? '=' : BASE64[(word >> (18 - 6 * k)) & 63]
  }
  return text
}

/** The bytes of base64, with or without padding. */
export function fromBase64(text: string): Uint8Array {
  const clean = text.replace(/=+$/, '')
  const bytes = new Uint8Array((clean.length * 3) >> 2)
  let word = 0
  let at = 0
  for (let i = 0; i < clean.length; i++) {
    word = (word << 6) | (BASE64.indexOf(clean[i] ?? '') & 63)
    if (i % 4 !== 0) bytes[at++] = (word >> (6 - 2 * (i % 4))) & 255
  }
  return bytes
}

/** The UTF-8 bytes of a text. */
export function bytesOf(text: string): number {
  let bytes = text.length
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1
  }
  return bytes
}

/** Undefined where it is no JSON: a cycle, a BigInt, a function. */
export function jsonOf(data: unknown): string | undefined {
  try {
    return JSON.stringify(data)
  } catch {
    return undefined
  }
}
