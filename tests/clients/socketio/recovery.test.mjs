// Connection state recovery: what the server says to a client that comes back, and which middlewares it asks.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames } from '../support/engineio.mjs'
import { ask, connect, json } from '../support/packets.mjs'

/** A socket of `/visits`: what the server has said to it before and with its entrance. */
async function visit(port, auth) {
  const frames = await Frames.session(port)
  frames.send(`40/visits,${JSON.stringify(auth)}`)
  const connected = await frames.next()
  assert.match(connected, /^40\/visits,\{"sid":/)
  const { sid, pid } = json(connected)
  const event = await frames.next()
  assert.match(event, /^42\/visits,\["visits",/)
  frames.close()
  const [, visits, recovered, offset] = json(event)
  return { sid, pid, visits, recovered, offset }
}

conformance('recovery', { handlers: 'all', recovery: 60_000 }, port => {
  test('what was missed comes first, and the socket has its id, its secret and its rooms', async () => {
    const ada = await connect(port())
    const bob = await connect(port())
    await ask(bob, 'join', 'a')
    // By an event it has an offset.
    bob.send('42["echo",1]')
    const offset = json(await bob.next()).at(-1)
    assert.equal(typeof offset, 'string')
    bob.close()
    ada.send('42["in",["a"],[],"missed"]')
    ada.send('42["in",["b"],[],"of others"]')
    await ask(ada, 'join', 'c') // both have taken effect
    const back = await Frames.session(port())
    back.send(`40${JSON.stringify({ pid: bob.pid, offset })}`)
    assert.deepEqual(json(await back.next()).slice(0, 2), ['sent', 'missed'])
    assert.deepEqual(json(await back.next()), { sid: bob.id, pid: bob.pid })
    assert.deepEqual(json(await back.next()).slice(0, 2), ['auth', { pid: bob.pid, offset }])
    assert.deepEqual(await ask(back, 'rooms'), [[bob.id, 'a']])
    back.close()
    ada.close()
  })

  test('a socket that goes on skips the middlewares, and one that begins anew does not', async () => {
    const first = await visit(port(), { name: 'ada' })
    assert.deepEqual([first.visits, first.recovered], [1, false])
    const { pid, offset } = first
    const second = await visit(port(), { name: 'ada', pid, offset })
    assert.deepEqual([second.sid, second.pid, second.visits, second.recovered], [first.sid, pid, 1, true])
    const unknown = await visit(port(), { name: 'ada', pid: 'unknown', offset })
    assert.deepEqual([unknown.visits, unknown.recovered], [2, false])
    const lost = await visit(port(), { name: 'ada', pid, offset: 'unknown' })
    assert.deepEqual([lost.visits, lost.recovered], [3, false])
    assert.equal(new Set([first.sid, unknown.sid, lost.sid]).size, 3)
    assert.equal(new Set([pid, unknown.pid, lost.pid]).size, 3)
  })
})
