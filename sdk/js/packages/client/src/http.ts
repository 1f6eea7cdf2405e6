/**
 * Streams and polls as wires: messages come down by `/v1/sse`, `/v1/stream` or `/v1/poll`, commands go up in sends.
 *
 * An answer that is not the server's says that the transport is not to be had; one that asks for patience, or none at
 * all, that it may be later. A poll whose answer got lost is asked again, with the same acknowledgement: the server
 * gives the same bytes. The `connect` of polls is sent again as it was, so it leads to the same session. A poll that
 * was cut off while it waited shows that something on the way lets no request wait for so long: later ones wait for
 * half of it. Wire: docs/protocol.md, "Streams" and "Polls and sends".
 */

import type { Env } from './env.js'
import { textOf } from './errors.js'
import { type Answer, createRequest, type HttpOptions, later, passes, restMs, splitter } from './request.js'
import { createSends, type Up } from './sends.js'
import { randomKey } from './timers.js'
import type { Carrier, Session, Wire, WireEnd, WireEvents } from './transport.js'
import type { TransportName } from './types.js'
import { check, decode, type ServerMessage } from './wire.js'

/** A poll waits at most, and at least, so long. */
const WAIT_MAX = 30_000
const WAIT_MIN = 5_000
/** The first poll is repeated so often where nothing answers. */
const REPEATS_MAX = 2
/** What a server has sent before it ended the connection is read for so long: it waits 3 s until it cuts. */
const OVER_MS = 5_000

/**
 * Streams and polls over `env.fetch`, from the server at `base` (`https://host/prefix`, without a slash at its end). It
 * is never asked for a WebSocket.
 */
