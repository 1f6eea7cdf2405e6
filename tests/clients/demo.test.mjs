// The demo page in Chromium, as people use it: two pages chat, one reloads, the server restarts, and no message is
// lost. Every page of every test must end without an error, a warning or a violation of its CSP in the console.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { afterEach, describe, test } from 'node:test'
import WebSocket from 'ws'
import { watch } from './support/browser.mjs'
import { ChatClient, freshRoom } from './support/chat.mjs'
import { browser, server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }
const DESK = { viewport: { width: 1180, height: 760 }, locale: 'en-GB' }
const PHONE = { viewport: { width: 360, height: 700 }, isMobile: true, hasTouch: true, locale: 'en-GB' }

share(options, { args: [{ rates: 'default' }], withBrowser: true })
let pages = []

afterEach(async () => {
  const ending = pages
  pages = []
  for (const { context } of ending) await context.close()
  for (const { name, complaints } of ending) assert.deepEqual(complaints, [], `the console of ${name}`)
}, options)

/** A person with a browser of their own, in `room`, connected. */
async function visit(name, room, how = DESK) {
  const context = await browser.newContext(how)
  await context.addInitScript(kept => localStorage.getItem('fanfare.chat.name') ?? localStorage.setItem('fanfare.chat.name', kept), name)
  return open(context, name, room)
}

async function open(context, name, room) {
  const page = await context.newPage()
  pages.push({ name, context, complaints: watch(page) })
  await page.goto(`${server.url}/#${encodeURIComponent(room)}`)
  await connected(page)
  return page
}

const connected = page => page.waitForSelector('#state[data-state="open"]')

async function say(page, text) {
  await page.fill('#message', text)
  await page.press('#message', 'Enter')
}

/** The message with exactly this text in the log (not in the outbox), as it is seen. */
const sees = (page, text) =>
  page.waitForFunction(wanted => [...document.querySelectorAll('#log .bubble')].some(bubble => bubble.textContent === wanted), text)
const notes = page => page.$$eval('#log .note', all => all.map(note => note.textContent))
const people = page => page.$$eval('#people .who', all => all.map(who => who.textContent))
const hasPeople = (page, names) =>
  page.waitForFunction(wanted => JSON.stringify([...document.querySelectorAll('#people .who')].map(who => who.textContent)) === wanted, JSON.stringify(names))

