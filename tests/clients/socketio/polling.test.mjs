// Engine.IO 4 by polling: packets both ways, what a pending GET gets, and what ends a session.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Pending, Poller, SEPARATOR, request } from '../support/engineio.mjs'
import { joinedByPolling } from '../support/packets.mjs'

const POLLING = '?EIO=4&transport=polling'
const UNKNOWN = { code: 1, message: 'Session ID unknown' }

/** The session is unknown by now, or is from the next request on. */
async function assertOver(session) {
  const { status, body } = await session.post('3')
  assert.equal(status, 400)
  assert.deepEqual(JSON.parse(body), UNKNOWN)
}

conformance('polling', {}, port => {
  test('a POST is answered by ok, and a GET by text', async () => {
    const session = await Poller.open(port())
    const posted = await session.post('40')
    assert.equal(posted.status, 200)
    assert.equal(posted.body, 'ok')
    assert.equal(posted.headers['content-type'], 'text/html')
    const got = await session.poll()
    assert.equal(got.status, 200)
    assert.match(got.headers['content-type'], /^text\/plain; charset=utf-8$/i)
    assert.equal(got.headers['cache-control'], 'no-store')
    assert.match(got.body, /^40\{"sid":"[^"]+"\}$/)
  })

  test('packets of one POST are taken in order, and come joined by the separator', async () => {
    const session = await joinedByPolling(port(), 'joined')
    const numbers = Array.from({ length: 50 }, (_, n) => n)
    await session.send(...numbers.map(n => `42["message",{"n":${n}}]`))
    const got = []
    while (got.length < 50) got.push(JSON.parse((await session.next()).slice(2))[1].n)
    assert.deepEqual(got, numbers)
  })

  test('a GET waits until there is a packet', async () => {
    const session = await joinedByPolling(port(), 'waits')
    const pending = session.get()
    const other = await joinedByPolling(port(), 'waits')
    const { body } = await pending.answer
    assert.match(body, /^42\["user-joined",/)
    await other.send('1')
  })

  test('a message may have any length below the limit and any characters but the separator', async () => {
    const session = await joinedByPolling(port(), 'characters')
    const text = `é你好🎉\u2028\\"${'x'.repeat(200_000)}`
    await session.send(`42["message",${JSON.stringify({ text })}]`)
    assert.equal(JSON.parse((await session.next()).slice(2))[1].text, text)
  })

  test('a second GET ends the session; the first one is answered by a packet to close', async () => {
    const session = await joinedByPolling(port(), 'two-gets')
    const answers = await Promise.all([session.poll(), session.poll()])
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 400])
    assert.equal(answers.find(({ status }) => status === 200).body, '1')
    await assertOver(session)
  })

  test('a second POST ends the session', async () => {
    const session = await joinedByPolling(port(), 'two-posts')
    // The first one is incomplete, with a part that has come.
    const options = { method: 'POST', query: session.query, headers: { 'Content-Type': 'text/plain', Expect: '100-continue' }, claimed: 10 }
    const first = new Pending(port(), options)
    await continued(first)
    first.socket.write('4')
    const second = await session.post('3')
    assert.equal(second.status, 400)
    await assertOver(session)
    await first.abort()
  })

  test('a POST that is given up ends the session', async () => {
    for (;;) {
      const session = await joinedByPolling(port(), 'given-up')
      const options = { method: 'POST', query: session.query, headers: { 'Content-Type': 'text/plain', Expect: '100-continue' }, claimed: 10 }
      const pending = new Pending(port(), options)
      await continued(pending)
      await pending.abort()
      let answer
      do answer = await session.post('3')
      while (answer.status === 200)
      const error = JSON.parse(answer.body)
      if (error.code === 3) continue // it came before the end of the first, and is a second one at a time: once more
      return assert.deepEqual(error, UNKNOWN)
    }
  })

  test('a body of bytes is refused and ends the session', async () => {
    const session = await Poller.open(port())
    const { status } = await session.post('40', { 'Content-Type': 'application/octet-stream' })
    assert.equal(status, 400)
    await assertOver(session)
  })

  test('a packet to close releases the GET that waits, and the session is over', async () => {
    for (;;) {
      const session = await joinedByPolling(port(), 'close')
      const waiting = session.get()
      await session.send('3') // by now the GET has most likely come
      await session.send('1')
      const { status, body } = await waiting.answer
      await assertOver(session)
      if (status === 200) return assert.equal(body, '6')
      assert.deepEqual(JSON.parse(body), UNKNOWN) // it came after the close: once more
    }
  })

  test('a GET that is given up ends the session', async () => {
    const session = await joinedByPolling(port(), 'aborted')
    const waiting = session.get()
    await session.send('3')
    await waiting.abort()
    let answer
    // The server hears of it in its own time.
    do answer = await session.post('3')
    while (answer.status === 200)
    assert.equal(answer.status, 400)
    assert.deepEqual(JSON.parse(answer.body), UNKNOWN)
  })

  for (const [name, body] of [
    ['of no kind', 'abc'],
    ['with a kind that does not exist', '9'],
    ['that is empty', ''],
    ['that is empty, between others', `40${SEPARATOR}${SEPARATOR}40`],
    ['of the heartbeat in the wrong direction', '2'],
  ]) {
    test(`a packet ${name} ends the session`, async () => {
      const session = await Poller.open(port())
      const answer = await session.post(body)
      assert.ok([200, 400].includes(answer?.status ?? 400), JSON.stringify(answer))
      await assertOver(session)
    })
  }

  test('an id of a session that is over is unknown, by GET too', async () => {
    const session = await Poller.open(port())
    await session.send('1')
    const { status, body } = await request(port(), { query: `${POLLING}&sid=${session.sid}` })
    assert.equal(status, 400)
    assert.deepEqual(JSON.parse(body), UNKNOWN)
  })

  test('a version that changes within a session is refused', async () => {
    const session = await Poller.open(port())
    const { status, body } = await request(port(), { query: `?EIO=3&transport=polling&sid=${session.sid}` })
    assert.equal(status, 400)
    assert.deepEqual(JSON.parse(body), { code: 3, message: 'Bad request' })
    await session.send('40')
    assert.match(await session.next(), /^40/)
  })

  test('binary messages are base64, both ways', async () => {
    const session = await joinedByPolling(port(), 'binary')
    await session.send('451-["message",{"b":{"_placeholder":true,"num":0}}]', 'bAQID')
    assert.match(await session.next(), /^451-\["message",\{"b":\{"_placeholder":true,"num":0\}/)
    assert.equal(await session.next(), 'bAQID')
  })
})

/** Waits for `100 Continue`: the server has read the head and wants the body. */
function continued(pending) {
  return new Promise(resolve => {
    let text = ''
    const listener = chunk => {
      text += chunk.toString('latin1')
      if (!text.includes('\r\n\r\n')) return
      pending.socket.off('data', listener)
      resolve()
    }
    pending.socket.on('data', listener)
  })
}
