/**
 * The WebSocket as a wire.
 *
 * Everything has one order here. A socket that gives no sign after `close()` is forgotten at once: browsers wait up to
 * a minute for the other side's close frame, and its late events are of a connection that is over.
 */

import type { CloseLike, Env, MessageLike, SocketLike } from './env.js'
import { textOf } from './errors.js'
import type { Wire, WireEvents } from './transport.js'
import { type Command, decode } from './wire.js'

const PROTOCOL = 'fanfare.v1'
const NONE: ReadonlySet<number> = new Set()
/** After this code the server keeps the session for its grace; 1000 would say that we leave. */
const LEAVES_NOT = 3008

/** A wire over `env.WebSocket`, which must be there. */
export function openWebSocket(env: Env, url: string, events: WireEvents): Wire {
  let socket: SocketLike | undefined
  /** Nothing more is said of it. */
  const drop = () => {
    const dropped = socket
    // `onerror` stays: a socket of `ws` that nobody listens to throws its error at the process.
    if (dropped) dropped.onopen = dropped.onmessage = dropped.onclose = null
    socket = undefined
    return dropped
  }
  const end = (code: number | undefined, message: string) => {
    if (!drop()) return
    events.closed({ kind: 'lost', message, ...(code !== undefined && { code }) })
  }
  const write = (commands: Command[]) => {
    try {
      for (const command of commands) socket?.send(JSON.stringify(command))
    } catch (thrown) {
      const failed = drop() // an `InvalidStateError` while the socket closes; `onclose` may not come
      failed?.close()
      events.closed({ kind: 'lost', message: textOf(thrown) })
    }
  }
  return {
    transport: 'websocket',
    overtakes: false,
    connect(greeting) {
      try {
        socket = new (env.WebSocket as NonNullable<Env['WebSocket']>)(url, [PROTOCOL])
      } catch (thrown) {
        return events.closed({ kind: 'refused', message: textOf(thrown) }) // mixed content, or a bad address
      }
      socket.onopen = () => {
        events.reached()
        write([greeting()])
      }
      socket.onmessage = (event: MessageLike) => {
        try {
          events.messages(decode(event.data))
        } catch (thrown) {
          drop()?.close(LEAVES_NOT)
          return events.closed({ kind: 'nonsense', message: textOf(thrown) })
        }
      }
      socket.onerror = () => {} // `onclose` follows, and knows more
      socket.onclose = (event: CloseLike) => {
        const code = event.code === 1006 || event.code === 1005 ? undefined : event.code
        end(code, event.reason || (code ? `closed with code ${code}` : 'the connection was lost'))
      }
    },
    send: write,
    backlog: () => socket?.bufferedAmount ?? 0,
    unsent: () => NONE,
    close(leave) {
      const dropped = drop()
      try {
        dropped?.close(leave ? 1000 : LEAVES_NOT)
      } catch {
        // some implementations refuse to close a socket that is connecting
      }
    },
  }
}
