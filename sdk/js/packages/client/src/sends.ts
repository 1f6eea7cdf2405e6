/**
 * The way up of a client whose messages come by a stream or by polls: commands in numbered sends.
 *
 * A send without an answer is sent again as it was: it takes effect once. Up to {@link FLYING_MAX} are on their way, so
 * one whose commands take long does not hold up the others, with at most as many commands as the server takes in one.
 *
 * The numbers belong to the session. Where it goes on over another connection, of whatever transport, the numbers that
 * were not answered are sent again *without* their commands: those that had not arrived take no effect any more, and
 * none is missing. The connection decides about the commands when it is lost. An `unsubscribe` among them may still end
 * a subscription of the new connection: `mayLeave` says so. Wire: docs/protocol.md, "Polls and sends".
 */

import type { Env } from './env.js'
import { type Answer, later, passes, PATIENCE_MAX, type Request, restMs } from './request.js'
import type { Session } from './transport.js'
import type { Command, WireError } from './wire.js'

const FLYING_MAX = 4
/** The server keeps so many answers for repeats. */
const SPAN_MAX = 8
/** All flying sends have together no more. */
const COMMANDS_MAX = 32
/** The commands of a body have together no more, where the server does not say how long a message may be. */
const BODY_BYTES = 64 << 10
/** What is left of an earlier connection has time. */
const PATIENT_MAX = 60_000
/** A send that fails more often ends the connection. */
const FAILURES_MAX = 6
/** A send that lacks one before it waits so long. */
const ORDER_MS = 250
/** Requests that outlive a page have together at most 64 KiB; those of others count too. */
const KEEPALIVE_MAX = 4 << 10

/** The connection over HTTP whose commands go up. */
export interface Up {
  replies(replies: unknown[]): void
  /** No answer comes to a send. */
  lost(): void
  /** The server does not know the session any more, or has ended its connection. */
  refused(answer: Answer): void
}

interface Queued {
  text: string
  id: number | undefined
  /** Of an `unsubscribe`. */
  leaves: string | undefined
}

interface Send {
  n: number
  commands: Queued[]
  /** It is sent without its commands. */
  isFiller: boolean
  body: string
  /** Stops its request or its rest. Without it its request is due. */
  stop: (() => void) | undefined
  failures: number
}

