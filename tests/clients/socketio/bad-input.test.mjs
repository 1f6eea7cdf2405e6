// Bad input of Socket.IO clients: each gets an error or a close, and others go on.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames, Poller, SEPARATOR, request } from '../support/engineio.mjs'
import { enteredByPolling, joined, joinedByPolling, said } from '../support/packets.mjs'

/** A packet as a POST carries it. */
const inPost = packet => (typeof packet === 'string' ? packet : `b${packet.toString('base64')}`)

/**
 * Sends packets by polling, each in a POST of its own. They end the session: the one that waits for an answer gets
 * nothing but the packet to close or a noop, and no request after it is one of a session.
 */
async function endsByPolling(session, packets) {
  const waiting = session.get()
  for (const packet of packets) await session.post(inPost(packet))
  const answer = await waiting.answer
  if (answer?.status === 200) {
    const rest = answer.body.split(SEPARATOR)
    assert.ok(rest.every(packet => packet === '1' || packet === '6' || packet.startsWith('42["message"')), JSON.stringify(rest))
  }
  while ((await session.get().answer)?.status === 200) {}
  assert.ok(await session.isOver())
}

// Ten thousand events would wait for longer than a test should.
conformance('bad input', { rate: '10000/s' }, port => {
  /** A socket that goes on, whatever the others do. */
  async function witness(room, attack) {
    const good = await joined(port(), room)
    await attack()
    good.send('42["message",{"still":"here"}]')
    assert.equal(said(await good.next()).still, 'here')
    good.close()
  }

  for (const [name, ...packets] of [
    ['JSON of 100,000 levels', `42["message",${'['.repeat(100_000)}`],
    ['JSON of 100,000 objects', `42["message",${'{"a":'.repeat(100_000)}`],
    ['text where JSON is to be', '42["message",nonsense]'],
    ['a number of JSON that has no end', '42["message",-]'],
    ['a count of attachments that lies', '4510-["message",{"_placeholder":true,"num":0}]', '42["message",{}]'],
    ['eleven attachments', '4511-["message",{"_placeholder":true,"num":10}]'],
    ['a placeholder out of range', '451-["message",{"a":{"_placeholder":true,"num":7}}]', Buffer.from([1])],
    ['a type that does not exist', '47["message"]'],
    ['a packet of the server', '44{"message":"no"}', '42['],
  ]) {
    test(`${name} closes the connection`, () =>
      witness(name, async () => {
        const bad = await joined(port(), `bad ${name}`)
        for (const packet of packets) bad.send(packet)
        const rest = await bad.rest()
        assert.ok(rest.every(packet => typeof packet === 'string' && packet.startsWith('42["message"')), JSON.stringify(rest))
      }))

    test(`${name} ends a session that polls`, () =>
      witness(`polled ${name}`, async () => endsByPolling(await joinedByPolling(port(), `bad polled ${name}`), packets)))
  }

  for (const [name, packet] of [
    ['an event', '42["message",{}]'],
    ['an event with an ack', '421["message",{}]'],
    ['an ack', '431[]'],
    ['a DISCONNECT', '41'],
    ['a CONNECT_ERROR', '44{"message":"no"}'],
    ['an event with an attachment', '450-["message"]'],
    ['bytes', Buffer.from([1])],
  ]) {
    test(`${name} before CONNECT closes the connection`, () =>
      witness(`before ${name}`, async () => {
        const bad = await Frames.session(port())
        bad.send(packet)
        assert.deepEqual(await bad.rest(), [])
      }))

    test(`${name} before CONNECT ends a session that polls`, () =>
      witness(`polled before ${name}`, async () => endsByPolling(await Poller.open(port()), [packet])))
  }

  test('a huge name of a namespace is refused or closes the connection', () =>
    witness('namespace', async () => {
      const bad = await Frames.session(port())
      bad.send(`40/${'n'.repeat(100_000)},`)
      const answer = await bad.next()
      if (answer !== null) assert.match(answer, /^44\/n+,\{"message":/)
      bad.close()
    }))

  for (const [name, packet] of [
    ['a huge name of an event', `42["${'n'.repeat(100_000)}"]`],
    ['an ack id beyond 64 bits', '4318446744073709551616[]'],
    ['an event with an ack id beyond 64 bits', '4218446744073709551616["unknown"]'],
    ['an event without a payload', '42'],
    ['an ack without a payload', '431'],
    ['an ack that nobody waits for', '431[]'],
  ]) {
    test(`${name} is ignored or closes the connection`, () =>
      witness(name, async () => {
        const bad = await joined(port(), `bad ${name}`)
        bad.send(packet)
        bad.send('42["message",{"after":true}]')
        const answer = await bad.next()
        if (answer !== null) assert.equal(said(answer).after, true)
        bad.close()
      }))
  }

  for (const sid of ['x', '0', '%00', '../../etc/passwd', 'a'.repeat(5_000), '👻', '__proto__', 'constructor', "'; drop table"]) {
    test(`a session named ${sid.slice(0, 20)} is unknown`, async () => {
      for (const method of ['GET', 'POST']) {
        const answer = await request(port(), { method, body: method === 'POST' ? '40' : undefined, query: `?EIO=4&transport=polling&sid=${encodeURIComponent(sid)}` })
        assert.equal(answer.status, 400)
        assert.deepEqual(JSON.parse(answer.body), { code: 1, message: 'Session ID unknown' })
      }
    })
  }

  test("another client's id, changed in one place, is unknown", async () => {
    const session = await Poller.open(port())
    const last = session.sid.at(-1)
    const query = `?EIO=4&transport=polling&sid=${session.sid.slice(0, -1)}${last === '0' ? '1' : '0'}`
    const answer = await request(port(), { query })
    assert.equal(answer.status, 400)
    assert.deepEqual(JSON.parse(answer.body), { code: 1, message: 'Session ID unknown' })
    await session.send('40')
    assert.match(await session.next(), /^40/)
  })

  test('a payload of ten thousand events is taken in order', async () => {
    const session = await enteredByPolling(port())
    await session.send('42["join-room","flood"]')
    // As clients do it, a GET takes what comes meanwhile.
    const posted = session.send(...Array.from({ length: 10_000 }, (_, n) => `42["message",{"n":${n}}]`))
    for (let n = 0; n < 10_000; n++) assert.equal(said(await session.next()).n, n)
    await posted
  })

  test('a payload of ten thousand events that nobody handles does no harm', async () => {
    const session = await enteredByPolling(port())
    await session.send(...Array.from({ length: 10_000 }, () => '42["unknown"]'))
    await session.send('42["join-room","unknown"]', '42["message",{"n":1}]')
    assert.equal(said(await session.next()).n, 1)
  })

  test('separators alone end the session', async () => {
    const session = await Poller.open(port())
    await session.post(SEPARATOR.repeat(1_000))
    assert.equal((await session.post('3')).status, 400)
  })

  test('a thousand handshakes that are left alone cost nobody else anything', () =>
    witness('handshakes', async () => {
      for (let n = 0; n < 10; n++) await Promise.all(Array.from({ length: 100 }, () => Poller.open(port())))
    }))

  test('a thousand connections that are cut cost nobody else anything', () =>
    witness('cuts', async () => {
      for (let n = 0; n < 10; n++) {
        const all = await Promise.all(Array.from({ length: 100 }, () => joined(port(), 'cut')))
        for (const frames of all) frames.close()
      }
    }))
})
