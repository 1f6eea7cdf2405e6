/**
 * The hooks as an application sees them: typed by its channels.
 *
 * The hooks themselves know no types of an application; they are the same functions for each. So `createHooks` costs
 * nothing, and may be called in any module.
 */

import type { AppTypes, ChannelOf, Client, EventsOf, Signal, SignalsOf } from '@fanfare/client'
import { useChannel } from './channel.js'
import { useConnection } from './connection.js'
import { useRegistry } from './context.js'
import { useEnter } from './enter.js'
import { useLatest } from './latest.js'
import { useMessages } from './messages.js'
import { usePending, usePublish } from './pending.js'
import { usePresence } from './presence.js'
import { useReduced } from './reduced.js'
import { useSignal } from './signals.js'
import type {
  ChannelHandlers,
  Connection,
  EnterData,
  EnterState,
  EventName,
  LatestOptions,
  MessageOf,
  Messages,
  MessagesOptions,
  NameOrNull,
  PendingOf,
  PresenceIn,
  Publish,
  ReducedOptions,
  Selecting,
  SendAnySignal,
  SendSignal,
  SignalName,
  SignalOf,
  SignalsOptions,
  Status,
} from './types.js'

export interface Hooks<App extends AppTypes> {
  /** The client of the provider. */
  useFanfare(): Client<App>

  /**
   * Follows the channel while the component is mounted: each message once, to the handler of the last render.
   * Renders nothing but its own status.
   */
  useChannel<Name extends string>(
    name: NameOrNull<Name>,
    handlers?: ((message: MessageOf<App, Name>) => void) | ChannelHandlers<App, Name>,
  ): Status

  /** The newest messages, as a list with a bound. */
  useMessages<
    Name extends string,
    E extends EventName<App, Name> = EventName<App, Name>,
    T = Messages<MessageOf<App, Name, E>>,
  >(
    name: NameOrNull<Name>,
    options?: MessagesOptions<MessageOf<App, Name, E>, E> & Selecting<Messages<MessageOf<App, Name, E>>, T>,
  ): T

  /** The newest message, or the newest with an event. */
  useLatest<
    Name extends string,
    E extends EventName<App, Name> = EventName<App, Name>,
    T = MessageOf<App, Name, E> | undefined,
  >(
    name: NameOrNull<Name>,
    options?: LatestOptions<E> & Selecting<MessageOf<App, Name, E> | undefined, T>,
  ): T

  /** A state that messages change. The reducer may be inline; it runs once for each message. */
  useReduced<Name extends string, S, E extends EventName<App, Name> = EventName<App, Name>, T = S>(
    name: NameOrNull<Name>,
    reducer: (state: S, message: MessageOf<App, Name, E>) => S,
    initial: S,
    options?: ReducedOptions<S, E> & Selecting<S, T>,
  ): T

  /** Who is present. Does not enter. */
  usePresence<Name extends string, T = PresenceIn<App, Name>>(
    name: NameOrNull<Name>,
    selecting?: Selecting<PresenceIn<App, Name>, T>,
  ): T

  /** Enters while the component is mounted. Does not read. */
  useEnter<Name extends string, T = EnterState>(
    name: NameOrNull<Name>,
    data?: EnterData<App, Name>,
    selecting?: Selecting<EnterState, T>,
  ): T

  /** Sends signals with this name, and hands over those that come. Renders nothing. */
  useSignal<Name extends string, E extends SignalName<App, Name>>(
    name: NameOrNull<Name>,
    event: E,
    handler: (signal: SignalOf<App, Name, E>) => void,
  ): { send: SendSignal<SignalsOf<ChannelOf<App, Name>>[E]> }
  /** Sends signals with this name, and shows the newest of each sender for a while. `null`: only sends. */
  useSignal<Name extends string, E extends SignalName<App, Name>>(
    name: NameOrNull<Name>,
    event: E,
    options?: SignalsOptions | null,
  ): { send: SendSignal<SignalsOf<ChannelOf<App, Name>>[E]>; received: readonly SignalOf<App, Name, E>[] }
  /** All signals of the channel. */
  useSignal<Name extends string>(
    name: NameOrNull<Name>,
    event?: undefined,
    handlerOrOptions?: ((signal: Signal<SignalsOf<ChannelOf<App, Name>>>) => void) | SignalsOptions | null,
  ): { send: SendAnySignal<SignalsOf<ChannelOf<App, Name>>>; received: readonly SignalOf<App, Name>[] }

  /** Publishes. The function is the same until the name changes. */
  usePublish<Name extends string>(name: NameOrNull<Name>): Publish<EventsOf<ChannelOf<App, Name>>>

  /** What `usePublish` sent and no list of messages has yet: pending, confirmed, failed. */
  usePending<Name extends string, T = readonly PendingOf<App, Name>[]>(
    name: NameOrNull<Name>,
    selecting?: Selecting<readonly PendingOf<App, Name>[], T>,
  ): T

  /** The state of the connection, and what a banner says of it. */
  useConnection<T = Connection>(selecting?: Selecting<Connection, T>): T
}

/** @internal */
export const useFanfare = (): Client => useRegistry().client

const hooks = {
  useFanfare,
  useChannel,
  useMessages,
  useLatest,
  useReduced,
  usePresence,
  useEnter,
  useSignal,
  usePublish,
  usePending,
  useConnection,
}

/** The hooks, typed by the application's channels. Always the same functions. */
export function createHooks<App extends AppTypes = AppTypes>(): Hooks<App> {
  return hooks as unknown as Hooks<App>
}