describe('two people', options, () => {
  test('see each other and each other\'s messages', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(ada, ['Ada', 'Bob'])
    await hasPeople(bob, ['Bob', 'Ada'])
    await say(ada, 'Hello Bob')
    await sees(bob, 'Hello Bob')
    await sees(ada, 'Hello Bob')
    await say(bob, '你好 👋\nin two lines')
    await sees(ada, '你好 👋\nin two lines')
    assert.equal(await bob.$eval('#log .message', item => item.querySelector('.who').textContent), 'Ada')
    assert.equal(await ada.$eval('#outbox', box => box.childElementCount), 0, 'the copy took the message out of the outbox')
    assert.deepEqual(await notes(ada), ['Bob joined'])
  })

  test('chat on after one reloads, which keeps who they are', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(ada, ['Ada', 'Bob'])
    const id = await bob.evaluate(() => sessionStorage.getItem('fanfare.chat.userId'))
    await bob.reload()
    await connected(bob)
    assert.equal(await bob.evaluate(() => sessionStorage.getItem('fanfare.chat.userId')), id)
    await hasPeople(bob, ['Bob', 'Ada'])
    await hasPeople(ada, ['Ada', 'Bob'])
    await say(ada, 'welcome back')
    await sees(bob, 'welcome back')
    await say(bob, 'thanks')
    await sees(ada, 'thanks')
  })

  test('chat on after the server was restarted on its port; what was written meanwhile is sent', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(ada, ['Ada', 'Bob'])
    await server.stop()
    await ada.waitForSelector('#state[data-state="waiting"], #state[data-state="connecting"]')
    await say(ada, 'written while nobody listened')
    assert.equal(await ada.textContent('#outbox .queued .bubble'), 'written while nobody listened')
    assert.equal(await ada.inputValue('#message'), '')
    // So that Bob is certain to be there to see it. Ada's own attempts continue, and may be the first.
    await server.start()
    await Promise.all([connected(ada), connected(bob)])
    await sees(ada, 'written while nobody listened')
    assert.equal(await ada.$eval('#outbox', box => box.childElementCount), 0)
    await hasPeople(ada, ['Ada', 'Bob'])
    await hasPeople(bob, ['Bob', 'Ada'])
    await say(bob, 'there you are')
    await sees(ada, 'there you are')
    await say(ada, 'here I am')
    await sees(bob, 'here I am')
    assert.match((await notes(ada)).join('\n'), /Connected again/)
    assert.ok(!(await notes(ada)).some(note => /Bob joined/.test(note) && note !== 'Bob joined'), 'a return is no news')
  })

  test('in two tabs of one browser are two people with one name', async () => {
    const room = freshRoom()
    const first = await visit('Ada', room)
    const second = await open(first.context(), 'Ada (second tab)', room)
    await hasPeople(first, ['Ada', 'Ada'])
    await say(second, 'from the other tab')
    await sees(first, 'from the other tab')
    assert.equal(await first.$eval('#log .message', item => item.classList.contains('own')), false)
  })

  test('see that somebody is typing, until the message comes', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(ada, ['Ada', 'Bob'])
    await bob.type('#message', 'Hm')
    await ada.waitForFunction(() => document.getElementById('typing').textContent === 'Bob is typing…')
    assert.equal(await bob.textContent('#typing'), '', 'not to oneself')
    await bob.press('#message', 'Enter')
    await sees(ada, 'Hm')
    await ada.waitForFunction(() => document.getElementById('typing').textContent === '')
    // It fades without a message, too.
    await bob.type('#message', 'second thoughts')
    await ada.waitForFunction(() => document.getElementById('typing').textContent === 'Bob is typing…')
    await ada.waitForFunction(() => document.getElementById('typing').textContent === '')
  })

  test('sends typing at most once in a while', async () => {
    const room = freshRoom()
    const raw = await ChatClient.join(server.ws, 'raw', room)
    const ada = await visit('Ada', room)
    await raw.expect('join', { username: 'Ada' })
    const began = Date.now()
    await ada.type('#message', 'forty characters, typed in one breath, so')
    await ada.press('#message', 'Enter')
    let typing = 0
    for (let frame = await raw.next(); frame.type !== 'message'; frame = await raw.next()) typing += 1
    const most = 1 + Math.floor((Date.now() - began) / 2_000) // the page says so every two seconds at most
    assert.ok(typing >= 1 && typing <= most, `${typing} typing frames, 1 to ${most} expected`)
    await raw.close()
  })
})

describe('a connection that breaks', options, () => {
  test('is tried again at once when the browser says that it is online', async () => {
    const page = await visit('Ada', freshRoom())
    await server.kill()
    await page.waitForSelector('#state[data-state="waiting"]')
    await page.waitForFunction(() => {
      const { dataset } = document.getElementById('state')
      if (dataset.state !== 'waiting') return false // between two attempts: look again
      dispatchEvent(new Event('online'))
      return dataset.state === 'connecting'
    })
    await server.start()
    await connected(page)
  })

  test('is noticed by the missing copy when the server hangs; the message is not sent twice by itself', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    server.pause()
    try {
      await say(ada, 'into the silence')
      await ada.waitForSelector('#outbox .unsure')
      assert.equal(await ada.textContent('#outbox .unsure .bubble'), 'into the silence')
      assert.notEqual(await ada.getAttribute('#state', 'data-state'), 'open')
    } finally {
      server.resume()
    }
    await connected(ada)
    await ada.click('#outbox button:has-text("Send again")')
    await sees(ada, 'into the silence')
    assert.equal(await ada.$eval('#outbox', box => box.childElementCount), 0)
  })

  test('tells apart what was never sent and what may have arrived', async () => {
    const ada = await visit('Ada', freshRoom())
    server.pause()
    await say(ada, 'may have arrived')
    await ada.waitForSelector('#outbox .pending')
    await server.kill()
    await ada.waitForSelector('#outbox .unsure')
    await say(ada, 'surely not')
    await ada.waitForSelector('#outbox .queued')
    await server.start()
    await sees(ada, 'surely not')
    assert.deepEqual(await ada.$$eval('#outbox .bubble', all => all.map(bubble => bubble.textContent)), ['may have arrived'])
  })
})

