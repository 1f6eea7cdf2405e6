// The page's moving parts: the log, the outbox below it, the lists of people and rooms, the state of the connection.
//
// All text of other people is inserted by `textContent` only. The log keeps the newest `LOG_MAX` entries. It follows
// the newest one only while the reader is at the bottom: a reader of older messages stays there, and sees a notice that
// there are newer ones.

import { hashOfRoom } from './room.js'
import { localeTag, plural, t } from './strings.js'

const LOG_MAX = 500
/** Of more people the rest is a number. */
const PEOPLE_SHOWN = 200
/** Messages of one person within this time stand together under one name. */
const TOGETHER_MS = 120_000

const $ = id => document.getElementById(id)
const log = $('log')
const outboxList = document.createElement('div')
outboxList.className = 'outbox'
outboxList.id = 'outbox'
// Below the log and outside of it: a screen reader should hear one's own message once, when it has arrived.
log.after(outboxList)

let lastMessage = null // { userId, timestamp } of the newest entry, null if that is a note

const make = (tag, className, text) => {
  const element = document.createElement(tag)
  if (className) element.className = className
  if (text !== undefined) element.textContent = text
  return element
}

/** One or two letters, and a colour of one's own: the same on every screen, because it comes from the id. */
export function paintAvatar(element, userId, username) {
  const words = username.trim().split(/\s+/)
  const initial = word => [...word][0] ?? ''
  const latin = /^[\p{Script=Latin}\d]/u.test(words[0] ?? '')
  element.textContent = (latin && words.length > 1 ? initial(words[0]) + initial(words.at(-1)) : initial(words[0] ?? '')).toUpperCase() || '?'
  element.style.setProperty('--hue', String(hueOf(userId)))
}

function hueOf(text) {
  let hash = 2166136261
  for (const unit of text) hash = Math.imul(hash ^ unit.codePointAt(0), 16777619) >>> 0
  return (hash % 24) * 15
}

function avatar(userId, username) {
  const element = make('span', 'avatar')
  element.setAttribute('aria-hidden', 'true')
  paintAvatar(element, userId, username)
  return element
}

const onlyEmoji = text => /^[\p{Extended_Pictographic}\p{Emoji_Modifier}\u200d\ufe0f ]{1,16}$/u.test(text)

function timeElement(timestamp) {
  const date = new Date(timestamp)
  const element = make('time', '', new Intl.DateTimeFormat(localeTag(), { timeStyle: 'short' }).format(date))
  element.dateTime = date.toISOString()
  element.title = new Intl.DateTimeFormat(localeTag(), { dateStyle: 'long', timeStyle: 'medium' }).format(date)
  return element
}

// --- the log -----------------------------------------------------------------------------------------------------

const atBottom = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60
const scroller = $('scroller')

export function scrollDown() {
  scroller.scrollTop = scroller.scrollHeight
  $('newer').hidden = true
}

/** Runs `change`, then stays at the bottom if the reader was there. Returns whether they were. */
function keepingPlace(change) {
  const follow = atBottom()
  change()
  if (follow) scrollDown()
  return follow
}

function append(element, isNews) {
  const follow = keepingPlace(() => {
    log.append(element)
    while (log.childElementCount > LOG_MAX) log.firstElementChild.remove()
    $('empty').hidden = true
  })
  if (!follow && isNews) $('newer').hidden = false
}

export function addMessage({ userId, username, content, timestamp, own }) {
  const together = lastMessage !== null && lastMessage.userId === userId && lastMessage.username === username && timestamp - lastMessage.timestamp < TOGETHER_MS
  lastMessage = { userId, username, timestamp }
  const item = make('article', own ? 'message own' : 'message')
  item.classList.toggle('together', together)
  item.append(avatar(userId, username))
  const body = make('div', 'body')
  const head = make('div', 'head')
  head.append(make('span', 'who', username), timeElement(timestamp))
  const bubble = make('div', onlyEmoji(content) ? 'bubble emoji' : 'bubble', content)
  bubble.dir = 'auto'
  body.append(head, bubble)
  item.append(body)
  append(item, true)
  if (own) scrollDown()
}

