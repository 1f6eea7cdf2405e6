// The texts of the page, in English and Chinese, and the choice of the language.
//
// In: the browser's languages, or the choice kept from an earlier visit. Out: `t(key, values)`, and `translate(root)`,
// which fills every [data-text], [data-label] and [data-placeholder] below `root`. A key missing in one language is a
// mistake: tests/clients/demo-units.test.mjs compares the two tables.

export const tables = {
  en: {
    title: '#{room} · Fanfare chat',
    skip: 'Skip to the message box',
    tagline: 'Live chat, one small server',
    close: 'Close',
    menu: 'Rooms and people',
    yourName: 'Your name',
    rooms: 'Rooms',
    otherRoom: 'Go to another room',
    otherRoomHint: 'another room',
    go: 'Go',
    roomTooLong: 'This room name is {size} bytes long, {max} are allowed.',
    hereNow: 'Here now',
    you: 'you',
    morePeople: 'and {n} more',
    fromCode: 'The same from code',
    codeText: 'This page is an ordinary client: it opens a WebSocket and sends JSON. Any program that does the same can enter the room.',
    inBrowser: 'JavaScript, in any browser console or page',
    inTerminal: 'Terminal, with Node.js',
    copy: 'Copy',
    copied: 'Copied',
    copyFailed: 'Selected: press Ctrl+C',
    messages: 'Messages',
    message: 'Message',
    messageHint: 'Message #{room}',
    messageTooLong: 'This message has {size} characters, {max} are allowed. Shorten it, or send it in parts.',
    send: 'Send',
    keys: 'Enter sends, Shift+Enter starts a new line',
    emptyTitle: 'It is quiet in here',
    emptyText: 'Open this page in a second tab, or send the link to somebody, and say hello.',
    copyLink: 'Copy the link to this room',
    newer: 'New messages ↓',
    retryNow: 'Retry now',
    stateConnecting: 'Connecting…',
    stateOpen: 'Connected',
    stateWaiting: 'Connection lost',
    stateOffline: 'You are offline',
    stateRefused: 'Refused: {reason}',
    waitSeconds: 'next try in {seconds} s',
    joined: '{name} joined',
    left: '{name} left',
    away: 'Connected again. What others wrote in the meantime is not shown here.',
    pending: 'sending…',
    queued: 'waiting for the connection',
    unsure: 'The connection broke before this was confirmed. It may have arrived.',
    sendAgain: 'Send again',
    discard: 'Remove',
    'people.one': '{n} person here',
    'people.other': '{n} people here',
    'typing.1': '{a} is typing…',
    'typing.2': '{a} and {b} are typing…',
    'typing.many': 'Several people are typing…',
  },
  zh: {
    title: '#{room} · Fanfare 聊天',
    skip: '跳到消息输入框',
    tagline: '一个小服务器，实时聊天',
    close: '关闭',
    menu: '房间与成员',
    yourName: '你的名字',
    rooms: '房间',
    otherRoom: '前往其他房间',
    otherRoomHint: '其他房间',
    go: '前往',
    roomTooLong: '房间名有 {size} 字节，最多允许 {max} 字节。',
    hereNow: '当前在线',
    you: '你',
    morePeople: '还有 {n} 人',
    fromCode: '用代码做同样的事',
    codeText: '这个页面并不特殊：它打开一个 WebSocket，发送 JSON。照做的任何程序都能进入房间。',
    inBrowser: 'JavaScript：任意浏览器控制台或网页',
    inTerminal: '终端：使用 Node.js',
    copy: '复制',
    copied: '已复制',
    copyFailed: '已选中：请按 Ctrl+C',
    messages: '消息',
    message: '消息',
    messageHint: '发消息到 #{room}',
    messageTooLong: '这条消息有 {size} 个字符，最多允许 {max} 个。请缩短或分几条发送。',
    send: '发送',
    keys: 'Enter 发送，Shift+Enter 换行',
    emptyTitle: '这里还很安静',
    emptyText: '在另一个标签页打开本页，或把链接发给朋友，打个招呼吧。',
    copyLink: '复制本房间的链接',
    newer: '新消息 ↓',
    retryNow: '立即重试',
    stateConnecting: '正在连接…',
    stateOpen: '已连接',
    stateWaiting: '连接已断开',
    stateOffline: '你已离线',
    stateRefused: '被拒绝：{reason}',
    waitSeconds: '{seconds} 秒后重试',
    joined: '{name} 加入了房间',
    left: '{name} 离开了房间',
    away: '已重新连接。断开期间其他人的消息不会显示在这里。',
    pending: '发送中…',
    queued: '等待连接',
    unsure: '连接在确认之前断开，这条消息可能已经送达。',
    sendAgain: '重新发送',
    discard: '移除',
    'people.one': '{n} 人在线',
    'people.other': '{n} 人在线',
    'typing.1': '{a} 正在输入…',
    'typing.2': '{a} 和 {b} 正在输入…',
    'typing.many': '多人正在输入…',
  },
}

const names = {
  en: [['Quiet', 'Brave', 'Amber', 'Merry', 'Clever', 'Gentle', 'Swift', 'Sunny'], ' ', ['Otter', 'Heron', 'Lynx', 'Finch', 'Badger', 'Dolphin', 'Panda', 'Robin']],
  zh: [['安静的', '勇敢的', '快乐的', '聪明的', '温柔的', '敏捷的', '阳光的', '好奇的'], '', ['水獭', '白鹭', '山猫', '云雀', '海豚', '熊猫', '知更鸟', '小鹿']],
}

/** The first of the browser's languages that we speak; English when there is none. */
export function preferredLanguage(languages) {
  for (const tag of languages) {
    const primary = tag.toLowerCase().split('-')[0]
    if (primary in tables) return primary
  }
  return 'en'
}

/** A friendly name for somebody who has not chosen one. `random()` is in 0..1. */
export function inventName(language, random = Math.random) {
  const [adjectives, joint, animals] = names[language]
  const pick = list => list[Math.floor(random() * list.length)]
  return pick(adjectives) + joint + pick(animals)
}

let language = 'en'

export const currentLanguage = () => language
export const localeTag = () => (language === 'zh' ? 'zh-CN' : 'en')

export function setLanguage(next) {
  language = next in tables ? next : 'en'
}

export function t(key, values = {}) {
  const text = tables[language][key] ?? tables.en[key] ?? key
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole))
}

/** `t`, in the plural form that `n` wants: keys `<key>.one` and `<key>.other`. */
export function plural(key, n) {
  const form = new Intl.PluralRules(localeTag()).select(n) === 'one' ? 'one' : 'other'
  return t(`${key}.${form}`, { n })
}

export function translate(root, values = {}) {
  for (const element of root.querySelectorAll('[data-text]')) element.textContent = t(element.dataset.text, values)
  for (const element of root.querySelectorAll('[data-label]')) element.setAttribute('aria-label', t(element.dataset.label, values))
  for (const element of root.querySelectorAll('[data-placeholder]')) element.placeholder = t(element.dataset.placeholder, values)
}
