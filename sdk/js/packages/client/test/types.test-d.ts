// What must compile, and what must not. Nothing runs this file: `npm run check` compiles it.

import { type Client, createClient } from '../src/index.js'

interface App {
  channels: {
    'chat:*': {
      events: { message: { text: string }; edited: { id: string } }
      signals: { typing: { on: boolean } }
      presence: { name: string }
      info: { role: string }
    }
    'chat:vip': { events: { message: { gold: number } } }
    'score:**': { events: { goal: number } }
  }
  rpc: { add: [{ a: number }, number] }
}

declare const client: Client<App>
const chat = client.channel('chat:general')

chat.subscribe({
  message: message => {
    if (message.event === 'edited') message.data.id satisfies string
    else message.data.text satisfies string
    // @ts-expect-error: no such event
    message.event === 'removed'
  },
  signal: ({ event, data }) => [event satisfies 'typing', data.on satisfies boolean],
  presence: ({ members }) => members?.[0]?.info?.role satisfies string | undefined,
})
void chat.publish({ id: 'one' }, { event: 'edited' })
void chat.history().then(({ messages }) => messages.map(({ event }) => event satisfies 'message' | 'edited'))
void client.rpc('add', { a: 1 }).then(sum => sum satisfies number)

// @ts-expect-error: no such event
void chat.publish({ text: 'hello' }, { event: 'removed' })
// @ts-expect-error: no such field
void chat.publish({ txt: 'hello' })
// @ts-expect-error: no such signal
void chat.signal('tipping', { on: true })
// @ts-expect-error: another type
void chat.signal('typing', { on: 1 })
// @ts-expect-error: another field
chat.enter({ nom: 'Ada' })
// @ts-expect-error: a slip in a handler's name
chat.subscribe({ mesage: () => {} })
// @ts-expect-error: no such method
void client.rpc('subtract', { a: 1 })
// @ts-expect-error: no such event of the client
client.on('stat', () => {})
// @ts-expect-error: no such option
createClient({ tokn: 'a' })

// A rest of one segment or more; an event without `message` needs its name.
void client.channel('score:cup:final').publish(1, { event: 'goal' })
// @ts-expect-error: there is no `message`
void client.channel('score:cup:final').publish(1)

// The very name counts before patterns.
client.channel('chat:vip').subscribe(({ data }) => data.gold satisfies number)

// A name that no pattern matches, and one that is not known yet, carry what is not known.
// @ts-expect-error: `unknown` has no fields
client.channel('other').subscribe(({ data }) => data.text)
client.channel('other' as string).subscribe(({ data }) => data satisfies unknown)

// Code for any application takes every client.
declare function banner(client: Client): void
banner(client)