describe('what comes from others', options, () => {
  test('by the HTTP API or the native protocol is shown, and puts nobody into the list', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(ada, ['Ada', 'Bob'])
    const response = await fetch(`${server.url}/api/v1/publish`, {
      method: 'POST',
      headers: { authorization: `Bearer ${/^API key: (\S+)$/m.exec(server.output)[1]}`, 'content-type': 'application/json' },
      body: JSON.stringify({ channel: `chat:${room}`, data: { content: 'from the application' } }),
    })
    assert.equal(response.status, 200)
    await sees(ada, 'from the application')
    const native = new WebSocket(`${server.ws}v1/ws`, 'fanfare.v1')
    const told = await new Promise((resolve, reject) => {
      native.onopen = () => {
        native.send(JSON.stringify({ type: 'connect', id: 1 }))
        native.send(JSON.stringify({ type: 'publish', id: 2, channel: `chat:${room}`, data: { content: 'from a program', username: 'Robot' } }))
      }
      native.onmessage = event => JSON.parse(event.data).id === 2 && resolve(JSON.parse(event.data))
      native.onerror = () => reject(new Error('the native connection failed'))
    })
    assert.equal(told.type, 'published')
    await sees(ada, 'from a program')
    // A message after a join was drawn after the messages before it.
    const raw = await ChatClient.join(server.ws, 'raw', room, 'Zoe')
    await hasPeople(ada, ['Ada', 'Bob', 'Zoe'])
    await raw.close()
    await hasPeople(ada, ['Ada', 'Bob'])
    await hasPeople(bob, ['Bob', 'Ada'])
    native.close()
  })

  test('is text and nothing else, in messages and in names', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const evil = '<img src=x onerror=document.title=1><script>title=2</script>'
    const raw = await ChatClient.join(server.ws, 'raw', room, evil)
    raw.say(evil)
    await sees(ada, evil)
    await hasPeople(ada, ['Ada', evil])
    assert.equal(await ada.$$eval('#log img, #log script, #people img, #people script', all => all.length), 0)
    assert.match(await ada.title(), /^#room/)
    await raw.close()
    await ada.waitForFunction(name => [...document.querySelectorAll('#log .note')].some(note => note.textContent === `${name} left`), evil)
  })

  test('may be much: the page keeps the newest 500', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const raw = await ChatClient.join(server.ws, 'raw', room)
    for (let n = 0; n < 700; n++) {
      raw.say(`message ${n}`)
      await raw.until('message', { content: `message ${n}` })
    }
    await sees(ada, 'message 699')
    assert.equal(await ada.$eval('#log', log => log.childElementCount), 500)
    assert.equal(await ada.textContent('#log > :first-child .bubble'), 'message 200')
    // A reader at the bottom is scrolled along.
    assert.ok(await ada.$eval('#scroller', box => box.scrollHeight - box.scrollTop - box.clientHeight < 2))
    // A reader of older messages stays there, and sees a notice.
    await ada.$eval('#scroller', box => box.scrollTo(0, 0))
    raw.say('one more')
    await ada.waitForSelector('#newer:not([hidden])')
    await ada.click('#newer')
    assert.ok(await ada.$eval('#scroller', box => box.scrollHeight - box.scrollTop - box.clientHeight < 2))
    await raw.close()
  })
})

describe('a crowd', options, () => {
  test('of 300 is counted, and the first 200 are shown', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const crowd = []
    for (let n = 0; n < 300; n++) crowd.push(await ChatClient.join(server.ws, `user${n}`, room))
    await ada.waitForFunction(() => document.getElementById('people-count').textContent === '301')
    assert.equal(await ada.$$eval('#people .avatar', all => all.length), 201, 'oneself and 200')
    assert.equal(await ada.textContent('#people li:last-child'), 'and 100 more')
    for (const client of crowd) client.socket.terminate()
    await hasPeople(ada, ['Ada'])
  })
})

