// A page with React in it: a client at a fake server, a root, and frames that come when the test says so.

import { createClient, type Client } from '@fanfare/client'
import { act, type ReactNode, StrictMode } from 'react'
import { createRoot, hydrateRoot, type Root } from 'react-dom/client'
import { vi } from 'vitest'
import { FanfareProvider } from '../../src/index.js'
import { FakeServer } from './server.js'

Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true })

export class Page {
  readonly server: FakeServer
  readonly client: Client
  readonly errors: string[] = []
  readonly box = document.createElement('div')
  #root: Root | undefined
  #frames: (() => void)[] = []
  #strict: boolean

  constructor({ strict = false, server = new FakeServer() } = {}) {
    vi.useFakeTimers()
    this.#strict = strict
    this.server = server
    this.client = createClient({ url: 'http://localhost', env: server.env })
    this.client.on('error', error => this.errors.push(error.message))
  }

  get text(): string {
    return this.box.textContent ?? ''
  }

  /** Frames that wait to be drawn. */
  get frames(): number {
    return this.#frames.length
  }

  /** Renders, and lets the exchange with the server come to rest, without a frame. */
  async render(children: ReactNode): Promise<void> {
    await act(async () => {
      this.#root ??= createRoot(this.box)
      this.#root.render(this.wrap(children))
    })
    await this.settle()
  }

  /** Takes over what a server rendered. */
  async hydrate(html: string, children: ReactNode): Promise<void> {
    this.box.innerHTML = html
    await act(async () => {
      const onRecoverableError = (error: unknown) => this.errors.push(String(error))
      this.#root = hydrateRoot(this.box, this.wrap(children), { onRecoverableError })
    })
    await this.settle()
  }

  wrap(children: ReactNode): ReactNode {
    const page = (
      <FanfareProvider client={this.client} schedule={run => void this.#frames.push(run)}>
        {children}
      </FanfareProvider>
    )
    return this.#strict ? <StrictMode>{page}</StrictMode> : page
  }

  /** Runs it, and everything that follows without time or a frame. */
  async settle(run: () => unknown = () => {}): Promise<void> {
    await act(async () => {
      await run()
      for (let i = 0; i < 50; i++) await Promise.resolve()
    })
  }

  /** The same, and then a frame. */
  async frame(run: () => unknown = () => {}): Promise<void> {
    await this.settle(run)
    await act(async () => {
      for (const draw of this.#frames.splice(0)) draw()
    })
  }

  /** Time passes. */
  async wait(ms: number): Promise<void> {
    await act(async () => {
      await vi.advanceTimersByTimeAsync(ms)
    })
  }

  async unmount(): Promise<void> {
    await act(async () => this.#root?.unmount())
    this.#root = undefined
    await this.settle()
  }

  async close(): Promise<void> {
    await this.unmount()
    this.client.close()
    vi.useRealTimers()
  }
}