/** A line about the room. `who` lets a quick return take back the line about the leaving instead of adding another. */
export function addNote(text, kind, who = '') {
  const last = log.lastElementChild
  if (kind === 'joined' && last?.dataset.kind === 'left' && last.dataset.who === who) {
    last.remove()
    return
  }
  lastMessage = null
  const note = make('p', 'note', text)
  note.dataset.kind = kind
  note.dataset.who = who
  append(note, false)
}

export function clearLog() {
  log.replaceChildren()
  lastMessage = null
  $('newer').hidden = true
}

// --- the outbox --------------------------------------------------------------------------------------------------

export function renderOutbox(entries, { onSendAgain, onDiscard }) {
  keepingPlace(() => {
    outboxList.replaceChildren(...entries.map(entry => {
      const item = make('div', `message own waiting ${entry.state}`)
      const body = make('div', 'body')
      const bubble = make('div', 'bubble', entry.content)
      bubble.dir = 'auto'
      const foot = make('div', 'foot')
      foot.append(make('span', '', t(entry.state)))
      if (entry.state === 'unsure') foot.append(button(t('sendAgain'), () => onSendAgain(entry.id)))
      if (entry.state !== 'pending') foot.append(button(t('discard'), () => onDiscard(entry.id)))
      body.append(bubble, foot)
      item.append(body)
      return item
    }))
    $('empty').hidden = log.childElementCount > 0 || entries.length > 0
  })
}

function button(text, onClick) {
  const element = make('button', 'link', text)
  element.type = 'button'
  element.addEventListener('click', onClick)
  return element
}

// --- people, rooms, typing, connection ---------------------------------------------------------------------------

export function renderPeople(people, own, isIn) {
  const rows = [{ ...own, isOwn: true }, ...people.slice(0, PEOPLE_SHOWN)].map(({ userId, username, isOwn }) => {
    const row = make('li')
    row.append(avatar(userId, username), make('span', 'who', username))
    if (isOwn) row.append(make('span', 'you', t('you')))
    return row
  })
  if (people.length > PEOPLE_SHOWN) rows.push(make('li', 'more', t('morePeople', { n: people.length - PEOPLE_SHOWN })))
  $('people').replaceChildren(...(isIn ? rows : []))
  $('people-count').textContent = isIn ? String(people.length + 1) : '–'
  $('bar-people').textContent = isIn ? plural('people', people.length + 1) : ''
}

export function renderRooms(rooms, current) {
  $('rooms').replaceChildren(...rooms.map(room => {
    const row = make('li')
    const link = make('a', '', '')
    link.href = hashOfRoom(room)
    const hash = make('span', 'hash', '#')
    hash.setAttribute('aria-hidden', 'true')
    link.append(hash, make('span', 'who', room))
    if (room === current) link.setAttribute('aria-current', 'page')
    row.append(link)
    return row
  }))
  $('room-name').textContent = current
}

export function renderTyping(names) {
  const [a, b] = names
  const text = names.length === 0 ? '' : names.length === 1 ? t('typing.1', { a }) : names.length === 2 ? t('typing.2', { a, b }) : t('typing.many')
  // Screen readers would read the same words again if they were set again.
  if ($('typing').textContent !== text) $('typing').textContent = text
}

const stateTexts = { connecting: 'stateConnecting', open: 'stateOpen', waiting: 'stateWaiting', refused: 'stateRefused' }

export function renderState(state, now) {
  const text = state.offline ? t('stateOffline') : t(stateTexts[state.name], { reason: state.reason })
  $('state').dataset.state = state.name
  if ($('state-text').textContent !== text) $('state-text').textContent = text
  const seconds = state.name === 'waiting' ? Math.max(0, Math.ceil((state.until - now) / 1000)) : 0
  $('state-wait').textContent = seconds > 1 ? t('waitSeconds', { seconds }) : ''
  $('retry').hidden = !(state.name === 'refused' || seconds > 1)
}