export function createHttp(env: Env, base: string, session: Session, options: HttpOptions): Carrier {
  const { requestTimeout: timeout = 10_000 } = options
  const request = createRequest(env, base, session, options)
  const sends = createSends(env, session, request, timeout)

  const open = (transport: TransportName, events: WireEvents): Wire => {
    const isPoll = transport === 'poll'
    const isSse = transport === 'sse'
    const path = `/v1/${transport}`
    let gone = false
    let online = false
    let heard = 0
    let ping = 0
    /** The highest number of an answer to a poll. */
    let ack = 0
    /** Stops the stream or the poll, or the rest between two polls. */
    let stop = () => {}
    /** The server has ended the connection, for this reason. */
    let why: WireEnd | undefined
    let stopOver = () => {}

    const finish = (end?: WireEnd) => {
      if (gone) return
      gone = true
      stop()
      stopOver()
      if (online) {
        if (isPoll) session.ack = ack
        sends.pause()
      }
      if (end) events.closed(end)
    }
    const lost = (message: string) => finish({ kind: 'lost', message })
    const head = () => events.reached()
    /** Tells the connection what was read. What cannot be read ends the wire. */
    const deliver = (read: () => ServerMessage[], isReply?: boolean) => {
      if (gone) return
      try {
        const messages = read()
        if (isReply) return events.replies(messages)
        heard = env.now()
        const connected = online ? undefined : messages.find(message => message.type === 'connected')
        if (connected) {
          online = true
          ping = connected.ping
          sends.begin(up, connected.limits?.message_bytes)
        }
        events.messages(messages)
      } catch (thrown) {
        finish({ kind: 'nonsense', message: textOf(thrown) })
      }
    }
    /** Why an answer ends the attempt, or the session. */
    const endOf = ({ status, error, what: message, after }: Answer): WireEnd => {
      if (passes(status)) return { kind: 'unavailable', message, ...(after && { retryAfter: after }) }
      if (!error || status === 404 || status === 405) return { kind: online ? 'lost' : 'refused', message }
      // It has expired, or is of the server before this one. A number that the server does not know shows that it has
      // another session in mind.
      const forget = ['unauthorized', 'out_of_order', 'bad_request'].includes(error.code)
      return { kind: 'error', error, ...(online && { session: forget ? 'forget' : 'keep' }) }
    }
    const up: Up = {
      replies(list) {
        const read = () =>
          check(list).flatMap(reply => {
            const { id, type } = reply as { id?: number; type: string }
            if (id != null) return reply
            // An error is of no subscription of `connect`; others are for nobody.
            return type === 'error' ? ({ ...reply, channel: undefined } as never) : []
          })
        deliver(read, true)
      },
      lost: () => lost('the server answers no commands'),
      refused(answer) {
        const end = endOf(answer)
        // What the server sent before it ended the connection is read: it overfilled this one, perhaps, and without it
        // the next one would end as this one did. Where nothing came for a whole heartbeat, nothing more will.
        const isAlive = env.now() - heard < (ping || WAIT_MAX)
        if (answer.error?.code !== 'not_connected' || !isAlive) return finish(end)
        why = end
        sends.pause()
        stopOver = later(env, OVER_MS, () => finish(end))
      },
    }
    const stream = (body: string) => {
      const split = splitter(isSse, text => deliver(() => decode(text)))
      const how = {
        media: isSse ? 'text/event-stream' : 'application/x-ndjson',
        head,
        feed: split,
      }
      stop = request(path, body, how, answer => {
        if (online || answer.status < 0) finish(why ?? { kind: 'lost', message: answer.what })
        else finish(endOf(answer))
      })
    }
    const polls = (connect: string) => {
      let longest = WAIT_MAX
      let failures = 0
      let empty = 0
      const ask = () => {
        if (gone) return
        // The answer to a repeated poll shows at once whether the way is open.
        const wait = online && !failures ? Math.min(longest, ping || WAIT_MAX) : 0
        const since = env.now()
        const again = (ms: number) => {
          if (ms) stop = later(env, ms, ask)
          else ask()
        }
        const body = online ? JSON.stringify({ ticket: session.ticket, ack, wait }) : connect
        // While it connects, the connection has a deadline.
        stop = request(path, body, { ms: online && wait + timeout, head }, answer => {
          const { status, json, what, after } = answer
          const { n, messages } = json
          const took = env.now() - since
          if (status === 200 && typeof n === 'number' && Array.isArray(messages)) {
            ack = Math.max(ack, n)
            failures = 0
            // A server that has nothing to say and does not wait is asked less and less often.
            const isIdle = !messages.length && took < (online ? wait / 2 : Infinity)
            if (messages.length) empty = 0
            else deliver(() => [])
            for (const message of messages) deliver(() => check(message))
            again(isIdle && empty++ ? restMs(env, empty - 1) : 0)
          } else if (status < 0 || status === (online ? 200 : 409)) {
            // While it connects, 409 is an earlier request of the same attempt, overtaken by a later one.
            if (!online && failures >= REPEATS_MAX) return lost(what)
            // A longer time was a device's sleep.
            if (wait && took >= wait / 2 && took < wait + 2 * timeout)
              longest = Math.max(wait / 2, Math.min(WAIT_MIN, longest))
            again(failures++ ? restMs(env, failures - 1) : 0)
          } else if (online && passes(status)) {
            again(after + restMs(env, failures++))
          } else {
            finish(endOf(answer))
          }
        })
      }
      ask()
    }

    return {
      transport,
      overtakes: true,
      connect(greeting) {
        if (isPoll) polls(JSON.stringify({ ...greeting(), attempt: randomKey(env) }))
        else stream(JSON.stringify(greeting()))
      },
      send(commands) {
        if (!gone) sends.send(commands)
      },
      backlog: sends.backlog,
      unsent: sends.unsent,
      close(leave) {
        if (gone || !leave || !online) return finish()
        // Commands before its end may still arrive, so it is the server who ends the stream or the poll.
        gone = true
        stopOver()
        sends.leave(() => stop())
      },
    }
  }

  return {
    open: (transport, events) =>
      env.fetch && (transport === 'poll' || env.TextDecoder) ? open(transport, events) : undefined,
    online: sends.online,
    offline(leave) {
      sends.offline()
      if (leave && session.ticket) sends.leave(() => {})
    },
    mayLeave: sends.mayLeave,
    end: sends.end,
  }
}
