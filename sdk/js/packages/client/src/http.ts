/** Streams, polls and sends: not there yet. */

import type { Env } from './env.js'
import type { Carrier, Session } from './transport.js'

export interface HttpOptions {
  headers?: Record<string, string>
  credentials?: 'include' | 'same-origin' | 'omit'
}

export function createHttp(_env: Env, _base: string, _session: Session, _options: HttpOptions): Carrier {
  return { open: () => undefined, online: () => {}, mayLeave: () => false, end: () => {} }
}
