/**
 * Sends and polls over a network that loses, delays, repeats and reorders, to a server that does what docs/protocol.md
 * says. Whatever happens: a command takes effect once at most, and in the order in which it was given; one whose reply
 * came has taken effect; one that is said to be unsent has not; messages come once and in order; and when the network
 * is whole again everything goes through.
 */

import { describe, expect, test } from 'vitest'
import type { FetchLike, RequestLike, ResponseLike } from '../../src/env.js'
import type { Command } from '../../src/wire.js'
import { CONNECTED, Connection, settle, World } from './world.js'

type Body = Record<string, unknown>
interface Reply {
  status: number
  body: unknown
}

/** A generator of its own: a seed that fails fails again. */
function randomOf(seed: number): () => number {
  let state = seed * 2654435761
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

const refused = (status: number, code: string): Reply => ({ status, body: { code, message: code, retryable: false } })

/** The numbers of one session, its connection by polls, and what took effect. */
class Server {
  /** Ids of commands, as they took effect. */
  readonly effects: number[] = []
  private last = 0
  private readonly answers = new Map<number, Reply>()
  private readonly early: { n: number; body: Body; answer: (reply: Reply) => void }[] = []
  private n = 0
  private acked = 0
  private held: { n: number; messages: unknown[] } | undefined
  private readonly waiting: number[] = []
  private attempt: unknown
  private poller: ((reply: Reply) => void) | undefined
  private told = 0

  constructor(
    private readonly world: World,
    private readonly random: () => number,
  ) {}

  /** Something to tell. */
  push(): number {
    this.waiting.push(++this.told)
    this.poller?.(this.take())
    return this.told
  }

  private take(): Reply {
    this.poller = undefined
    if (!this.held && this.waiting.length) {
      const messages = this.waiting
        .splice(0)
        .map(number => ({ type: 'signal', channel: 'c', event: 'e', data: number }))
      this.held = { n: ++this.n, messages }
    }
    return { status: 200, body: this.held ?? { n: this.acked, messages: [] } }
  }

  poll(body: Body, answer: (reply: Reply) => void): void {
    if (body.type === 'connect') {
      if (this.attempt !== body.attempt) {
        if (Number(body.ack ?? 0) >= (this.held?.n ?? Infinity)) this.held = undefined
        // What was not had is told again.
        const again = (this.held?.messages ?? []).flatMap(it => Number((it as { data?: unknown }).data ?? []))
        this.waiting.unshift(...again.filter(Boolean))
        this.attempt = body.attempt
        this.held = { n: ++this.n, messages: [{ ...CONNECTED, session_resumed: this.n > 1 }] }
      }
      return answer({ status: 200, body: this.held })
    }
    const ack = Number(body.ack)
    if (ack < this.acked || this.poller) this.poller?.({ status: 200, body: { n: this.acked, messages: [] } })
    if (ack < this.acked) return answer({ status: 200, body: { n: ack, messages: [] } })
    this.acked = ack
    if (this.held && ack >= this.held.n) this.held = undefined
    if (this.held || this.waiting.length || !body.wait) return answer(this.take())
    this.poller = answer
    this.world.env.setTimeout(() => this.poller === answer && answer(this.take()), Number(body.wait))
  }

  send(body: Body, answer: (reply: Reply) => void): void {
    const n = Number(body.n)
    if (n <= this.last) return answer(this.answers.get(n) ?? refused(503, 'unknown'))
    if (n > this.last + 8) return answer(refused(409, 'out_of_order'))
    if (n > this.last + 1) {
      const waits = { n, body, answer }
      this.early.push(waits)
      this.world.env.setTimeout(() => {
        const at = this.early.indexOf(waits)
        if (at >= 0) this.early.splice(at, 1)[0]?.answer(refused(409, 'out_of_order'))
      }, 5_000)
      return
    }
    const commands = body.commands as Command[]
    // A proxy takes no long bodies.
    if (commands.some(command => command.data === 'too much')) return answer(refused(413, 'too_large'))
    this.last = n
    for (const { id } of commands) this.effects.push(id as number)
    const replies = commands.map(({ id }) => ({ type: 'result', id }))
    const reply = { status: 200, body: { n, replies } }
    this.answers.set(n, reply)
    this.answers.delete(n - 8)
    answer(reply)
    for (const next of this.early.splice(0)) this.send(next.body, next.answer)
  }

  /** A network: each request and each answer has its own fate. */
  readonly fetch: FetchLike = (url, init) => {
    const { random, world } = this
    const broken = this.isBroken
    const chance = (of: number) => broken && random() < of
    return new Promise<ResponseLike>((resolve, reject) => {
      ;(init.signal as unknown as { add(it: object): void }).add({ abort: () => reject(new Error('aborted')) })
      const arrive = (again: boolean) =>
        world.env.setTimeout(
          () => {
            if (!again && chance(0.1)) return reject(new TypeError('lost on its way'))
            if (!again && chance(0.1)) return // neither is heard of it
            if (!again && chance(0.05)) return resolve(responseOf({ status: 503, body: 'busy' }))
            const handle = url.endsWith('/v1/poll') ? this.poll : this.send
            handle.call(this, JSON.parse((init as RequestLike).body ?? '') as Body, reply => {
              if (again || chance(0.1)) return
              if (chance(0.1)) return reject(new TypeError('its answer is lost'))
              world.env.setTimeout(() => resolve(responseOf(reply)), broken ? random() * 3_000 : 20)
            })
          },
          broken ? random() * (again ? 20_000 : 3_000) : 20,
        )
      arrive(false)
      if (url.endsWith('/v1/send') && chance(0.1)) arrive(true) // a proxy says it twice
    })
  }
  isBroken = true
}

function responseOf({ status, body }: Reply): ResponseLike {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return { status, headers: { get: () => null }, body: null, text: async () => text }
}

async function run(seed: number) {
  const random = randomOf(seed)
  const world: World = new World({}, { random, fetch: (url, init) => server.fetch(url, init) })
  const server = new Server(world, random)
  const told: number[] = []
  const replied = new Set<number>()
  const refusedIds = new Set<number>()
  const unsent = new Set<number>()
  const given: number[] = []
  let ids = 0
  let connection: Connection | undefined
  /** A connection that is online; a new one where there is none. */
  const connect = async () => {
    for (let tries = 0; ; tries++) {
      expect(tries, `seed ${seed}: it connects`).toBeLessThan(200)
      if (connection && !connection.end && connection.messages.some(it => it.type === 'connected')) return connection
      if (!connection || connection.end) {
        for (const id of connection?.unsent ?? []) unsent.add(id)
        const mine: Connection = new Connection(world, 'poll')
        connection = mine
        mine.on = messages => {
          for (const message of messages) if (message.type === 'signal') told.push(message.data as number)
        }
        mine.onReplies = replies => {
          for (const reply of replies as { type: string; id: number }[])
            (reply.type === 'result' ? replied : refusedIds).add(reply.id)
        }
      }
      await world.pass(1_000)
      // The deadline of an attempt.
      if (tries % 12 === 11 && !connection.messages.length && !connection.end) {
        connection.close()
        connection = undefined
      }
    }
  }
  for (let step = 0; step < 40; step++) {
    const now = await connect()
    const fate = random()
    if (fate < 0.1) {
      now.close()
      for (const id of now.unsent ?? []) unsent.add(id)
      connection = undefined
    } else if (fate < 0.7) {
      const commands = Array.from({ length: 1 + Math.floor(random() * 6) }, () => {
        given.push(++ids)
        return { type: 'rpc', id: ids, ...(random() < 0.03 && { data: 'too much' }) }
      })
      await now.give(...commands)
    } else server.push()
    await world.pass(random() * 4_000)
  }
  server.isBroken = false
  await world.pass(120_000)
  const last = await connect()
  await last.give({ type: 'rpc', id: ++ids })
  const newest = server.push()
  await world.pass(60_000)
  await settle()

  const note = `seed ${seed}`
  expect(replied.has(ids), `${note}: the last command is answered`).toBe(true)
  expect(server.effects, `${note}: once, and in order`).toEqual([...new Set(server.effects)].sort((a, b) => a - b))
  for (const id of replied) expect(server.effects, `${note}: ${id} was answered`).toContain(id)
  for (const id of unsent) expect(server.effects, `${note}: ${id} was unsent`).not.toContain(id)
  expect(told.at(-1), `${note}: the newest message`).toBe(newest)
  expect(told, `${note}: messages once and in order`).toEqual(Array.from({ length: newest }, (_, n) => n + 1))
  last.close()
  await world.pass(60_000)
  return { given: given.length, effects: server.effects.length, unsent: unsent.size, refused: refusedIds.size, world }
}

describe('whatever the network does', () => {
  test('commands take effect once at most, and messages come once', async () => {
    const sums = { given: 0, effects: 0, unsent: 0, refused: 0, requests: 0 }
    for (let seed = 1; seed <= 60; seed++) {
      const { given, effects, unsent, refused } = await run(seed)
      sums.given += given
      sums.effects += effects
      sums.unsent += unsent
      sums.refused += refused
    }
    // It was no walk in the park, and most went through.
    expect(sums.effects).toBeGreaterThan(sums.given / 2)
    expect(sums.effects).toBeLessThan(sums.given)
    expect(sums.unsent).toBeGreaterThan(0)
    expect(sums.refused).toBeGreaterThan(0)
  })
})
