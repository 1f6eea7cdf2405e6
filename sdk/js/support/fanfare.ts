/**
 * A real server for the tests of both packages: that of tests/clients, with types.
 *
 * It runs `fanfare dev` of FANFARE_BIN, or of target/debug, on a free port, and ends with the process of the tests.
 */

// @ts-expect-error it is plain JavaScript
import { startServer as start } from '../../../tests/clients/support/server.mjs'

export interface Fanfare {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** `ws://127.0.0.1:PORT/` */
  readonly ws: string
  /** What it has said. */
  readonly output: string
  /** Ends it as an operator does. */
  stop(): Promise<unknown>
  /** As a crash would be. */
  kill(): Promise<void>
  /** Starts it again on the same port. */
  start(): Promise<void>
}

/** `args`: further arguments of `fanfare dev`; `env`: settings. */
export const startFanfare: (...args: (string | { env: Record<string, string> })[]) => Promise<Fanfare> = start

/** A command of the HTTP API. */
export async function api(server: Fanfare, command: string, body: unknown): Promise<unknown> {
  const key = /^API key: (\S+)$/m.exec(server.output)?.[1]
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
  const response = await fetch(`${server.url}/api/v1/${command}`, {
    method: 'POST',
    headers,
    body: JSON.stringify(body),
  })
  if (response.status !== 200) throw new Error(`${command}: ${response.status} ${await response.text()}`)
  return response.json()
}

/** A queue of what happens: `next` waits for what is wanted, and drops what came before it. */
export class Inbox<T> {
  private readonly items: T[] = []
  private wake: (() => void) | undefined

  readonly put = (item: T): void => {
    this.items.push(item)
    this.wake?.()
  }

  async next(wanted: (item: T) => boolean = () => true): Promise<T> {
    for (;;) {
      const found = this.items.findIndex(wanted)
      if (found >= 0) return this.items.splice(0, found + 1)[found] as T
      await new Promise<void>(resolve => (this.wake = resolve))
    }
  }
}
