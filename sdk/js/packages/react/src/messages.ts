/**
 * The newest messages of a channel, as a list with a bound.
 *
 * Components with the same channel and options share one list. Where messages were lost it begins anew with the
 * newest ones; the old ones are shown until then. `initial` begins it with what a server rendered.
 */

import type { Gap, Message, Position, SubscribeOptions } from '@fanfare/client'
import { ChannelStore, eventTest, keyOf, OFF, SUBSCRIBING } from './channel-store.js'
import { pendingOf, seen } from './pending.js'
import { useStore } from './source.js'
import type { Registry } from './store.js'
import type { InitialMessages, Messages, MessagesOptions, NameOrNull, Selecting } from './types.js'

const LIMIT = 200
const NO_MESSAGES: readonly Message[] = []
const IS_OFF: Messages<Message> = { messages: NO_MESSAGES, status: OFF, gap: undefined }
const BEGINS: Messages<Message> = { messages: NO_MESSAGES, status: SUBSCRIBING, gap: undefined }

class MessagesStore extends ChannelStore<Messages<Message>> {
  readonly #limit: number
  readonly #recent: number
  readonly #wants: (event: string) => boolean
  #initial: InitialMessages<Message> | undefined
  #list: Message[] = []
  #shown: readonly Message[] = NO_MESSAGES
  #changed = false
  /** The next message begins the list anew. */
  #anew = false
  #gap: Gap | undefined
  #feedless: () => void = () => {}

  constructor(registry: Registry, name: string, options: MessagesOptions<Message, string>, empty: Messages<Message>) {
    super(registry, name, empty)
    this.#limit = Math.max(1, options.limit ?? LIMIT)
    this.#recent = options.recent ?? 0
    this.#wants = eventTest(options.event)
    this.#initial = options.initial
    this.#shown = empty.messages
  }

  protected override open(): void {
    this.#feedless()
    this.#feedless = pendingOf(this.registry, this.channel.name).feed()
    super.open()
  }

  protected override close(): void {
    this.#feedless()
    this.#feedless = () => {}
    super.close()
  }

  protected override reset(): void {
    this.#list = [...(this.#initial?.messages ?? [])].slice(-this.#limit)
    this.#anew = false
  }

  protected override options(): SubscribeOptions {
    const since: Position | undefined = this.#initial?.position
    this.#initial = undefined // when it begins again, there are newer ones
    return {
      message: message => this.#add(message),
      gap: gap => {
        this.#gap = gap
        this.#anew = true
        this.mark()
        this.renewAfter(gap, this.#recent)
      },
      ...(since ? { since } : {}),
      ...(this.#recent > 0 ? { recent: this.#recent } : {}),
    }
  }

  protected override build(): Messages<Message> {
    if (this.#changed) {
      this.#changed = false
      this.#shown = this.#list.slice(-this.#limit)
    }
    return { messages: this.#shown, status: this.status, gap: this.#gap }
  }

  #add(message: Message): void {
    seen(this.registry, this.channel.name, message.key)
    if (!this.#wants(message.event)) return
    if (this.#anew) this.#list = []
    this.#anew = false
    this.#list.push(message)
    if (this.#list.length >= 2 * this.#limit) this.#list = this.#list.slice(-this.#limit)
    this.#changed = true
    this.mark()
  }
}

export function useMessages<T = Messages<Message>>(
  name: NameOrNull<string>,
  options: MessagesOptions<Message, string> & Selecting<Messages<Message>, T> = {},
): T {
  const { limit, recent, event, initial, select, equal } = options
  const off = name === null || name === undefined
  const key = off ? null : keyOf('messages', name, limit, recent, event)
  const shown = initial?.messages.slice(-(limit ?? LIMIT))
  const empty: Messages<Message> = off ? IS_OFF : shown ? { ...BEGINS, messages: shown } : BEGINS
  return useStore(
    key,
    registry => new MessagesStore(registry, name as string, { limit, recent, event, initial }, empty),
    empty,
    { select, equal },
  )
}
