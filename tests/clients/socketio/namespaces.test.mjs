// Socket.IO 5, namespaces: CONNECT with its payload, its answers, DISCONNECT, and what comes at the wrong moment.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { conformance } from '../support/conformance.mjs'
import { Frames, Poller } from '../support/engineio.mjs'
import { connect, json } from '../support/packets.mjs'

conformance('namespaces', { handlers: 'all' }, port => {
  test('a CONNECT is answered by an id that is not that of the engine', async () => {
    const frames = await Frames.session(port())
    frames.send('40')
    const connected = await frames.next()
    assert.match(connected, /^40\{"sid":"[^"]+"\}$/)
    assert.notEqual(json(connected).sid, frames.sid)
    assert.equal(await frames.next(), '42["auth",{}]')
    frames.close()
  })

  test('the payload of a CONNECT comes to the application', async () => {
    const frames = await Frames.session(port())
    frames.send('40{"token":"123","more":[1,{"deep":null}]}')
    assert.match(await frames.next(), /^40\{"sid":"[^"]+"\}$/)
    assert.deepEqual(json(await frames.next()), ['auth', { token: '123', more: [1, { deep: null }] }])
    frames.close()
  })

  test('another namespace has an id of its own, with or without `/` and with or without a payload', async () => {
    const frames = await Frames.session(port())
    frames.send('40/custom,{"token":"abc"}')
    const custom = await frames.next()
    assert.match(custom, /^40\/custom,\{"sid":"[^"]+"\}$/)
    assert.equal(await frames.next(), '42/custom,["auth",{"token":"abc"}]')
    frames.send('40')
    const main = await frames.next()
    assert.match(main, /^40\{"sid":"[^"]+"\}$/)
    assert.equal(await frames.next(), '42["auth",{}]')
    assert.notEqual(json(custom).sid, json(main).sid)
    frames.close()
  })

  test('the comma behind a namespace may be missing', async () => {
    const frames = await Frames.session(port())
    frames.send('40/custom')
    assert.match(await frames.next(), /^40\/custom,\{"sid":"[^"]+"\}$/)
    frames.close()
  })

  test('a namespace that does not exist is refused, and the connection goes on', async () => {
    const frames = await Frames.session(port())
    frames.send('40/random')
    assert.equal(await frames.next(), '44/random,{"message":"Invalid namespace"}')
    frames.send('40')
    assert.match(await frames.next(), /^40\{"sid":/)
    frames.close()
  })

  test('a refusal has its message, and its data where there is some', async () => {
    const frames = await Frames.session(port())
    frames.send('40/guarded,{"token":"wrong"}')
    assert.equal(await frames.next(), '44/guarded,{"message":"not authorized"}')
    frames.send('40/guarded,{"more":true}')
    assert.deepEqual(json(await frames.next()), { message: 'not authorized', data: { content: 'Please retry later', n: 1 } })
    frames.send('40/guarded,{"token":"let me in"}')
    assert.match(await frames.next(), /^40\/guarded,\{"sid":/)
    assert.equal(await frames.next(), '42/guarded,["auth",{"token":"let me in"}]')
    frames.close()
  })

  test('a pattern stands for many namespaces', async () => {
    const frames = await Frames.session(port())
    for (const name of ['/dynamic-1', '/dynamic-2']) {
      frames.send(`40${name},`)
      assert.match(await frames.next(), new RegExp(`^40${name},\\{"sid":`))
      assert.equal(await frames.next(), `42${name},["auth","${name}"]`)
    }
    frames.send('40/dynami')
    assert.equal(await frames.next(), '44/dynami,{"message":"Invalid namespace"}')
    frames.close()
  })

  test('a DISCONNECT leaves one namespace, and the connection goes on', async () => {
    const frames = await Frames.session(port())
    for (const name of ['', '/custom,']) {
      frames.send(`40${name}`)
      assert.match(await frames.next(), /^40/)
      assert.match(await frames.next(), /^42/)
    }
    frames.send('41/custom,')
    frames.send('42["echo","still here"]')
    assert.equal(await frames.next(), '42["echoed","still here"]')
    frames.send('40/custom,')
    assert.match(await frames.next(), /^40\/custom,/)
    assert.match(await frames.next(), /^42\/custom,\["auth"/)
    frames.send('42/custom,["echo",1]')
    assert.equal(await frames.next(), '42/custom,["echoed",1]')
    frames.close()
  })

  test('an event of a namespace that was left closes the connection', async () => {
    const frames = await connect(port())
    frames.send('40/custom,')
    assert.match(await frames.next(), /^40\/custom,/)
    assert.match(await frames.next(), /^42\/custom,/)
    frames.send('41')
    frames.send('42/custom,["echo",1]') // its answer says that the packet before it was taken
    assert.equal(await frames.next(), '42/custom,["echoed",1]')
    frames.send('42["echo",1]')
    assert.deepEqual(await frames.rest(), [])
  })

  test('an event of a namespace that was not entered closes the connection', async () => {
    for (const packet of ['42["echo",1]', '42/custom,["echo",1]', '430[]', '41', '451-["echo",{"_placeholder":true,"num":0}]']) {
      const frames = await Frames.session(port())
      frames.send(packet)
      if (packet.startsWith('45')) frames.send(Buffer.from([1]))
      assert.deepEqual(await frames.rest(), [], packet)
    }
  })

  test('the same by polling ends the session', async () => {
    const session = await Poller.open(port())
    await session.send('42["echo",1]')
    const { status, body } = await session.poll()
    if (status === 200) assert.match(body, /^(6\x1e)?1$/)
    assert.equal((await session.poll()).status, 400)
  })

  test('a CONNECT with a payload that is no object closes the connection', async () => {
    for (const payload of ['"abc"', '[]', '{', 'null', 'true', '{"a":1}x']) {
      const frames = await Frames.session(port())
      frames.send(`40${payload}`)
      assert.deepEqual(await frames.rest(), [], payload)
    }
  })

  test('the server disconnects a socket by a packet, and the connection goes on or is closed', async () => {
    const stays = await connect(port())
    stays.send('42["disconnect-me",false]')
    assert.equal(await stays.next(), '41')
    stays.send('40')
    assert.match(await stays.next(), /^40/)
    stays.close()
    const closed = await connect(port())
    closed.send('42["disconnect-me",true]')
    assert.deepEqual((await closed.rest()).slice(0, 1), ['41'])
  })
})

conformance('a connection that enters nothing', { handlers: 'all', connectTimeout: 1_000 }, port => {
  test('is closed after the timeout, and no earlier', async () => {
    const frames = await Frames.session(port())
    const before = performance.now()
    assert.deepEqual(await frames.rest(), [])
    assert.ok(performance.now() - before >= 900)
  })

  test('is closed after a refusal alike, and one that has entered stays', async () => {
    const [refused, entered] = [await Frames.session(port()), await connect(port())]
    refused.send('40/random')
    assert.deepEqual(await refused.rest(), ['44/random,{"message":"Invalid namespace"}'])
    entered.send('42["echo",1]')
    assert.equal(await entered.next(), '42["echoed",1]')
    entered.close()
  })
})
