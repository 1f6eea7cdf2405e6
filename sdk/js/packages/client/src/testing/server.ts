/**
 * The fake server as a machine: channels, sessions and connections, in memory, by the rules of docs/protocol.md.
 *
 * Nothing here is random, and the clock is given. What a command causes is sent before {@link Server.receive} returns;
 * only calls of `rpc` may be answered later. Not played: rules of channels, audiences, slow readers, rates (see {@link
 * Server.refuse}).
 */

import type { Env } from '../env.js'
import { textOf } from '../errors.js'
import type { From, Position } from '../types.js'
import { bytesOf, type Command, type WireMember, type WirePublication } from '../wire.js'
import { errorFields, type FakeError, flawOf, reasonOf } from './errors.js'
import { Log } from './log.js'
import type { Connection, Identity, Peer, Session, Sub } from './session.js'

export interface ServerOptions {
  /** Between heartbeats. Default 25,000 ms; 0 for none. */
  ping?: number
  /** A session outlives its connection by so long. Default 10,000 ms. */
  grace?: number
  /** Publications that a channel keeps. Default 1,000. */
  history?: number
  /** Publications in the answer to a `subscribe`; the rest follows. Default 100. */
  page?: number
  /** What `connected.limits` says, and the server checks, besides the defaults. */
  limits?: Record<string, number>
  /** Who shows this token (none: `undefined`). Default: the token is the user's name. */
  identify?: (token: string | undefined) => Identity | FakeError
}

export type Who = { client: string; user?: string }
export type RpcHandler = (data: never, who: Who) => unknown
export type Refusal = FakeError | ((command: Command, who: Who) => FakeError | undefined)

type Clock = Pick<Env, 'now' | 'setTimeout' | 'clearTimeout'>
type Reply = (message: Record<string, unknown>) => void

const LIMITS: Record<string, number> = {
  message_bytes: 65_536,
  subscriptions: 128,
  presence_bytes: 4_096,
  idempotency_keys_bytes: 4_194_304,
  idempotency_keys_ttl: 120_000,
  commands: 32,
  history: 1_000,
}
const GREETING_MS = 5_000
const REMINDER_MS = 30_000

export class Server {
  readonly channels = new Map<string, Log>()
  readonly sessions = new Map<string, Session>()
  readonly connections = new Set<Connection>()
  readonly options: ServerOptions
  readonly limits: Record<string, number>
  /** Told of each publication that is stored. */
  stored: (log: Log, publication: WirePublication) => void = () => {}
  /** Told of each command. */
  heard: (command: Command, connection: Connection) => void = () => {}
  readonly #clock: Clock
  readonly #rpcs = new Map<string, RpcHandler>()
  readonly #refusals: { type: string; refusal: Refusal; left: number }[] = []
  #epochs = 0
  #clients = 0
  #connections = 0

  constructor(clock: Clock, options: ServerOptions) {
    this.#clock = clock
    this.options = options
    this.limits = { ...LIMITS, ...options.limits }
  }

  // What the application does.

