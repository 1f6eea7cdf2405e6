// The chat page: ties the connection, the room, the outbox and the view together.
//
// It speaks Fanfare's chat protocol (JSON over a WebSocket at the page's own address): it sends `join`, `message`,
// `typing`, and shows the `join`, `leave`, `message`, `typing` and `room_state` that come back.
//
// The name is kept for the browser (localStorage), the user id for the tab (sessionStorage). The user id survives a
// reload, and two tabs of one browser are two people who can chat with each other: most visitors will try the page that
// way.

import { Connection } from './connection.js'
import { Outbox } from './outbox.js'
import { cleanRoom, hashOfRoom, Room, roomBytes, ROOM_BYTES_MAX, roomOfHash, TYPING_SEND_MS } from './room.js'
import { copyText, renderSnippets } from './snippets.js'
import { currentLanguage, inventName, localeTag, preferredLanguage, setLanguage, t, translate } from './strings.js'
import * as view from './view.js'

/** The server ignores a longer message (`chat.content_chars_max`), and the chat protocol has no word for that. */
const CONTENT_CHARS_MAX = 4_000
/** So long without a copy of what we sent, and the connection is taken for dead. */
const SILENCE_MS = 10_000
const ROOMS_KEPT = 6

const $ = id => document.getElementById(id)
const url = `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${location.pathname.replace(/[^/]*$/, '')}`

// --- what is remembered ------------------------------------------------------------------------------------------

/** Storage that may be forbidden (private windows, settings): then things last as long as the page. */
function memory(open) {
  const held = new Map()
  const store = attempt(open)
  return {
    get: key => (store && attempt(() => store.getItem(key))) ?? held.get(key) ?? null,
    set: (key, value) => {
      held.set(key, value)
      attempt(() => store?.setItem(key, value))
    },
  }
}

function attempt(action) {
  try {
    return action()
  } catch {
    return undefined
  }
}

const browserMemory = memory(() => localStorage)
const tabMemory = memory(() => sessionStorage)

setLanguage(browserMemory.get('fanfare.chat.language') ?? preferredLanguage(navigator.languages))

const own = {
  userId: tabMemory.get('fanfare.chat.userId') ?? randomId(),
  username: browserMemory.get('fanfare.chat.name') ?? tabMemory.get('fanfare.chat.name') ?? inventName(currentLanguage()),
}
tabMemory.set('fanfare.chat.userId', own.userId)
tabMemory.set('fanfare.chat.name', own.username)

/** 96 random bits. (`crypto.randomUUID` would want https; this page is also opened by a phone on the same network.) */
function randomId() {
  return 'web-' + Array.from(crypto.getRandomValues(new Uint8Array(12)), byte => byte.toString(16).padStart(2, '0')).join('')
}

// --- the state of the page ---------------------------------------------------------------------------------------

let roomId = roomOfHash(location.hash)
let room = new Room(own.userId)
let state = { name: 'connecting' }
let serverRoom = null // the room that we are in, as far as the server's frames tell
let joins = [] // rooms of the `join`s under way: each is answered by our own `join`, then one `room_state`
let ownJoinSeen = false
let wasCutOff = false // the connection broke while we were in this room
let typingSentAt = 0

const outbox = new Outbox(tabMemory, renderOutbox)

const connection = new Connection(url, {
  onState(next) {
    state = next
    if (next.name === 'open') join()
    else if (next.name !== 'connecting') interrupted()
    renderState()
  },
  onMessage: receive,
})

const isIn = () => connection.isOpen && serverRoom === roomId

function join() {
  const { userId, username } = own
  ownJoinSeen = false
  if (connection.send({ type: 'join', userId, username, roomId, timestamp: Date.now() })) joins.push(roomId)
}

function interrupted() {
  wasCutOff ||= serverRoom === roomId
  serverRoom = null
  joins = []
  room.interrupted()
  outbox.unsettle()
  renderPeople()
  renderTyping()
}

function receive(frame) {
  if (frame.type === 'error') $('message-error').textContent = String(frame.message) // our `join` or message
  if (joins.length > 0) {
    if (frame.type === 'room_state') serverRoom = joins.shift()
    else if (frame.type === 'join' && frame.userId === own.userId) ownJoinSeen = true
  }
  // Frames do not name their room. After a switch, frames of the old room still come until our own `join` does.
  if (serverRoom !== roomId && !(joins.length === 1 && ownJoinSeen)) return
  const news = room.handle(frame, Date.now())
  if (news !== null) show(news)
  renderListsSoon()
}

