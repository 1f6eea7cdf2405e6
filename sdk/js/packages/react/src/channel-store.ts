/**
 * What stores of one channel have in common: a subscription, where it stands, and its beginning anew.
 *
 * A subscription that the server ended stays so until a component comes or calls `retry`. After a loss on a live
 * subscription the newest messages are asked for again, so that a list has no hole.
 */

import type { Channel, Client, FanfareError, Gap, SubscribeOptions, Subscription } from '@fanfare/client'
import { type Registry, Store } from './store.js'
import type { Status } from './types.js'

export const OFF: Status = { name: 'off' }
export const SUBSCRIBING: Status = { name: 'subscribing' }
export const LIVE: Status = { name: 'live' }

/** The hooks are typed by `createHooks`; below them a channel is one without types. */
export const channelOf = (client: Client, name: string): Channel => client.channel(name) as unknown as Channel

/** A key of one store: equal options, equal text. */
export const keyOf = (...parts: unknown[]): string => JSON.stringify(parts)

/** True where the event is asked for. */
export function eventTest(event: string | readonly string[] | undefined): (event: string) => boolean {
  if (event === undefined) return () => true
  return typeof event === 'string' ? name => name === event : name => event.includes(name)
}

export abstract class ChannelStore<S> extends Store<S> {
  protected readonly channel: Channel
  protected status: Status = SUBSCRIBING
  #subscription: Subscription | undefined

  constructor(registry: Registry, name: string, empty: S) {
    super(registry, empty)
    this.channel = channelOf(registry.client, name)
  }

  /** Its handlers, and where it begins. Asked for whenever it begins. */
  protected abstract options(): SubscribeOptions
  /** It begins, for the first time or again. */
  protected reset(): void {}
  protected ended(_error: FanfareError): void {}

  protected override open(): void {
    this.reset()
    this.#follow(this.options())
  }

  protected override joined(): void {
    if (this.status.name === 'ended') this.#again()
  }

  protected override close(): void {
    this.#subscription?.unsubscribe()
    this.#subscription = undefined
  }

  /** Asks for the newest messages again. Not within a handler: the messages that it belongs to come first. */
  protected renewAfter({ reason }: Gap, recent: number): void {
    if (reason === 'unrecovered' || recent === 0) return // they come by themselves, or are not wanted
    const before = this.#subscription
    void Promise.resolve().then(() => {
      if (!before || before !== this.#subscription) return
      before.unsubscribe()
      this.#follow(this.options())
    })
  }

  #follow(options: SubscribeOptions): void {
    const own = (subscription: Subscription | undefined) => subscription === this.#subscription
    const subscription: Subscription = this.channel.subscribe({
      ...options,
      subscribed: info => {
        this.#set(LIVE)
        options.subscribed?.(info)
      },
      ended: error => {
        if (!own(subscription)) return
        this.#subscription = undefined
        this.ended(error)
        this.#set({ name: 'ended', error, retry: () => this.status.name === 'ended' && this.#again() })
      },
    })
    this.#subscription = subscription
  }

  #again(): void {
    if (this.#subscription) return
    this.#set(SUBSCRIBING)
    this.open()
  }

  #set(status: Status): void {
    if (this.status === status) return
    this.status = status
    this.mark()
  }
}
