// Types of the hooks: patterns give names, data and members; wrong ones do not compile. `npm run check` compiles this.

import type { AppTypes, Client } from '@fanfare/client'
import {
  createHooks,
  FanfareProvider,
  type Messages,
  type PendingMessage,
  type Status,
  useMessages as useUntypedMessages,
} from '../src/index.js'

interface App extends AppTypes {
  channels: {
    'chat:*': {
      events: { message: { text: string }; edited: { id: number } }
      signals: { typing: { on: boolean }; mouse: [number, number] }
      presence: { name: string }
      info: { role: 'admin' | 'guest' }
    }
    'price:**': { events: { message: number } }
  }
}

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
/** Compiles only where the type of `value` is `T`. */
const is = <T>() => <V>(_value: V & (Equal<V, T> extends true ? unknown : never)): void => {}

const {
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
} = createHooks<App>()
declare const id: string
declare const maybe: string | undefined

export function names() {
  is<Client<App>>()(useFanfare())
  FanfareProvider<App>({ client: useFanfare() })
  is<Status>()(useChannel('chat:a'))
  useChannel(maybe === undefined ? null : `chat:${maybe}`, ({ event, data }) => {
    is<'message' | 'edited'>()(event)
    if (event === 'edited') is<number>()(data.id)
    else is<string>()(data.text)
    // @ts-expect-error: no such event
    return event === 'typing'
  })
  useChannel(`chat:${id}`, {
    message: message => message.event === 'message' && is<string>()(message.data.text),
    signal: signal => signal.event === 'typing' && is<boolean>()(signal.data.on),
    presence: ({ members }) => members?.map(({ data, info }) => [data?.name, info?.role]),
  })
  useChannel('other:a', ({ event, data }) => {
    is<string>()(event)
    is<unknown>()(data)
  })
}

export function lists() {
  const { messages, status } = useMessages(`chat:${id}`, { limit: 10, recent: 5 })
  is<Status>()(status)
  for (const message of messages) if (message.event === 'message') is<string>()(message.data.text)
  const edited = useMessages('chat:a', { event: 'edited' })
  is<number>()(edited.messages.map(({ data }) => data.id)[0] as number)
  // @ts-expect-error: no such event
  useMessages('chat:a', { event: 'typing' })
  is<number>()(useMessages('chat:a', { select: ({ messages }) => messages.length }))
  is<Messages<never>['status']>()(useMessages('chat:a').status)
  const untyped = useUntypedMessages('chat:a').messages[0]
  if (untyped) is<unknown>()(untyped.data)

  const price = useLatest('price:eu:gold')
  if (price) is<number>()(price.data)
  is<number | undefined>()(useLatest('price:eu', { select: message => message?.data }))
  is<{ id: number } | undefined>()(useLatest('chat:a', { event: 'edited' })?.data)

  is<number>()(useReduced('price:eu', (sum, { data }) => sum + data, 0))
  is<string>()(useReduced('price:eu', (sum, { data }) => sum + data, 0, { select: sum => sum.toFixed() }))
  // @ts-expect-error: the state is a number
  useReduced('price:eu', (sum, { data }) => `${sum}${data}`, 0)
}

export function presence() {
  const { count, members } = usePresence('chat:a')
  is<number>()(count)
  for (const { data, info } of members ?? []) {
    is<{ name: string } | undefined>()(data)
    is<'admin' | 'guest' | undefined>()(info?.role)
  }
  is<number>()(usePresence('chat:a', { select: ({ count }) => count }))
  const state = useEnter('chat:a', { name: 'Ada' })
  if (state.name === 'refused') is<string>()(state.error.code)
  // @ts-expect-error: it has a name
  useEnter('chat:a', { nick: 'Ada' })
}

export function signals() {
  const { send, received } = useSignal('chat:a', 'typing')
  void send({ on: true })
  // @ts-expect-error: not what typing carries
  void send({ off: true })
  for (const { event, data } of received) {
    is<'typing'>()(event)
    is<boolean>()(data.on)
  }
  useSignal('chat:a', 'mouse', ({ data: [x, y] }) => is<number>()(x + y))
  // @ts-expect-error: no such signal
  useSignal('chat:a', 'edited')
  const all = useSignal('chat:a')
  void all.send('mouse', [1, 2])
  // @ts-expect-error: a mouse has two numbers
  void all.send('mouse', { on: true })
}

export function publishing() {
  const publish = usePublish('chat:a')
  void publish({ text: 'hello' })
  void publish({ id: 1 }, { event: 'edited', ttl: 1_000 })
  // @ts-expect-error: a message has a text
  void publish('hello')
  // @ts-expect-error: no such event
  void publish({ id: 1 }, { event: 'typing' })
  is<readonly PendingMessage<{ text: string } | { id: number }>[]>()(usePending('chat:a'))
}

export function connection() {
  const { state, connectivity } = useConnection()
  if (state.name === 'connected') is<string>()(state.client)
  if (connectivity?.name === 'restored') is<number>()(connectivity.after)
  is<boolean>()(useConnection({ select: ({ state }) => state.name === 'connected' }))
}