  channel(name: string): Log {
    let log = this.channels.get(name)
    if (!log) this.channels.set(name, (log = new Log(name, this.#epoch())))
    return log
  }

  publish(channel: string, publication: Omit<WirePublication, 'offset' | 'ts'>, except?: string): Position {
    const log = this.channel(channel)
    const entry = log.append({ ...publication, ts: this.#clock.now() }, this.options.history ?? 1_000)
    const { epoch, offset } = log
    this.stored(log, entry)
    // Each first message of an epoch says so.
    const message = { type: 'message', channel, ...(offset === 1 && { epoch }), ...entry }
    for (const [session, sub] of this.#live(channel)) if (session.client !== except) this.#gather(session, sub, message)
    return { epoch, offset }
  }

  /** False where nobody with this id can get it. */
  signal(channel: string, event: string, data: unknown, from: From | undefined, to?: string): boolean {
    const signal = { type: 'signal', channel, event, data, ...(from && { from }) }
    if (to === undefined) {
      for (const [session, sub] of this.#live(channel))
        if (sub.signals && session.client !== from?.client) session.connection?.peer.send(signal)
      return true
    }
    const session = this.sessions.get(to)
    if (!session?.subs.get(channel)?.signals) return false
    if (session.connection) session.connection.peer.send(signal)
    else if (this.channel(channel).members.has(to)) session.mailbox.push(signal)
    else return false
    return true
  }

  /** The server subscribes a client by itself. */
  subscribe(client: string, channel: string): void {
    const session = this.sessions.get(client)
    if (!session?.connection || session.subs.has(channel)) return
    session.subs.set(channel, { presence: false, signals: true, byServer: true })
    this.#subscribed(session, channel, {}, message => session.connection?.peer.send(message))
  }

  /** The server ends a subscription. */
  unsubscribe(client: string, channel: string, code: string, message: string): void {
    const session = this.sessions.get(client)
    if (!session || !this.#leave(session, channel)) return
    session.connection?.peer.send({ type: 'unsubscribed', channel, code, message })
  }

  /** Live subscribers hear that entries are lost, as if the server had dropped what it had for them. */
  gap(channel: string, reset: boolean): void {
    const log = this.channel(channel)
    if (reset) log.begin(this.#epoch())
    const { epoch, offset } = log
    const message = { type: 'gap', channel, epoch, offset, ...(reset && { reset }) }
    for (const [session, sub] of this.#live(channel)) {
      this.#flush(session, sub)
      session.connection?.peer.send(message)
    }
  }

  /** Ends a connection with a code of docs/protocol.md. Those that end the session end it. */
  disconnect(client: string, code: number, delay = 0): void {
    const session = this.sessions.get(client)
    const connection = session?.connection
    if (connection) this.#end(connection, code, delay)
    else if (session && endsSession(code)) this.#over(session)
  }

  /** A new ticket for everybody, as the server gives one in time. */
  renewTicket(client: string): void {
    const session = this.sessions.get(client)
    if (session) session.connection?.peer.send({ type: 'ticket', ticket: this.#ticket(session) })
  }

  rpc(method: string, handler: RpcHandler): void {
    this.#rpcs.set(method, handler)
  }

  refuse(type: string, refusal: Refusal, times: number): () => void {
    const entry = { type, refusal, left: times }
    this.#refusals.push(entry)
    return () => {
      const at = this.#refusals.indexOf(entry)
      if (at >= 0) this.#refusals.splice(at, 1)
    }
  }

  refuseNothing(): void {
    this.#refusals.length = 0
  }

  /** The process dies and comes back: no session, no entry, no key is left. */
  restart(): void {
    this.cut()
    for (const session of [...this.sessions.values()]) this.#over(session)
    for (const log of this.channels.values()) {
      log.begin(this.#epoch())
      log.members.clear()
      log.seq = 0
    }
  }

  /** All connections break, or one client's. */
  cut(client?: string): void {
    for (const connection of [...this.connections]) {
      if (client !== undefined && connection.session?.client !== client) continue
      connection.peer.cut()
      this.lost(connection)
    }
  }

  /** No timer is left. */
  close(): void {
    this.cut()
    for (const session of [...this.sessions.values()]) this.#over(session)
  }

  // What connections bring.

  /** `pings`: there are heartbeats. A client that polls has none. */
  open(peer: Peer, pings = true): Connection {
    const { setTimeout } = this.#clock
    const connection: Connection = {
      pings,
      n: ++this.#connections,
      peer,
      session: undefined,
      over: false,
      heard: true,
      timer: setTimeout(() => this.#end(connection, 4500), GREETING_MS),
    }
    this.connections.add(connection)
    return connection
  }

  /** One text of the client. */
  receive(connection: Connection, text: unknown): void {
    if (connection.over) return
    connection.heard = true
    let value: unknown
    try {
      value = JSON.parse(text as string)
    } catch {
      const error = { code: 'bad_request', message: 'this is not JSON' }
      return connection.peer.send(errorFields(error))
    }
    const commands = (Array.isArray(value) ? value : [value]) as Command[]
    if (commands.length > (this.limits.commands ?? 32))
      return connection.peer.send(errorFields({ code: 'too_large', message: `${commands.length} commands` }))
    for (const command of commands) this.command(connection, command, message => connection.peer.send(message))
  }

  /** The client is gone. It has left for good by a close with 1000. */
  lost(connection: Connection, code?: number): void {
    if (connection.over) return
    const { session } = connection
    this.#detach(connection)
    if (session && code === 1000) this.#over(session)
  }

  command(connection: Connection, command: Command, send: Reply): void {
    if (connection.over) return
    this.heard(command, connection)
    const { id } = command ?? {}
    const reply: Reply = message => {
      if (id !== undefined) send({ ...message, id })
      else if (message.type === 'error' || message.type === 'connected') send(message)
    }
    const fail = (error: FakeError) => reply(errorFields(error, command?.channel))
    const flaw = typeof command === 'object' && command ? flawOf(command) : { code: 'bad_request' }
    if (flaw) return fail(flaw)
    const { session } = connection
    if (command.type === 'connect') {
      const refused = this.#connect(connection, command, reply)
      if (!refused) return
      fail(refused)
      return id === undefined ? this.#end(connection, 4500) : undefined
    }
    if (command.type === 'pong') return
    if (!session) return reply(errorFields({ code: 'not_connected', message: 'the first command must be `connect`' }))
    const refused = this.#refused(command, session)
    if (refused) return fail(refused)
    const error = this.#act(connection, session, command, reply)
    if (error) fail(error)
  }

  // Commands.

  #connect(connection: Connection, command: Command, reply: Reply): FakeError | undefined {
    if (connection.session) return { code: 'already_connected', message: 'this connection is connected already' }
    const refused = this.#refused(command, undefined)
    if (refused) return refused
    const { token, ticket, page } = command as { token?: string; ticket?: string; page?: string } & Command
    const wanted = (command.subscribe ?? []) as Command[]
    const max = this.limits.subscriptions ?? Infinity
    if (wanted.length > max) return { code: 'limit_exceeded', message: `${wanted.length} subscriptions, not ${max}` }
    const known = ticket === undefined ? undefined : this.#bearer(ticket, page, connection.n)
    const identity = known && token === undefined ? known.identity : this.#identify(token)
    if ('code' in identity) return identity
    const resumed = known && known.identity.user === identity.user ? known : undefined
    const session = resumed ?? this.#begin(page)
    if (session.connection) this.#end(session.connection, 4006)
    this.#clock.clearTimeout(session.grace)
    session.last = connection.n
    session.page = page
    session.connection = connection
    connection.session = session
    if (!resumed || token !== undefined) this.#accept(session, identity)
    this.#clock.clearTimeout(connection.timer)
    this.#beat(connection)
    const { user, expires } = session.identity
    reply({
      type: 'connected',
      client: session.client,
      ...(user !== undefined && { user }),
      session_resumed: resumed !== undefined,
      ticket: this.#ticket(session),
      ...(expires !== undefined && { expires }),
      ping: this.options.ping ?? 25_000,
      protocol: 'fanfare.v1',
      features: [],
      limits: this.limits,
    })
    // What is not named again is left.
    for (const channel of [...session.subs.keys()])
      if (!wanted.some(sub => sub.channel === channel)) this.#leave(session, channel)
    const push: Reply = message => connection.peer.send(message)
    for (const options of wanted) {
      const channel = options.channel as string
      const error = this.#refused({ ...options, type: 'subscribe' }, session)
      if (!error) this.#subscribe(session, options, push)
      else {
        this.#leave(session, channel)
        push(errorFields(error, channel))
      }
    }
    for (const channel of identity.channels ?? []) this.subscribe(session.client, channel)
    for (const signal of session.mailbox.splice(0)) if (session.subs.has(signal.channel)) connection.peer.send(signal)
    return undefined
  }

  #act(connection: Connection, session: Session, command: Command, reply: Reply): FakeError | undefined {
    const { type } = command
    const channel = command.channel as string
    switch (type) {
      case 'subscribe': {
        const many = command.channels as Command[] | undefined
        if (!many) return this.#mayJoin(session, channel) ?? this.#subscribe(session, command, reply)
        const data: unknown[] = []
        for (const one of many) {
          const error = this.#mayJoin(session, one.channel as string)
          if (error) data.push(errorFields(error, one.channel))
          else this.#subscribe(session, one, message => data.push(message))
        }
        reply({ type: 'result', data })
        return
      }
      case 'unsubscribe':
        if (!this.#leave(session, channel)) return { code: 'not_subscribed', message: `not subscribed to ${channel}` }
        return reply({ type: 'unsubscribed', channel, code: 'requested' }) as undefined
      case 'publish':
        return this.#published(session, command, reply)
      case 'signal': {
        const { event, data, to } = command as { event?: string; data?: unknown; to?: string } & Command
        const from = whoIs(session)
        const sent = this.signal(channel, event as string, data ?? null, from, to)
        return sent ? (reply({ type: 'result' }) as undefined) : { code: 'not_found', message: `${to} is not here` }
      }
      case 'presence_set':
      case 'presence_clear':
        if (!session.subs.has(channel))
          return { code: 'not_subscribed', message: `entering "${channel}" needs a live subscription to it` }
        if (type === 'presence_set') this.#enter(session, channel, command.data ?? null)
        else this.#exit(session, channel)
        return reply({ type: 'result' }) as undefined
      case 'presence': {
        const { members, seq } = this.channel(channel)
        return reply({ type, channel, seq, count: members.size, entries: [...members.values()] }) as undefined
      }
      case 'history':
        return this.#history(command, reply)
      case 'refresh': {
        const identity = this.#identify(command.token as string)
        if ('code' in identity) return identity
        if (identity.user !== session.identity.user)
          return {
            code: 'denied',
            message: 'the token belongs to another user than the session; connect again with it',
          }
        this.#accept(session, identity)
        const { expires } = identity
        return reply({ type: 'result', ...(expires !== undefined && { expires }) }) as undefined
      }
      case 'rpc':
        return this.#call(connection, session, command, reply)
      case 'disconnect':
        reply({ type: 'result' })
        return this.#end(connection, 4505) as undefined
      default:
        return { code: 'unknown_command', message: `there is no command of type ${JSON.stringify(type)}` }
    }
  }

  #mayJoin(session: Session, channel: string): FakeError | undefined {
    const { subs } = session
    const code = subs.get(channel)?.byServer === false ? 'already_subscribed' : 'limit_exceeded'
    if (code === 'already_subscribed') return { code, message: `this connection is already subscribed to "${channel}"` }
    if (subs.size >= (this.limits.subscriptions ?? Infinity)) return { code, message: `${subs.size} subscriptions` }
    return undefined
  }

  #subscribe(session: Session, options: Command, reply: Reply): undefined {
    const { channel, presence, signals, batch } = options as Command & {
      channel: string
      batch?: { size?: number; delay?: number }
    }
    const sub: Sub = { presence: presence === true, signals: signals !== false, byServer: false }
    const { size = 200, delay = 0 } = batch ?? {}
    if (size > 1 && delay > 0) sub.batch = { size, delay, kept: [], timer: undefined }
    this.#clock.clearTimeout(session.subs.get(channel)?.batch?.timer)
    session.subs.set(channel, sub)
    this.#subscribed(session, channel, options, reply)
  }

  #subscribed(session: Session, channel: string, options: Record<string, unknown>, reply: Reply): void {
    const { since, recent } = options as { since?: Position; recent?: number }
    const log = this.channel(channel)
    const missed = since && log.after(since)
    const all = missed ?? (recent ? log.entries.slice(-recent) : [])
    const page = this.options.page ?? 100
    const first = missed ? all.slice(0, page) : all.slice(-page)
    const rest = missed ? all.slice(page) : []
    reply({
      type: 'subscribed',
      channel,
      epoch: log.epoch,
      offset: rest.length ? (first[first.length - 1]?.offset ?? log.offset) : log.offset,
      ...(since && { recovered: missed !== undefined }),
      publications: first,
      ...(rest.length && { more: true }),
    })
    for (const entry of rest) session.connection?.peer.send({ type: 'message', channel, ...entry })
  }

  #published(session: Session, command: Command, reply: Reply): FakeError | undefined {
    const {
      channel,
      data,
      data64,
      event,
      idempotency_key: key,
      echo,
    } = command as Command & {
      channel: string
      data64?: string
      event?: string
      idempotency_key?: string
      echo?: boolean
    }
    const payload = data64 ?? JSON.stringify(data)
    const max = this.limits.message_bytes ?? Infinity
    if (bytesOf(payload) > max) return { code: 'too_large', message: `${bytesOf(payload)} bytes, the limit is ${max}` }
    const log = this.channel(channel)
    const { user } = session.identity
    const scoped = key === undefined ? undefined : `${user === undefined ? session.client : `user ${user}`} ${key}`
    const known = scoped === undefined ? undefined : log.key(scoped, this.#clock.now())
    if (known && known.payload !== payload)
      return { code: 'key_conflict', message: `the key ${key} was used for another payload` }
    if (known) return reply({ type: 'published', ...known.position, duplicate: true }) as undefined
    // The answer comes before one's own copy.
    reply({ type: 'published', epoch: log.epoch, offset: log.offset + 1 })
    const publication = {
      ...(data64 === undefined ? { data } : { data64 }),
      ...(event !== undefined && { event }),
      ...(key !== undefined && { idempotency_key: key }),
      from: whoIs(session),
    }
    this.publish(channel, publication, echo === false ? session.client : undefined)
    if (scoped !== undefined)
      log.remember(scoped, payload, this.#clock.now() + (this.limits.idempotency_keys_ttl ?? 120_000))
    return undefined
  }

  #history(command: Command, reply: Reply): undefined {
    const {
      channel,
      limit = 100,
      since,
      before,
    } = command as Command & { channel: string } & {
      limit?: number
      since?: Position
      before?: Position
    }
    const log = this.channel(channel)
    const at = since ?? before
    const reset = at !== undefined && !log.knows(at)
    const page = reset ? { publications: [], more: false, gap: false } : log.page(limit, since, before)
    const { publications, more, gap } = page
    const flags = { ...(more && { more }), ...(gap && { gap }), ...(reset && { reset }) }
    reply({ type: 'history', channel, ...log.position, publications, ...flags })
  }

  #call(connection: Connection, session: Session, command: Command, reply: Reply): FakeError | undefined {
    const { method, data } = command as { method?: string; data?: unknown } & Command
    const handler = this.#rpcs.get(method as string)
    if (!handler) return { code: 'not_found', message: `there is no method ${JSON.stringify(method)}` }
    const answer = (message: Record<string, unknown>) => connection.over || reply(message)
    const failed = (thrown: unknown) => {
      const code = (thrown as { code?: unknown } | null)?.code
      answer(errorFields({ code: typeof code === 'string' ? code : 'internal', message: textOf(thrown) }))
    }
    try {
      const result = handler(data as never, whoIs(session))
      if (result instanceof Promise) result.then(data => answer({ type: 'result', data: data ?? null }), failed)
      else answer({ type: 'result', data: result ?? null })
    } catch (thrown) {
      failed(thrown)
    }
    return undefined
  }

  #refused(command: Command, session: Session | undefined): FakeError | undefined {
    const who = session ? whoIs(session) : { client: '' }
    for (const entry of this.#refusals) {
      if (entry.type !== command.type) continue
      const error = typeof entry.refusal === 'function' ? entry.refusal(command, who) : entry.refusal
      if (!error) continue
      if (--entry.left <= 0) this.#refusals.splice(this.#refusals.indexOf(entry), 1)
      return error
    }
    return undefined
  }

  // Sessions.

  #identify(token: string | undefined): Identity | FakeError {
    const { identify } = this.options
    if (identify) return identify(token)
    return token === undefined ? {} : { user: token }
  }

  /** The session of a ticket, where this connection may have it. */
  #bearer(ticket: string, page: string | undefined, n: number): Session | undefined {
    for (const session of this.sessions.values()) {
      if (!session.tickets.has(ticket)) continue
      const samePage = page !== undefined && session.page === page
      if (samePage ? n > session.last : !session.connection) return session
    }
    return undefined
  }

  #begin(page: string | undefined): Session {
    const client = `c${(++this.#clients).toString(16).padStart(15, '0')}`
    const session: Session = {
      client,
      tickets: new Set(),
      identity: {},
      page,
      last: 0,
      connection: undefined,
      subs: new Map(),
      mailbox: [],
      grace: undefined,
      reminder: undefined,
      expiry: undefined,
    }
    this.sessions.set(client, session)
    return session
  }

  #ticket(session: Session): string {
    const ticket = `ticket-${session.client}-${session.tickets.size + 1}`
    session.tickets.add(ticket)
    return ticket
  }

  /** The token counts from now on. */
  #accept(session: Session, identity: Identity): void {
    const { setTimeout, clearTimeout } = this.#clock
    session.identity = identity
    clearTimeout(session.reminder)
    clearTimeout(session.expiry)
    const { expires } = identity
    for (const channel of session.subs.keys())
      if (this.channel(channel).members.has(session.client)) this.#enter(session, channel)
    if (expires === undefined) return
    session.expiry = setTimeout(
      () => (session.connection ? this.#end(session.connection, 4007) : this.#over(session)),
      expires,
    )
    if (expires > REMINDER_MS)
      session.reminder = setTimeout(
        () => session.connection?.peer.send({ type: 'token_expiring', expires: REMINDER_MS }),
        expires - REMINDER_MS,
      )
  }

  #beat(connection: Connection): void {
    const { ping = 25_000 } = this.options
    if (ping <= 0 || !connection.pings) return
    connection.timer = this.#clock.setTimeout(() => {
      if (!connection.heard) return this.#end(connection, 4001)
      connection.heard = false
      connection.peer.send({ type: 'ping' })
      this.#beat(connection)
    }, ping)
  }

