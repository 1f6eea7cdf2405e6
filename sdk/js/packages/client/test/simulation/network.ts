// The network between a device and the fake server: a `WebSocket` class whose connections break in every way.
//
// Over one socket everything keeps its order. Each side learns of a cut at its own time, or never; what was on its way
// arrives up to some point. Of answers some are lost (the server was too busy to give one) or come twice.

import type { SocketConstructor, SocketLike } from '../../src/env.js'
import type { Server } from '../../src/testing/server.js'
import type { Connection, Peer } from '../../src/testing/session.js'
import type { DeviceClock, Rng, Time } from './time.js'

export interface Faults {
  /** Chances, of each socket or text. */
  refuse: number
  hang: number
  slow: number
  lose: number
  repeat: number
  garble: number
  latency: number
}

export const NO_FAULTS: Faults = { refuse: 0, hang: 0, slow: 0, lose: 0, repeat: 0, garble: 0, latency: 20 }

export interface Host {
  readonly time: Time
  readonly rng: Rng
  readonly server: Server
  readonly clock: DeviceClock
  faults: Faults
  /** No socket opens. */
  offline: boolean
  sockets: Set<SimSocket>
  count(name: string): void
  fail(what: string): void
  note(text: string): void
  /** A text that cannot be read was handed over. */
  garbled(): void
  said(text: string): void
  /** The server has refused something about this channel for good. */
  denied(channel: string): void
  /** Switched off: nothing reaches it. */
  dead: boolean
}

const GARBAGE = ['<!doctype html><title>Sign in</title>', '{"type":"mess', '[1]', '{"type":7}', 'null']

export interface SimSocket extends SocketLike {
  cut(how: 'both' | 'half-open'): void
}

export function socketsOf(host: Host): SocketConstructor {
  const { time, rng, server, clock } = host
  let serial = 0
  return class implements SimSocket {
    readyState = 0
    bufferedAmount = 0
    onopen: SocketLike['onopen'] = null
    onmessage: SocketLike['onmessage'] = null
    onclose: SocketLike['onclose'] = null
    onerror: SocketLike['onerror'] = null
    #connection: Connection | undefined
    #upAt = 0
    #downAt = 0
    /** Cut: nothing that is sent from now on arrives, and what is on its way up to some point in each direction. */
    #ends = false
    #upLost = false
    #downLost = false
    readonly #n = ++serial

    constructor(readonly url: string) {
      if (host.dead) return
      for (const other of host.sockets)
        if (other.readyState < 2) host.fail('two sockets of one client are open at a time')
      host.sockets.add(this)
      const { faults } = host
      host.note(`socket ${this.#n} opens`)
      if (rng.chance(faults.hang)) return host.count('socket hangs') as never
      const ms = rng.chance(faults.slow) ? rng.between(1_000, 15_000) : this.#latency()
      const refused = rng.chance(faults.refuse)
      time.after(ms, () => {
        if (this.readyState !== 0) return
        if (host.offline || refused) return this.#closed(1006)
        this.#connection = server.open(this.#peer())
        clock.happen(() => {
          if (this.readyState !== 0) return
          this.readyState = 1
          this.onopen?.({} as never)
        })
      })
    }

    send(text: string): void {
      if (this.readyState === 0) throw new Error('InvalidStateError')
      if (this.readyState !== 1) return
      host.said(text)
      if (text.length > 100_000) host.fail('a command of more than 100,000 characters was sent')
      host.note(`  ${this.#n}> ${text.slice(0, 200)}`)
      this.#up(() => {
        if (this.#connection) server.receive(this.#connection, text)
      })
    }

    close(code = 1005): void {
      if (code !== 1000 && code !== 1005 && (code < 3000 || code > 4999)) host.fail(`a page cannot close with ${code}`)
      if (this.readyState > 1) return
      host.note(`socket ${this.#n} is closed with ${code}`)
      const opened = this.#connection
      this.readyState = 2
      host.sockets.delete(this)
      this.#up(() => opened && server.lost(opened, code))
      // A late close frame; browsers wait up to a minute.
      time.after(rng.between(0, 3_000), () => clock.happen(() => this.#closed(opened ? code : 1006)))
    }

    cut(how: 'both' | 'half-open'): void {
      if (this.readyState > 1 || this.#ends) return
      host.note(`socket ${this.#n} is cut: ${how}`)
      this.#ends = true
      if (how === 'half-open') return
      if (rng.chance(0.9)) time.after(rng.between(0, 2_000), () => this.#closed(1006))
      if (rng.chance(0.7))
        time.after(rng.between(0, 4_000), () => this.#connection && server.lost(this.#connection))
    }

    #latency(): number {
      return 1 + rng.below(Math.max(1, host.faults.latency))
    }

    #up(arrive: () => void): void {
      if (this.#ends) return
      this.#upAt = Math.max(this.#upAt, time.now + this.#latency())
      time.at(this.#upAt, () => {
        if (this.#ends && (this.#upLost ||= rng.chance(0.4))) return
        arrive()
      })
    }

    #down(arrive: () => void): void {
      if (this.#ends) return
      this.#downAt = Math.max(this.#downAt, time.now + this.#latency())
      time.at(this.#downAt, () => {
        if (host.dead || (this.#ends && (this.#downLost ||= rng.chance(0.4)))) return
        clock.happen(arrive)
      })
    }

    #peer(): Peer {
      return {
        send: message => {
          const { faults } = host
          const isAnswer = 'id' in message
          const { code, channel } = message as { code?: string; channel?: string }
          if (channel !== undefined && /^(denied|limit_exceeded)$/.test(code ?? '')) host.denied(channel)
          const isBare = 'type' in message && message.type === 'subscribed'
          if ((isAnswer || isBare) && rng.chance(faults.lose)) return host.count('answers lost')
          let text = JSON.stringify(message)
          let bad = false
          if (rng.chance(faults.garble)) {
            bad = true
            text = rng.pick(GARBAGE)
          }
          const times = isAnswer && rng.chance(faults.repeat) ? 2 : 1
          for (let i = 0; i < times; i++)
            this.#down(() => {
              if (this.readyState !== 1) return
              host.note(`  ${this.#n}< ${text.slice(0, 200)}`)
              if (bad) host.garbled()
              this.onmessage?.({ data: text } as never)
            })
          if (times > 1) host.count('answers repeated')
        },
        close: code => this.#down(() => this.#closed(code)),
        cut: () => {
          this.#ends = true
          if (rng.chance(0.9)) time.after(rng.between(0, 500), () => this.#closed(1006))
        },
      }
    }

    #closed(code: number): void {
      if (this.readyState === 3) return
      clock.happen(() => {
        if (this.readyState === 3) return
        this.readyState = 3
        host.sockets.delete(this)
        if (host.dead) return
        host.note(`socket ${this.#n} has ended: ${code}`)
        this.onclose?.({ code, reason: '' } as never)
      })
    }
  }
}
