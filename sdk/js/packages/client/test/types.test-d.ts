// Type tests: `npm run check` compiles this file. A line after `@ts-expect-error` must not compile.

import { createClient, type Message, type Presence, type Published } from '../src/index.js'
import type { Matches } from '../src/types.js'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const is = <T extends true>(_is?: T) => {}

is<Equal<Matches<'chat:*', 'chat:general'>, true>>()
is<Equal<Matches<'chat:*', 'chat:a:b'>, false>>()
is<Equal<Matches<'chat:**', 'chat:a:b'>, true>>()
is<Equal<Matches<'chat:**', 'chat'>, false>>()
is<Equal<Matches<'*:log', 'app:log'>, true>>()
is<Equal<Matches<'news', 'news'>, true>>()
is<Equal<Matches<'news', 'new'>, false>>()

interface App {
  channels: {
    'chat:vip': { events: { message: { vip: true } } }
    'chat:*': {
      events: { message: { text: string }; edited: { id: number } }
      signals: { typing: boolean }
      presence: { name: string }
      info: { role: 'admin' | 'user' }
    }
    'price:**': { events: { message: number } }
  }
  rpc: { quote: [{ symbol: string }, { price: number }] }
}

const client = createClient<App>({ url: 'https://example.com' })
const chat = client.channel('chat:general')

chat.subscribe(message => {
  is<Equal<typeof message.event, 'message' | 'edited'>>()
  if (message.event === 'edited') is<Equal<typeof message.data, { id: number }>>()
  else is<Equal<typeof message.data, { text: string }>>()
})
chat.subscribe({
  signal: ({ event, data }) => {
    is<Equal<typeof event, 'typing'>>()
    is<Equal<typeof data, boolean>>()
  },
  presence: (presence, change) => {
    is<Equal<typeof presence, Presence<{ name: string }, { role: 'admin' | 'user' }>>>()
    if (change.type !== 'sync') is<Equal<typeof change.member.info, { role: 'admin' | 'user' } | undefined>>()
  },
})

is<Equal<ReturnType<typeof chat.publish>, Promise<Published>>>()
void chat.publish({ text: 'hi' })
void chat.publish({ id: 1 }, { event: 'edited' })
void chat.publish(new Uint8Array(2))
// @ts-expect-error: another type
void chat.publish({ text: 1 })
// @ts-expect-error: the data of another event
void chat.publish({ text: 'hi' }, { event: 'edited' })
// @ts-expect-error: no such event
void chat.publish({ text: 'hi' }, { event: 'deleted' })
void chat.signal('typing', true)
// @ts-expect-error: another type
void chat.signal('typing', 'yes')
chat.enter({ name: 'Ada' })
// @ts-expect-error: another type
chat.enter({ title: 'Ada' })

// The whole name counts before a pattern.
client.channel('chat:vip').subscribe(({ data }) => is<Equal<typeof data, { vip: true }>>())
client.channel('price:eu:ACME').subscribe(({ data }) => is<Equal<typeof data, number>>())
// A channel without types has `unknown`, and may be used.
client.channel('other').subscribe(({ data }) => is<Equal<typeof data, unknown>>())
void client.channel('other').publish({ anything: 1 }, { event: 'any' })

void client.rpc('quote', { symbol: 'FNF' }).then(({ price }) => is<Equal<typeof price, number>>())
// @ts-expect-error: no such method
void client.rpc('quit')

async function read() {
  for await (const message of chat.messages({ recent: 10 })) {
    is<Equal<typeof message, Message<App['channels']['chat:*']['events']>>>()
  }
}
void read

const untyped = createClient({ url: 'https://example.com' })
untyped.channel('chat:general').subscribe(({ data, event }) => {
  is<Equal<typeof data, unknown>>()
  is<Equal<typeof event, string>>()
})
void untyped.channel('chat:general').publish({ text: 'hi' })
void untyped.rpc('anything', { at: 1 }).then(result => is<Equal<typeof result, unknown>>())

client.on('state', state => {
  if (state.name === 'connected') is<Equal<typeof state.client, string>>()
  // @ts-expect-error: only where it is connected
  if (state.name === 'error') void state.client
})