function show(news) {
  switch (news.show) {
    case 'entered':
      if (wasCutOff) view.addNote(t('away'), 'away')
      wasCutOff = false
      flush()
      return renderState()
    case 'message':
      if (news.own) outbox.confirm(roomId, news.content)
      return view.addMessage(news)
    case 'joined':
      return view.addNote(t('joined', { name: news.username }), 'joined', news.userId)
    case 'left':
      return view.addNote(t('left', { name: news.username }), 'left', news.userId)
  }
}

// --- sending -----------------------------------------------------------------------------------------------------

const messageFrame = content => ({ type: 'message', userId: own.userId, username: own.username, content, timestamp: Date.now() })

function flush() {
  outbox.flush(roomId, content => isIn() && connection.send(messageFrame(content)))
}

function sendMessage() {
  const box = $('message')
  const content = box.value.replace(/\s+$/, '')
  if (content.trim() === '') return
  const size = [...content].length
  if (size > CONTENT_CHARS_MAX) {
    $('message-error').textContent = t('messageTooLong', { size: number(size), max: number(CONTENT_CHARS_MAX) })
    return
  }
  box.value = ''
  typingSentAt = 0
  messageEdited()
  outbox.add(roomId, content)
  flush()
  view.scrollDown()
}

const number = n => new Intl.NumberFormat(localeTag()).format(n)

function messageEdited() {
  const box = $('message')
  $('message-error').textContent = ''
  tabMemory.set('fanfare.chat.draft', box.value)
  box.style.setProperty('height', 'auto')
  box.style.setProperty('height', `${box.scrollHeight}px`)
  const now = Date.now()
  if (box.value.trim() !== '' && isIn() && now - typingSentAt >= TYPING_SEND_MS) {
    typingSentAt = now
    connection.send({ type: 'typing', userId: own.userId, username: own.username, timestamp: now })
  }
}

/** Once a second: what depends on the clock alone. */
function tick() {
  renderTyping()
  renderState()
  const since = outbox.oldestPendingSince()
  if (since !== null && connection.isOpen && Date.now() - since > SILENCE_MS) connection.abandon()
}

// --- rooms and names ---------------------------------------------------------------------------------------------

function visitedRooms() {
  const kept = attempt(() => JSON.parse(browserMemory.get('fanfare.chat.rooms') ?? '[]'))
  return Array.isArray(kept) ? kept.filter(name => typeof name === 'string') : []
}

function goTo(next) {
  const size = roomBytes(next)
  $('room-error').textContent = size > ROOM_BYTES_MAX ? t('roomTooLong', { size, max: ROOM_BYTES_MAX }) : ''
  if (size > ROOM_BYTES_MAX) return false
  location.hash = hashOfRoom(next)
  return true
}

function roomChanged() {
  const next = roomOfHash(location.hash)
  if (next === roomId) return
  if (!goTo(next)) return history.replaceState(null, '', hashOfRoom(roomId))
  outbox.unsettle()
  roomId = next
  room = new Room(own.userId)
  wasCutOff = false
  view.clearLog()
  join()
  rememberRoom()
  renderAll()
  toggleSide(false)
}

function rememberRoom() {
  const rooms = [roomId, ...visitedRooms().filter(name => name !== roomId)].slice(0, ROOMS_KEPT)
  browserMemory.set('fanfare.chat.rooms', JSON.stringify(rooms))
}

function rename(username) {
  if (username === '' || username === own.username) {
    $('name').value = own.username
    return
  }
  own.username = username
  browserMemory.set('fanfare.chat.name', username)
  tabMemory.set('fanfare.chat.name', username)
  // The protocol changes a name by a second `join`. Frames under way were sent before it and come back first.
  if (connection.isOpen) join()
  renderAll()
}

// --- drawing -----------------------------------------------------------------------------------------------------

function renderOutbox() {
  view.renderOutbox(outbox.inRoom(roomId), {
    onSendAgain: id => {
      outbox.sendAgain(id)
      flush()
    },
    onDiscard: id => outbox.discard(id),
  })
}

function renderPeople() {
  view.renderPeople(room.people(localeTag()), own, isIn())
}

let listsAreDue = false