describe('nothing written is lost', options, () => {
  test('a message that is too long stays in the box, with the numbers', async () => {
    const ada = await visit('Ada', freshRoom())
    const text = '长'.repeat(30_000)
    await say(ada, text)
    assert.match(await ada.textContent('#message-error'), /has 30,000 characters, 4,000 are allowed/)
    assert.equal(await ada.inputValue('#message'), text)
    await say(ada, 'x'.repeat(4_000))
    await sees(ada, 'x'.repeat(4_000))
    assert.equal(await ada.textContent('#message-error'), '')
  })

  test('what was not sent survives a reload, and can be sent again or removed', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    await ada.evaluate(key => {
      const list = ['first', 'second'].map(content => ({ room: key, content, state: 'pending' }))
      sessionStorage.setItem('fanfare.chat.outbox', JSON.stringify(list))
    }, room)
    await ada.fill('#message', 'half a thought')
    await ada.reload()
    await connected(ada)
    assert.equal(await ada.inputValue('#message'), 'half a thought')
    assert.deepEqual(await ada.$$eval('#outbox .unsure .bubble', all => all.map(bubble => bubble.textContent)), ['first', 'second'])
    await ada.click('#outbox .unsure:nth-child(1) button:has-text("Send again")')
    await sees(ada, 'first')
    await ada.click('#outbox .unsure button:has-text("Remove")')
    assert.equal(await ada.$eval('#outbox', box => box.childElementCount), 0)
  })
})

describe('rooms and names', options, () => {
  test('another room is another conversation, by link, by box and by address', async () => {
    const [one, two] = [freshRoom(), 'Zimmer 中文 & co']
    const ada = await visit('Ada', one)
    const bob = await visit('Bob', two)
    await ada.fill('#room', two)
    await ada.press('#room', 'Enter')
    await hasPeople(ada, ['Ada', 'Bob'])
    assert.equal(await ada.textContent('#room-name'), two)
    assert.equal(await ada.$eval('#rooms [aria-current="page"] .who', link => link.textContent), two)
    await say(ada, 'found you')
    await sees(bob, 'found you')
    await ada.goBack()
    await hasPeople(ada, ['Ada'])
    await hasPeople(bob, ['Bob'])
    assert.equal(await ada.$$eval('#log .message', all => all.length), 0, 'the other room\'s messages are not here')
    await ada.click('#rooms a:has-text("Zimmer")')
    await hasPeople(ada, ['Ada', 'Bob'])
  })

  test('a room name that is too long is refused with the numbers', async () => {
    const ada = await visit('Ada', freshRoom())
    await ada.$eval('#room', box => box.removeAttribute('maxlength')) // 60 characters can be too many bytes; 80 surely are
    await ada.fill('#room', '?'.repeat(80))
    await ada.press('#room', 'Enter')
    assert.match(await ada.textContent('#room-error'), /240 bytes long, 200 are allowed/)
    assert.equal(await ada.inputValue('#room'), '?'.repeat(80))
  })

  test('a new name is seen by the others and kept', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    const bob = await visit('Bob', room)
    await hasPeople(bob, ['Bob', 'Ada'])
    await ada.fill('#name', 'Countess')
    await ada.press('#name', 'Enter')
    await hasPeople(bob, ['Bob', 'Countess'])
    await say(ada, 'still me')
    await sees(bob, 'still me')
    await ada.reload()
    await connected(ada)
    assert.equal(await ada.inputValue('#name'), 'Countess')
  })
})

