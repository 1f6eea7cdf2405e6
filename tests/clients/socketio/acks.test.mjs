// Socket.IO 5, acks: of the server, of a client, of many clients, and what happens to those that never come.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { ask, connect, json } from '../support/packets.mjs'

/** The id and the arguments of a question of the server. */
const question = packet => ({ id: /^42(\d+)\[/.exec(packet)?.[1], args: json(packet).slice(1), name: json(packet)[0] })

conformance('acks', { handlers: 'all' }, port => {
  test('the server acknowledges with the id that the client chose', async () => {
    const frames = await connect(port())
    for (const id of ['0', '1', '456', '9007199254740991']) {
      frames.send(`42${id}["ack",1,"2",{"3":[false]}]`)
      assert.equal(await frames.next(), `43${id}[1,"2",{"3":[false]}]`)
    }
    frames.send('4212["ack"]')
    assert.equal(await frames.next(), '4312[]')
    frames.close()
  })

  test('in another namespace too', async () => {
    const frames = await connect(port())
    frames.send('40/custom,')
    assert.match(await frames.next(), /^40\/custom,/)
    assert.match(await frames.next(), /^42\/custom,/)
    frames.send('42/custom,456["ack",1]')
    assert.equal(await frames.next(), '43/custom,456[1]')
    frames.close()
  })

  test('an event that wants no ack gets none', async () => {
    const frames = await connect(port())
    frames.send('42["no-ack"]')
    assert.deepEqual(await ask(frames, 'ack', 1), [1])
    frames.close()
  })

  test('acks with binary data, both ways', async () => {
    const frames = await connect(port())
    frames.send('451-789["ack",{"_placeholder":true,"num":0}]')
    frames.send(Buffer.from([1, 2, 3]))
    assert.equal(await frames.next(), '461-789[{"_placeholder":true,"num":0}]')
    assert.deepEqual([...(await frames.next())], [1, 2, 3])
    frames.send('42["ask-bytes"]')
    const { id } = question(await frames.next())
    frames.send(`461-${id}[{"_placeholder":true,"num":0}]`)
    frames.send(Buffer.from([4, 5]))
    assert.equal(await frames.next(), '451-["answer",{"_placeholder":true,"num":0}]')
    assert.deepEqual([...(await frames.next())], [4, 5])
    frames.close()
  })

  test('the server asks, and the client answers', async () => {
    const frames = await connect(port())
    frames.send('42["ask",60000,"a",{"b":1}]')
    const { id, args, name } = question(await frames.next())
    assert.equal(name, 'question')
    assert.deepEqual(args, ['a', { b: 1 }])
    assert.ok(id !== undefined)
    frames.send(`43${id}["yes"]`)
    assert.equal(await frames.next(), '42["answer","yes"]')
    frames.close()
  })

  test('several questions are told apart, in whatever order they are answered', async () => {
    const frames = await connect(port())
    const ids = []
    for (let n = 0; n < 5; n++) {
      frames.send(`42["ask",60000,${n}]`)
      ids.push(question(await frames.next()).id)
    }
    assert.equal(new Set(ids).size, 5)
    for (const n of [3, 0, 4, 1, 2]) {
      frames.send(`43${ids[n]}[${n}]`)
      assert.equal(await frames.next(), `42["answer",${n}]`)
    }
    frames.close()
  })

  test('a question without an answer times out, and the answer that comes later does no harm', async () => {
    const frames = await connect(port())
    frames.send('42["ask",100,"?"]')
    const { id } = question(await frames.next())
    assert.equal(await frames.next(), '42["no-answer"]')
    frames.send(`43${id}["late"]`)
    assert.deepEqual(await ask(frames, 'ack', 1), [1])
    frames.close()
  })

  test('an ack that nobody waits for, and a second one, do no harm', async () => {
    const frames = await connect(port())
    frames.send('43999[]')
    frames.send('42["ask",60000]')
    const { id } = question(await frames.next())
    frames.send(`43${id}[1]`)
    frames.send(`43${id}[2]`)
    assert.equal(await frames.next(), '42["answer",1]')
    assert.deepEqual(await ask(frames, 'ack', 1), [1])
    frames.close()
  })

  test('a room is asked, and the answers of all come together', async () => {
    const [one, two, asks] = [await connect(port()), await connect(port()), await connect(port())]
    for (const frames of [one, two]) await ask(frames, 'join', 'asked')
    asks.send('42["ask-room","asked",60000,"all?"]')
    for (const [frames, answer] of [[one, 'a'], [two, 'b']]) {
      const { id, args } = question(await frames.next())
      assert.deepEqual(args, ['all?'])
      frames.send(`43${id}["${answer}"]`)
    }
    const [name, failed, answers] = json(await asks.next())
    assert.deepEqual([name, failed, answers.sort()], ['answers', false, ['a', 'b']])
    for (const frames of [one, two, asks]) frames.close()
  })

  test('of a room the answers that came are given at the timeout', async () => {
    const [one, two, asks] = [await connect(port()), await connect(port()), await connect(port())]
    for (const frames of [one, two]) await ask(frames, 'join', 'half')
    asks.send('42["ask-room","half",500,"all?"]')
    const [asked] = [question(await one.next()), question(await two.next())]
    one.send(`43${asked.id}["a"]`)
    assert.deepEqual(json(await asks.next()), ['answers', true, ['a']])
    for (const frames of [one, two, asks]) frames.close()
  })

  test('an empty room answers nothing, without an error', async () => {
    const frames = await connect(port())
    frames.send('42["ask-room","empty",500,"?"]')
    assert.deepEqual(json(await frames.next()), ['answers', false, []])
    frames.close()
  })

  for (const [name, packet] of [
    ['that is an object', '431{}'],
    ['that is half', '431["a"'],
  ]) {
    test(`an ack ${name} closes the connection`, async () => {
      const frames = await connect(port())
      frames.send(packet)
      assert.deepEqual(await frames.rest(), [])
    })
  }
})
