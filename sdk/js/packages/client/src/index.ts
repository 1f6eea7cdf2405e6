/**
 * `@fanfare/client`: realtime channels that survive tunnels, sleeping laptops, proxies and server restarts.
 *
 * {@link createClient} is the way in. Docs: docs/sdk.md; codes: docs/errors.md.
 */

export { createClient } from './client.js'
export type { Client, ClientOptions } from './client.js'
export type { Channel, SignalOptions, Subscription } from './channel.js'
export { FanfareError } from './errors.js'
export type { ClientCode } from './errors.js'
export type { Env } from './env.js'
export type { Messages } from './messages.js'
export type { Entry } from './presence.js'
export type * from './types.js'
export { MessageBatcher } from './batcher.js'
export type { MessageBatcherOptions } from './batcher.js'
export { SSEClient, SSEError } from './sse.js'
export type * from './sse-types.js'
export { VERSION } from './version.js'