/** At most once a frame: in a room of thousands somebody comes or goes all the time. */
function renderListsSoon() {
  if (listsAreDue) return
  listsAreDue = true
  requestAnimationFrame(() => {
    listsAreDue = false
    renderPeople()
    renderTyping()
  })
}

function renderTyping() {
  view.renderTyping(room.typing(Date.now()))
}

function renderState() {
  // An open socket whose room has not let us in yet is shown as connecting.
  const shown = state.name === 'open' && !isIn() ? { name: 'connecting' } : state
  view.renderState({ ...shown, offline: shown.name === 'waiting' && navigator.onLine === false }, Date.now())
}

function renderAll() {
  document.documentElement.lang = localeTag()
  document.title = t('title', { room: roomId })
  translate(document, { room: roomId })
  const other = $('language')
  other.textContent = currentLanguage() === 'zh' ? 'English' : '中文'
  other.lang = currentLanguage() === 'zh' ? 'en' : 'zh-CN'
  if (document.activeElement !== $('name')) $('name').value = own.username
  view.paintAvatar($('own-avatar'), own.userId, own.username)
  view.renderRooms([...new Set(['general', 'random', ...visitedRooms().sort((a, b) => a.localeCompare(b, localeTag()))])], roomId)
  renderOutbox()
  renderPeople()
  renderTyping()
  renderState()
}

function toggleSide(open) {
  document.body.classList.toggle('side-shown', open)
  $('scrim').hidden = !open
  $('side-open').setAttribute('aria-expanded', String(open))
  if (open) $('side-close').focus()
}

// --- what people do ----------------------------------------------------------------------------------------------

$('composer').addEventListener('submit', event => {
  event.preventDefault()
  sendMessage()
})
$('message').addEventListener('input', messageEdited)
$('message').addEventListener('keydown', event => {
  // While an input method is composing, Enter chooses a word. (In Safari only the key code 229 shows this.)
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return
  event.preventDefault()
  sendMessage()
})
$('name-form').addEventListener('submit', event => {
  event.preventDefault()
  $('message').focus()
})
$('name').addEventListener('change', () => rename($('name').value.replace(/\p{Cc}/gu, '').trim()))
$('room-form').addEventListener('submit', event => {
  event.preventDefault()
  const next = cleanRoom($('room').value)
  if (next !== '' && goTo(next)) $('room').value = ''
})
$('language').addEventListener('click', () => {
  setLanguage(currentLanguage() === 'zh' ? 'en' : 'zh')
  browserMemory.set('fanfare.chat.language', currentLanguage())
  renderAll()
})
$('skip').addEventListener('click', () => $('message').focus())
$('retry').addEventListener('click', () => connection.retry())
$('newer').addEventListener('click', view.scrollDown)
$('scroller').addEventListener('scroll', () => {
  const { scrollHeight, scrollTop, clientHeight } = $('scroller')
  if (scrollHeight - scrollTop - clientHeight < 60) $('newer').hidden = true
})
$('copy-link').addEventListener('click', () => copyText(location.href.replace(/#.*/, '') + hashOfRoom(roomId), $('copy-link')))
$('code-open').addEventListener('click', () => {
  renderSnippets($('snippets'), url, roomId)
  $('code').showModal()
})
$('code-close').addEventListener('click', () => $('code').close())
$('code').addEventListener('click', event => {
  if (event.target === $('code')) $('code').close() // the backdrop
})
$('side-open').addEventListener('click', () => toggleSide(true))
for (const id of ['side-close', 'scrim']) {
  $(id).addEventListener('click', () => {
    toggleSide(false)
    $('side-open').focus()
  })
}
document.addEventListener('keydown', event => {
  if (event.key === 'Escape' && document.body.classList.contains('side-shown')) $('side-close').click()
})
addEventListener('hashchange', roomChanged)
addEventListener('online', () => {
  // The network has changed; a socket of the old one may take minutes to notice.
  connection.abandon()
  connection.retry()
})
addEventListener('offline', renderState)
addEventListener('pageshow', event => {
  if (event.persisted) connection.retry()
})
document.addEventListener('visibilitychange', () => {
  if (!document.hidden && state.name === 'waiting') connection.retry()
})

if (roomBytes(roomId) > ROOM_BYTES_MAX) roomId = 'general'
$('message').value = tabMemory.get('fanfare.chat.draft') ?? ''
rememberRoom()
renderAll()
messageEdited()
if (matchMedia('(pointer: fine)').matches) $('message').focus()
setInterval(tick, 1_000)
connection.retry()
