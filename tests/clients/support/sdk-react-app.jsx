// A chat of `@fanfare/react`, as its tests mount it, in the browser and on a server that renders pages.
//
// `window.app` has what tests ask of it: `mount` and `hydrate` give a way to end it; `renders` counts those of the list,
// `heard` are all messages by callback.

import { createClient } from '@fanfare/client'
import { FanfareProvider, useChannel, useEnter, useMessages, usePresence } from '@fanfare/react'
import { StrictMode } from 'react'
import { createRoot, hydrateRoot } from 'react-dom/client'

const app = (globalThis.app = { renders: 0, frames: 0, heard: [], sent: [] })

function Lines({ channel, initial }) {
  const { messages, status } = useMessages(channel, { limit: 50, initial })
  app.renders++
  return (
    <ul data-status={status.name}>
      {messages.map(message => (
        <li key={message.key ?? message.position.offset}>{message.data.text}</li>
      ))}
    </ul>
  )
}

function Ears({ channel }) {
  useChannel(channel, message => app.heard.push(message.data))
  return null
}

function People({ channel }) {
  useEnter(channel, { name: 'Ada' })
  const { members } = usePresence(channel)
  return <p id="people">{(members ?? []).map(member => member.data.name).join()}</p>
}


export function App({ client, channel, initial, people = false }) {
  return (
    <StrictMode>
      <FanfareProvider client={client}>
        <Lines channel={channel} initial={initial} />
        <Ears channel={channel} />
        {people && <People channel={channel} />}
      </FanfareProvider>
    </StrictMode>
  )
}

app.mount = ({ url, ...props }) => {
  app.client ??= createClient({ url })
  const root = createRoot(document.getElementById('root'))
  root.render(<App client={app.client} {...props} />)
  return () => root.unmount()
}

app.hydrate = ({ url, ...props }) => {
  app.client = createClient({ url })
  hydrateRoot(document.getElementById('root'), <App client={app.client} {...props} />, {
    onRecoverableError: error => console.error(`hydration: ${error.message}`),
  })
}