describe('for everyone', options, () => {
  test('a Chinese browser gets a Chinese page, and may switch', async () => {
    const page = await visit('小雨', freshRoom(), { ...DESK, locale: 'zh-CN' })
    assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN')
    assert.equal(await page.textContent('#state-text'), '已连接')
    assert.match(await page.title(), /聊天/)
    const latin = await page.$$eval('[data-text]', all => all.map(element => element.textContent).filter(text => !/[\u4e00-\u9fff]/.test(text)))
    assert.deepEqual(latin, [], 'no English words are left')
    await page.click('#language')
    assert.equal(await page.getAttribute('html', 'lang'), 'en')
    assert.equal(await page.textContent('#state-text'), 'Connected')
    await page.reload()
    await connected(page)
    assert.equal(await page.textContent('#state-text'), 'Connected', 'the choice is kept')
  })

  test('a language that we do not speak gets English', async () => {
    const page = await visit('Max', freshRoom(), { ...DESK, locale: 'de-DE' })
    assert.equal(await page.textContent('#state-text'), 'Connected')
  })

  for (const colorScheme of ['light', 'dark']) {
    test(`the words can be read: contrast, ${colorScheme}`, async () => {
      const room = freshRoom()
      const ada = await visit('Ada', room, { ...DESK, colorScheme })
      const raw = await ChatClient.join(server.ws, 'raw', room)
      raw.say('from another')
      await sees(ada, 'from another')
      await say(ada, 'from me')
      await sees(ada, 'from me')
      await ada.evaluate(() => Promise.all(document.getAnimations().map(animation => animation.finish())))
      const poor = await ada.evaluate(poorContrast)
      assert.deepEqual(poor, [])
      await raw.close()
    })
  }

  test('a phone has the whole of it, without scrolling sideways', async () => {
    const room = freshRoom()
    const page = await visit('Ada', room, PHONE)
    const raw = await ChatClient.join(server.ws, 'raw', room, 'A rather long name for a person in a chat room')
    raw.say('w'.repeat(300))
    raw.say('https://example.org/' + 'path/'.repeat(60))
    await sees(page, 'w'.repeat(300))
    const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.getElementById('scroller').scrollWidth <= document.getElementById('scroller').clientWidth)
    assert.ok(await fits(), 'the conversation')
    assert.equal(await page.isVisible('#people'), false)
    await page.tap('#side-open')
    await page.waitForFunction(() => document.getElementById('side').getBoundingClientRect().left === 0)
    assert.ok(await page.isVisible('#people'))
    assert.ok(await fits(), 'the drawer')
    await page.tap('#code-open')
    assert.ok(await fits(), 'the code')
    await page.tap('#code-close')
    await page.tap('#side-close')
    await page.tap('#message')
    await page.fill('#message', 'by thumb')
    await page.tap('button.send')
    await raw.until('message', { content: 'by thumb' })
    const small = await page.$$eval('.talk button, .talk textarea', all =>
      all.filter(element => element.checkVisibility({ visibilityProperty: true })).map(element => element.getBoundingClientRect()).filter(box => box.width < 36 || box.height < 36).length)
    assert.equal(small, 0, 'everything to tap is at least 36 pixels each way')
    await raw.close()
  })

  test('the keyboard is enough', async () => {
    const room = freshRoom()
    const raw = await ChatClient.join(server.ws, 'raw', room)
    const page = await visit('Ada', room)
    await raw.expect('join', { username: 'Ada' })
    // Tab through the whole page: each stop must be visible and have a name.
    await page.focus('#name')
    await page.keyboard.press('Shift+Tab')
    const stops = []
    for (let n = 0; n < 40; n++) {
      if (n > 0) await page.keyboard.press('Tab')
      const stop = await page.evaluate(() => {
        const at = document.activeElement
        if (at === document.body) return null
        const style = getComputedStyle(at)
        const box = at.closest('.field-row, .composer-box')
        const marked = style.outlineStyle !== 'none' || (box !== null && getComputedStyle(box).boxShadow !== 'none')
        return { id: at.id || at.textContent.trim(), name: at.getAttribute('aria-label') ?? at.labels?.[0]?.textContent ?? at.textContent, marked }
      })
      if (stop === null || stops.some(({ id }) => id === stop.id)) break
      stops.push(stop)
    }
    assert.deepEqual(stops.filter(({ name }) => !name?.trim()).map(({ id }) => id), [], 'every stop has a name')
    assert.deepEqual(stops.filter(({ marked }) => !marked).map(({ id }) => id), [], 'every stop can be seen')
    const ids = stops.map(({ id }) => id)
    for (const wanted of ['skip', 'name', 'room', 'code-open', 'language', 'scroller', 'message']) assert.ok(ids.includes(wanted), `${wanted} is reached: ${ids}`)
    // From the first stop straight to the text box, write two lines, send.
    await page.evaluate(() => document.getElementById('skip').focus())
    await page.keyboard.press('Enter')
    await page.keyboard.type('one')
    await page.keyboard.press('Shift+Enter')
    await page.keyboard.type('two')
    await page.keyboard.press('Enter')
    await raw.until('message', { content: 'one\ntwo' })
    // The panel opens, holds the focus and gives it back.
    await page.focus('#code-open')
    await page.keyboard.press('Enter')
    await page.waitForSelector('#code[open]')
    await page.keyboard.press('Escape')
    await page.waitForSelector('#code:not([open])', { state: 'attached' })
    assert.equal(await page.evaluate(() => document.activeElement.id), 'code-open')
    await raw.close()
  })

  test('Enter that only chooses a word of an input method sends nothing', async () => {
    const room = freshRoom()
    const raw = await ChatClient.join(server.ws, 'raw', room)
    const page = await visit('小雨', room)
    await page.fill('#message', 'ni hao')
    await page.dispatchEvent('#message', 'keydown', { key: 'Enter', isComposing: true, bubbles: true, cancelable: true })
    assert.equal(await page.inputValue('#message'), 'ni hao')
    await page.press('#message', 'Enter')
    await raw.until('message', { content: 'ni hao' })
    await raw.close()
  })

  test('the snippet for the terminal chats both ways', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    await ada.click('#code-open')
    const shell = await ada.textContent('#snippets section:nth-child(2) code')
    const program = /<<'END'\n([^]*)\nEND\n/.exec(shell)[1]
    // Runs the script as a shell would, without a file. Before version 22, Node.js has WebSocket only behind a flag.
    const flags = 'WebSocket' in globalThis ? [] : ['--experimental-websocket', '--no-warnings']
    const chat = spawn(process.execPath, [...flags, '--input-type=module', '--eval', program], { stdio: ['pipe', 'pipe', 'inherit'] })
    try {
      await ada.click('#code-close')
      await hasPeople(ada, ['Ada', 'Terminal'])
      chat.stdin.write('hello from the terminal\n')
      await sees(ada, 'hello from the terminal')
      await say(ada, 'hello terminal')
      let printed = ''
      for await (const chunk of chat.stdout) {
        printed += chunk
        if (printed.includes('Ada: hello terminal\n')) break
      }
      assert.match(printed, /^Ada: hello terminal$/m)
    } finally {
      chat.kill()
    }
  })

  test('the snippet for the browser does what it says', async () => {
    const room = freshRoom()
    const ada = await visit('Ada', room)
    await ada.click('#code-open')
    const code = await ada.textContent('#snippets section:nth-child(1) code')
    const other = await visit('Eve', freshRoom())
    await other.evaluate(code) // as typed into its console
    await sees(ada, 'Hello from code')
  })

  test('the page keeps to its own policy even where the server sends none', async () => {
    const html = await (await fetch(server.url + '/')).text()
    assert.doesNotMatch(html, /<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=/i)
    assert.doesNotMatch(html, /(?:src|href)="(?:https?:)?\//, 'addresses are relative')
  })
})

/** Runs in the page: every visible text whose contrast against what is behind it is below 4.5. */
function poorContrast() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(value => (value / 255 <= 0.03928 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * x + 0.7152 * y + 0.0722 * z
  }
  const behind = element => {
    const layers = []
    for (let at = element; at !== null; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor))
    return layers.reverse().reduce((under, [r, g, b, a]) => [r, g, b].map((value, index) => value * (a / 255) + under[index] * (1 - a / 255)), [255, 255, 255])
  }
  const poor = []
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim()
    const element = walker.currentNode.parentElement
    if (text === '' || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || element.closest('.skip, noscript, [hidden]')) continue
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x)
    const ratio = (a + 0.05) / (b + 0.05)
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} "${text.slice(0, 30)}" in .${element.className || element.id || element.tagName}`)
  }
  return poor
}
