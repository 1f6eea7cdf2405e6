// The panel "the same from code": programs that do the same as this page, ready to paste, made for this host and this
// room.

import { t } from './strings.js'

const quote = value => JSON.stringify(value)

/** Runs in any browser console: the room is joined, one message sent, and everything that comes back is printed. */
export const browserSnippet = (url, room) => `const ws = new WebSocket(${quote(url)})
const me = { userId: "ada", username: "Ada" }
const send = message => ws.send(JSON.stringify({ ...me, ...message }))

ws.onmessage = event => console.log(JSON.parse(event.data))
ws.onopen = () => {
  send({ type: "join", roomId: ${quote(room)} })
  send({ type: "message", content: "Hello from code" })
}`

/** A chat in the terminal: what others write is printed, each line typed is sent. Node.js 22 has WebSocket built in. */
export const terminalSnippet = (url, room) => `cat > chat.mjs <<'END'
import { createInterface } from "node:readline"
const ws = new WebSocket(${quote(url)})
const me = { userId: "term", username: "Terminal" }
const send = message => ws.send(JSON.stringify({ ...me, ...message }))

ws.onopen = () => send({ type: "join", roomId: ${quote(room)} })
ws.onmessage = event => {
  const { type, username, content } = JSON.parse(event.data)
  if (type === "message") console.log(username + ": " + content)
}
const lines = createInterface({ input: process.stdin })
lines.on("line", content => send({ type: "message", content }))
END
node chat.mjs   # Node.js 22 or newer`

export function renderSnippets(root, url, room) {
  root.replaceChildren(
    snippet('snippet-browser', t('inBrowser'), browserSnippet(url, room)),
    snippet('snippet-terminal', t('inTerminal'), terminalSnippet(url, room)),
  )
}

function snippet(id, title, text) {
  const section = document.createElement('section')
  const heading = document.createElement('h3')
  heading.id = id
  heading.textContent = title
  const code = document.createElement('code')
  code.textContent = text
  const pre = document.createElement('pre')
  // Long lines scroll inside; a scrolling region must be reachable by keyboard.
  pre.tabIndex = 0
  pre.setAttribute('role', 'region')
  pre.setAttribute('aria-labelledby', id)
  pre.append(code)
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'small'
  button.textContent = t('copy')
  button.addEventListener('click', () => copyText(text, button, pre))
  const head = document.createElement('header')
  head.append(heading, button)
  section.append(head, pre)
  return section
}

/** Copies, and says so on the button. Without the right to (plain http on a network address), selects `fallback`. */
export async function copyText(text, button, fallback) {
  const before = button.textContent
  try {
    await navigator.clipboard.writeText(text)
    button.textContent = t('copied')
  } catch {
    if (fallback) getSelection().selectAllChildren(fallback)
    button.textContent = t('copyFailed')
  }
  setTimeout(() => (button.textContent = before), 2_000)
}
