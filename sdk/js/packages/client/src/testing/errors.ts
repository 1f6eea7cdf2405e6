/** The words of the fake server: codes of errors, of the end of a connection, and what is wrong with a command. */

import type { Command } from '../wire.js'

/** An error of the server. Only the code is needed. */
export interface FakeError {
  code: string
  message?: string
  /** Default: what docs/protocol.md says of the code. */
  retryable?: boolean
  /** After so many ms. */
  retryAfter?: number
}

const RETRYABLE =
  'out_of_order too_many_connections rate_limited internal timeout unknown unavailable overloaded hook_unavailable'
const REASONS: Record<number, string> = {
  4000: 'shutdown',
  4001: 'heartbeat_timeout',
  4002: 'slow',
  4003: 'lost',
  4004: 'overloaded',
  4005: 'internal',
  4006: 'moved',
  4007: 'expired',
  4008: 'reconnect',
  4500: 'not_connected',
  4501: 'abuse',
  4502: 'unauthorized',
  4503: 'kicked',
  4504: 'bad_protocol',
  4505: 'left',
}

const STATUS: Record<number, string> = {
  401: 'not_connected unauthorized token_expired',
  403: 'denied',
  404: 'no_rule not_found',
  409: 'already_connected not_subscribed already_subscribed key_conflict out_of_order',
  413: 'too_large',
  422: 'invalid_data',
  429: 'limit_exceeded too_many_connections rate_limited',
  500: 'internal',
  503: 'unknown unavailable overloaded hook_unavailable',
  504: 'timeout',
}

/** The status of a request that is refused so. */
export function statusOf(code: string): number {
  const found = Object.entries(STATUS).find(([, codes]) => codes.split(' ').includes(code))
  return found ? Number(found[0]) : 400
}

export function reasonOf(code: number): string {
  return REASONS[code] ?? 'closed'
}

/** The fields of an `error`, for the command that it answers. */
export function errorFields(error: FakeError, channel?: unknown): Record<string, unknown> {
  const { code, message = code, retryable = RETRYABLE.split(' ').includes(code), retryAfter } = error
  return {
    type: 'error',
    code,
    message,
    retryable,
    ...(retryAfter !== undefined && { retry_after: retryAfter }),
    ...(typeof channel === 'string' && { channel }),
  }
}

const bad = (message: string): FakeError => ({ code: 'bad_request', message })

/** What is wrong with the form of a command. */
export function flawOf(command: Command): FakeError | undefined {
  const { type, id, channel, channels } = command
  if (typeof type !== 'string') return bad('a command needs a `type`')
  if (id !== undefined && typeof id !== 'number' && typeof id !== 'string') return bad('`id` is wrong')
  const many = type === 'subscribe' && Array.isArray(channels) ? (channels as Command[]) : undefined
  const named = type === 'connect' ? ((command.subscribe ?? []) as Command[]) : many
  for (const { channel } of named ?? []) if (!isName(channel)) return bad(`${JSON.stringify(channel)} is no channel`)
  const needs = 'subscribe unsubscribe publish signal presence_set presence_clear presence history'.split(' ')
  if (needs.includes(type) && !many && !isName(channel)) return bad(`${JSON.stringify(channel)} is no channel`)
  for (const name of ['key', 'op', 'if', 'version', 'tags', 'filter', 'state']) {
    if (/^(publish|history|subscribe)$/.test(type) && name in command)
      return bad(`\`${name}\` is reserved${name === 'key' ? '; the idempotency key is `idempotency_key`' : ''}`)
  }
  if (type === 'publish' && !('data' in command) && !('data64' in command))
    return bad('`data` is missing, and `data64` too: one of them is the payload')
  const { limit, batch, recent, event } = command as { limit?: unknown; recent?: unknown } & {
    batch?: { size?: unknown; delay?: unknown }
    event?: unknown
  }
  const number = (name: string, value: unknown, min: number, max: number) =>
    value === undefined || (Number.isInteger(value) && (value as number) >= min && (value as number) <= max)
      ? undefined
      : bad(`\`${name}\` must be an integer from ${min} to ${max}, not ${JSON.stringify(value)}`)
  const flaw =
    (type === 'history' ? number('limit', limit, 1, 1_000) : undefined) ??
    number('batch.size', batch?.size, 1, 200) ??
    number('batch.delay', batch?.delay, 0, 10_000) ??
    number('recent', recent, 0, 1_000)
  if (flaw) return flaw
  if (type === 'signal' && typeof event !== 'string') return bad('`event` is missing')
  return undefined
}

function isName(name: unknown): boolean {
  if (typeof name !== 'string' || name === '' || name.length > 255) return false
  return !/[\u0000-\u0020\u007f*?,+#{}]|^[@$]|^:|:$|::/.test(name)
}
