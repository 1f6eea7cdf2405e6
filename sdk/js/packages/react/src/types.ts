/** The types that the hooks share: what they take, what they give. */

import type {
  AppTypes,
  ChannelOf,
  Connectivity,
  ConnectionState,
  EventsOf,
  FanfareError,
  Gap,
  InfoOf,
  Member,
  Message,
  Position,
  Presence,
  PresenceOf,
  PublishOptions,
  Published,
  Signal,
  SignalOptions,
  SignalsOf,
  SubscribeOptions,
} from '@fanfare/client'

/** The name of a channel. `null` or `undefined`: the hook does nothing until there is one. */
export type NameOrNull<Name extends string> = Name | null | undefined

/** Narrows what a component reads: it renders only where the selected value changes. May be inline. */
export interface Selecting<S, T> {
  select?: ((snapshot: S) => T) | undefined
  /** Default `Object.is`. Give one (such as {@link shallowEqual}) where `select` makes new objects. */
  equal?: ((a: T, b: T) => boolean) | undefined
}

/** Where a subscription stands. `live` goes on through reconnects: `useConnection` tells of these. */
export type Status =
  /** There is no name. */
  | { readonly name: 'off' }
  | { readonly name: 'subscribing' }
  | { readonly name: 'live' }
  /** The server does not want it, for this reason. `retry()` asks again. */
  | { readonly name: 'ended'; readonly error: FanfareError; retry(): void }

type ChannelFor<App extends AppTypes, Name extends string> = ChannelOf<App, Name>
/** The names of a channel's events. */
export type EventName<App extends AppTypes, Name extends string> = keyof EventsOf<ChannelFor<App, Name>> & string
/** The names of a channel's signals. */
export type SignalName<App extends AppTypes, Name extends string> = keyof SignalsOf<ChannelFor<App, Name>> & string
/** The publications of a channel, or those with these events. */
export type MessageOf<
  App extends AppTypes,
  Name extends string,
  E extends EventName<App, Name> = EventName<App, Name>,
> = Message<Pick<EventsOf<ChannelFor<App, Name>>, E>>
/** The signals of a channel, or those with these events. */
export type SignalOf<
  App extends AppTypes,
  Name extends string,
  E extends SignalName<App, Name> = SignalName<App, Name>,
> = Signal<Pick<SignalsOf<ChannelFor<App, Name>>, E>>
/** What a client says of itself when it enters. */
export type EnterData<App extends AppTypes, Name extends string> = PresenceOf<ChannelFor<App, Name>>
/** Who is present in a channel. */
export type PresenceIn<App extends AppTypes, Name extends string> = Presence<
  EnterData<App, Name>,
  InfoOf<ChannelFor<App, Name>>
>
/** One of those who are present. */
export type MemberOf<App extends AppTypes, Name extends string> = Member<
  EnterData<App, Name>,
  InfoOf<ChannelFor<App, Name>>
>

/** What `useChannel` takes besides a function for messages. Handlers may be inline. */
export type ChannelHandlers<App extends AppTypes, Name extends string> = SubscribeOptions<ChannelFor<App, Name>>

/** What a server rendered, or any page of history: the list begins with it and goes on behind it, without a gap. */
export interface InitialMessages<M> {
  readonly messages: readonly M[]
  /** The place of the last of them: what follows it is fetched. */
  readonly position: Position
}

export interface MessagesOptions<M, E extends string> {
  /** The list holds so many, the newest. Default 200. */
  limit?: number | undefined
  /** Begin with the newest n of the history. Default 0. The channel's rule must let the client read it. */
  recent?: number | undefined
  /** Only publications with this event, or with one of these. */
  event?: E | readonly E[] | undefined
  /** Begin with these, in place of `recent`. Counts when the component mounts or the name changes. */
  initial?: InitialMessages<M> | undefined
}

/** The newest messages of a channel. A new object for each change. */
export interface Messages<M> {
  /** Oldest first. */
  readonly messages: readonly M[]
  readonly status: Status
  /** Messages were lost, and the list has begun anew: for those who count or keep more than they show. */
  readonly gap: Gap | undefined
}

export interface LatestOptions<E extends string> {
  /** Only publications with this event, or with one of these. */
  event?: E | readonly E[] | undefined
  /** How many of the history are looked at for the first value. Default 1; 0 where the history may not be read. */
  recent?: number | undefined
}

export interface ReducedOptions<S, E extends string> {
  /** Begin with the newest n of the history. Default 0. */
  recent?: number | undefined
  /** Only publications with this event, or with one of these. */
  event?: E | readonly E[] | undefined
  /**
   * Loads the state that messages change: at first, and where messages were lost. Messages wait for it. `position`:
   * the place up to which the state knows the channel; what lies before is skipped. A load that fails is repeated.
   */
  load?:
    | ((at: { position: Position; reason: 'first' | Gap['reason'] }) => Promise<{ state: S; position?: Position }>)
    | undefined
  /** Components that say the same word share one state; the reducer of the first one counts. */
  share?: string | undefined
}

/** One's own publication before it is in the list. */
export interface PendingMessage<Data = unknown> {
  /** That of the message that will come. */
  readonly key: string
  readonly event: string
  readonly data: Data
  /** `confirmed`: stored, and about to come. `failed`: given up. */
  readonly state: 'pending' | 'confirmed' | 'failed'
  readonly error?: FanfareError
  /** When it was asked for, ms since 1970. */
  readonly since: number
  /** Tries a failed one again, with the same key: what was stored before is not stored twice. */
  retry(): void
  /** Takes a failed one from the list. */
  dismiss(): void
}

/** One's own publications to a channel, before they are in the list. */
export type PendingOf<App extends AppTypes, Name extends string> = PendingMessage<
  EventsOf<ChannelFor<App, Name>>[EventName<App, Name>]
>

/** Publishes to the channel. Its result may be ignored: `usePending` shows what failed. */
export type Publish<Events extends Record<string, unknown>> = <
  E extends keyof Events & string = 'message' & keyof Events & string,
>(
  data: Events[E] | Uint8Array,
  options?: PublishOptions & { event?: E },
) => Promise<Published>

export interface SignalsOptions {
  /** How long a signal is shown, ms. Default 3,000. */
  keep?: number | undefined
  /** How many are shown at most, the newest. Default 100. */
  max?: number | undefined
}

/** Sends a signal with the name that was given to the hook. */
export type SendSignal<Data> = (data: Data, options?: SignalOptions) => Promise<void>
/** Sends a signal, for a hook that got no name of one. */
export type SendAnySignal<Signals extends Record<string, unknown>> = <E extends keyof Signals & string>(
  event: E,
  data: Signals[E],
  options?: SignalOptions,
) => Promise<void>

/** Where one's own entry stands. */
export type EnterState =
  | { readonly name: 'off' }
  | { readonly name: 'entering' }
  | { readonly name: 'entered' }
  /** `retry()` asks again. */
  | { readonly name: 'refused'; readonly error: FanfareError; retry(): void }

export interface Connection {
  readonly state: ConnectionState
  /** For a banner: undefined while all is well. `restored` is shown for 3 s. */
  readonly connectivity: Connectivity | undefined
}