  #end(connection: Connection, code: number, delay = 0): void {
    if (connection.over) return
    const { session, peer } = connection
    const reason = reasonOf(code)
    peer.send({ type: 'disconnect', code, reason, retry: code < 4500, delay })
    this.#detach(connection)
    peer.close(code, reason)
    if (session && endsSession(code)) this.#over(session)
  }

  #detach(connection: Connection): void {
    const { session } = connection
    const { setTimeout, clearTimeout } = this.#clock
    connection.over = true
    this.connections.delete(connection)
    clearTimeout(connection.timer)
    if (session?.connection !== connection) return
    session.connection = undefined
    for (const sub of session.subs.values()) {
      clearTimeout(sub.batch?.timer)
      if (sub.batch) sub.batch.kept = []
    }
    session.grace = setTimeout(() => this.#over(session), this.options.grace ?? 10_000)
  }

  #over(session: Session): void {
    const { clearTimeout } = this.#clock
    clearTimeout(session.grace)
    clearTimeout(session.reminder)
    clearTimeout(session.expiry)
    this.sessions.delete(session.client)
    for (const channel of [...session.subs.keys()]) this.#leave(session, channel)
  }

  // Subscriptions and presence.

  /** Who listens now. */
  *#live(channel: string): Iterable<[Session, Sub]> {
    for (const session of [...this.sessions.values()]) {
      const sub = session.subs.get(channel)
      if (sub && session.connection) yield [session, sub]
    }
  }

  #leave(session: Session, channel: string): boolean {
    const sub = session.subs.get(channel)
    if (!sub) return false
    this.#clock.clearTimeout(sub.batch?.timer)
    session.subs.delete(channel)
    this.#exit(session, channel)
    return true
  }

  #gather(session: Session, sub: Sub, message: object): void {
    const { batch } = sub
    if (!batch) return session.connection?.peer.send(message)
    if (batch.kept.push(message) >= batch.size) return this.#flush(session, sub)
    if (batch.kept.length === 1) batch.timer = this.#clock.setTimeout(() => this.#flush(session, sub), batch.delay)
  }

  #flush(session: Session, { batch }: Sub): void {
    if (!batch) return
    this.#clock.clearTimeout(batch.timer)
    const [first, ...others] = batch.kept.splice(0)
    if (first) session.connection?.peer.send(others.length ? [first, ...others] : first)
  }

  #enter(session: Session, channel: string, data?: unknown): void {
    const log = this.channel(channel)
    const { client, identity } = session
    const { user, info } = identity
    const known = log.members.get(client)
    const member: WireMember = {
      client,
      ...(user !== undefined && { user }),
      ...(info !== undefined && { info }),
      data: data === undefined ? known?.data : data,
    }
    if (known && JSON.stringify(known) === JSON.stringify(member)) return
    log.members.set(client, member)
    this.#tell(log, { type: known ? 'presence_update' : 'join', ...member })
  }

  #exit(session: Session, channel: string): void {
    const log = this.channel(channel)
    const member = log.members.get(session.client)
    if (!member) return
    log.members.delete(session.client)
    this.#tell(log, { type: 'leave', ...member })
  }

  #tell(log: Log, change: object): void {
    const seq = ++log.seq
    for (const [session, sub] of this.#live(log.name))
      if (sub.presence) session.connection?.peer.send({ ...change, channel: log.name, seq })
  }

  #epoch(): string {
    return `epoch${++this.#epochs}`
  }
}

function whoIs({ client, identity }: Session): Who {
  return { client, ...(identity.user !== undefined && { user: identity.user }) }
}

/** After these the session is over. */
function endsSession(code: number): boolean {
  return code === 4007 || code >= 4502
}
