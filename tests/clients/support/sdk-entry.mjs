// What the pages of the SDK's tests have as `window.fanfare`: the SDK, and a visitor who notes everything that happens.
//
// Bundled by sdk-page.mjs. A `visitor` follows one channel by a client of its own. Its notes are plain values, which a
// test reads by `page.evaluate`; `said` are the messages' data in the order in which they were handed over.

import { createClient } from '@fanfare/client'

/** Its minutes are as short as milliseconds: on a fallback it looks for the WebSocket again at once. */
const hurried = { setTimeout: (run, ms) => setTimeout(run, ms >= 60_000 ? ms / 1_000 : ms) }

function visit(url, channel, { hurry = false, ...options } = {}, wanted = {}) {
  const visitor = { states: [], connectivity: [], errors: [], subscribed: [], gaps: [], said: [], signals: [], present: [], published: {} }
  const client = createClient({ url, ...options, ...(hurry && { env: hurried }) })
  client.on('state', state => visitor.states.push(state))
  client.on('connectivity', what => visitor.connectivity.push(what))
  client.on('error', error => visitor.errors.push(`${error.code}: ${error.message}`))
  visitor.client = client
  visitor.channel = client.channel(channel)
  visitor.subscription = visitor.channel.subscribe({
    ...wanted,
    message: message => visitor.said.push(message.data),
    signal: signal => visitor.signals.push(`${signal.event}: ${JSON.stringify(signal.data)}`),
    presence: presence => (visitor.present = presence.members.map(member => member.data).sort()),
    subscribed: what => visitor.subscribed.push(what),
    gap: gap => visitor.gaps.push(gap),
    ended: error => visitor.errors.push(`ended: ${error.code}`),
  })
  visitor.enter = data => (visitor.entry = visitor.channel.enter(data)).ready
  visitor.say = data => {
    visitor.published[data] = 'pending'
    visitor.channel.publish(data).then(
      () => (visitor.published[data] = 'stored'),
      error => (visitor.published[data] = error.code),
    )
  }
  return visitor
}

window.fanfare = { createClient, visit }