export function createSends(env: Env, session: Session, request: Request, ms: number) {
  let queue: Queued[] = []
  /** In the order of their numbers. */
  let flying: Send[] = []
  let last = 0
  let up: Up | undefined
  /** Of the commands of one body: a character has up to three bytes. */
  let lengthMax = 0
  /** There is a connection, and sends may go up. */
  let active = false
  /** An answer has asked for patience: nothing goes up until then. */
  let quiet: (() => void) | undefined
  let stopPong = () => {}

  const post = (body: string, keepalive: boolean, done: (answer: Answer) => void) =>
    request('/v1/send', body, { ms, keepalive: keepalive && body.length < KEEPALIVE_MAX }, answer => {
      if (active && typeof answer.json.ticket === 'string') session.ticket = answer.json.ticket
      done(answer)
    })
  const bodyOf = (commands: string, n?: number) =>
    `{"ticket":${JSON.stringify(session.ticket)},${n ? `"n":${n},` : ''}"commands":[${commands}]}`

  const ask = (send: Send, keepalive = false) => {
    send.body ||= bodyOf(send.isFiller ? '' : send.commands.map(({ text }) => text).join(), send.n)
    send.stop = post(send.body, keepalive, answer => {
      send.stop = undefined
      if (!flying.includes(send)) return
      answered(send, answer)
      pump()
    })
  }
  /** It is sent again later. Without `asked` it was lost: then the first repeat is at once, and no other one is. */
  const rest = (send: Send, asked?: number) => {
    const isSoon = asked === undefined && !send.failures
    const own = restMs(env, send.failures++, up ? undefined : PATIENT_MAX)
    if (!active || isSoon) return
    if (send.failures > FAILURES_MAX && up) return up.lost()
    send.stop = later(env, own + (asked ?? 0), () => {
      send.stop = undefined
      pump()
    })
  }
  /** Without its commands it does no harm. */
  const empty = (send: Send) => {
    send.isFiller = true
    send.body = ''
  }
  /** Its number has taken effect. */
  const done = (send: Send) => {
    flying = flying.filter(other => other !== send)
  }
  /** Its commands will never be done. */
  const refuse = ({ isFiller, commands }: Send, error: WireError) => {
    if (!isFiller) up?.replies(commands.map(({ id }) => ({ ...error, id })))
  }
  const answered = (send: Send, answer: Answer) => {
    const { status, error, json, what, after } = answer
    const { isFiller } = send
    const code = error?.code
    const isEarly = status === 409 && code === 'out_of_order'
    const first = flying[0] as Send
    if (status === 200 && Array.isArray(json.replies)) {
      done(send)
      // Those of commands that were taken out are of an earlier connection, which has decided about them.
      if (!isFiller) up?.replies(json.replies)
    } else if (status === 200 || status < 0 || !active) {
      rest(send)
    } else if (status === 401 || (isEarly && first === send)) {
      // What is left of an earlier connection says nothing of a WebSocket.
      if (up) up.refused(answer)
      else flying = []
    } else if (isEarly) {
      // The oldest may be stuck, or rests.
      first.stop?.()
      first.stop = undefined
      rest(send, ORDER_MS)
    } else if (code === 'unknown') {
      // It has taken effect, and its answer is not kept. What does no harm is asked again, under another number.
      done(send)
      refuse(send, { ...(error as WireError), retryable: true })
    } else if (passes(status) || isFiller) {
      rest(send, after)
    } else {
      // It has not used its number: that is sent without its commands.
      const refused = { code: status === 413 ? 'too_large' : 'bad_request', message: what, retryable: false }
      refuse(send, error ?? { type: 'error', ...refused })
      empty(send)
    }
  }

  /** The commands of the next send, where one may begin now. */
  const next = () => {
    const oldest = flying[0]?.n ?? last + 1
    let room = COMMANDS_MAX
    for (const send of flying) room -= send.isFiller ? 0 : send.commands.length
    if (flying.length >= FLYING_MAX || last + 1 - oldest >= SPAN_MAX) room = 0
    let length = 0
    // One that is over the limit goes alone: the server says so.
    const count = queue.findIndex(
      (command, at) => at >= room || ((length += command.text.length + 1) > lengthMax && at > 0),
    )
    return queue.splice(0, count < 0 ? queue.length : count)
  }
  const launch = (keepalive?: boolean) => {
    for (let commands = next(); commands.length; commands = next()) {
      const send = { n: ++last, commands, isFiller: false, body: '', stop: undefined, failures: 0 }
      flying.push(send)
      ask(send, keepalive)
    }
  }
  /** Sends what may be sent. */
  const pump = () => {
    if (quiet || !active) return
    const ms = (session.notBefore ?? 0) - env.now()
    if (ms > 0) {
      quiet = later(env, Math.min(ms, PATIENCE_MAX), () => {
        quiet = undefined
        pump()
      })
      return
    }
    for (const send of flying) if (!send.stop) ask(send)
    launch()
  }
  const pong = (failures = 0) => {
    stopPong()
    stopPong = post(bodyOf('{"type":"pong"}'), false, ({ status, after }) => {
      if (!active || (status >= 0 && !passes(status))) return
      stopPong = later(env, after + restMs(env, failures), () => pong(failures + 1))
    })
  }

  return {
    /** This connection has begun: commands may be given. `bytes` is of one message. */
    begin(of: Up, bytes = BODY_BYTES) {
      up = of
      lengthMax = bytes / 3
    },
    /** Takes commands up. The answer to a ping has no number, and waits for no send before it. */
    send(commands: Command[]) {
      for (const command of commands) {
        const { type, id, channel } = command
        if (type === 'pong') {
          pong()
          continue
        }
        queue.push({ text: JSON.stringify(command), id, leaves: type === 'unsubscribe' ? channel : undefined })
      }
      // What is asked in one turn goes up in one send.
      Promise.resolve().then(pump)
    },
    backlog: () => queue.reduce((sum, command) => sum + command.text.length, 0),
    /** The ids of commands that were never sent. */
    unsent: () => new Set(queue.flatMap(({ id }) => id ?? [])),
    /** Nothing goes up any more; answers still count. */
    pause() {
      active = false
      stopPong()
    },
    /** A connection is there: of the same session, or of another, whose numbers begin anew. */
    online(resumed: boolean) {
      if (!resumed) {
        flying = []
        last = 0
      }
      active = true
      pump()
    },
    /** The connection is gone. */
    offline() {
      active = false
      up = undefined
      queue = []
      stopPong()
      for (const send of flying) {
        send.stop?.()
        send.stop = undefined
        send.failures = 0
        empty(send)
      }
    },
    mayLeave: (channel: string) =>
      flying.some(({ isFiller, commands }) => isFiller && commands.some(({ leaves }) => leaves === channel)),
    /**
     * The session is left: behind all that waits, as far as that fits; where there is no connection, that alone. `then`
     * is called when it is answered, or lost.
     */
    leave(then: () => void) {
      stopPong()
      if (active) {
        for (const send of flying) {
          send.stop?.()
          ask(send, true)
        }
        launch(true)
      }
      const n = active ? ++last : undefined
      active = false
      flying = []
      post(bodyOf('{"type":"disconnect"}', n), true, then)
    },
    /** The client has ended. What is on its way to end the session goes on. */
    end() {
      quiet?.()
      quiet = undefined
      flying = []
      last = 0
    },
  }
}
