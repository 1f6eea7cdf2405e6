// The applications of examples/hooks, in Node and Python, decide for a server that asks them over HTTP: who a client
// is, what it may subscribe to and publish, and what a call returns. Each refuses requests with a wrong signature.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHmac, randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import WebSocket from 'ws'
import { startServer } from './support/server.mjs'

const options = { timeout: 120_000 }
const EXAMPLES = fileURLToPath(new URL('../../examples/hooks/', import.meta.url))
const SECRET = `whsec_${randomBytes(32).toString('base64')}`
const RULES = '[[channels]]\nmatch = "team:*"\nsubscribe = "hook"\npublish = "hook"\n'

/** Starts an application; gives its address, the lines that it prints, and its end. */
function startApplication(command, file) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, PORT: '0', HOOKS_SECRET: SECRET }
    const child = spawn(command, [join(EXAMPLES, file)], { stdio: ['ignore', 'pipe', 'inherit'], env })
    process.once('exit', () => child.kill('SIGKILL'))
    const lines = lineReader(child.stdout)
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`${file} ended: ${code}`)))
    lines.next().then(line => resolve({ url: line.split(' ').at(-1), lines, stop: () => child.kill('SIGKILL') }))
  })
}

/** `next()` gives the next whole line. */
function lineReader(stream) {
  const [ready, waiting] = [[], []]
  let rest = ''
  stream.on('data', chunk => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      const taker = waiting.shift()
      if (taker === undefined) ready.push(line)
      else taker(line)
    }
  })
  return { next: () => (ready.length > 0 ? Promise.resolve(ready.shift()) : new Promise(take => waiting.push(take))) }
}

/** A native client: `ask` gives the reply to a command, `next` the next push of a type. */
function connect(server) {
  const socket = new WebSocket(`${server.ws}v1/ws`, 'fanfare.v1')
  const [messages, waiting] = [[], []]
  socket.on('message', text => {
    messages.push(...[JSON.parse(text)].flat())
    for (const look of waiting.splice(0)) look()
  })
  const find = wanted =>
    new Promise(resolve => {
      const look = () => {
        const at = messages.findIndex(wanted)
        if (at < 0) waiting.push(look)
        else resolve(messages.splice(at, 1)[0])
      }
      look()
    })
  let id = 0
  const opened = new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return {
    async ask(type, fields) {
      await opened
      const mine = ++id
      socket.send(JSON.stringify({ type, id: mine, ...fields }))
      return find(message => message.id === mine)
    },
    next: type => find(message => message.type === type),
    close: () => socket.close(),
  }
}

for (const [name, command, file] of [
  ['Node', process.execPath, 'node/receiver.mjs'],
  ['Python', process.env.PYTHON ?? 'python3', 'python/receiver.py'],
]) {
  describe(`an application in ${name}`, options, () => {
    let folder, application, server
    before(async () => {
      application = await startApplication(command, file)
      folder = await mkdtemp(join(tmpdir(), 'fanfare-hooks-'))
      const config = join(folder, 'fanfare.toml')
      const hooks = `[hooks]\nurl = "${application.url}/"\nask = ["connect", "subscribe", "publish", "rpc"]\nnotify = ["occupied", "published", "disconnect"]\nsecret = "\${HOOKS_SECRET}"\n`
      await writeFile(config, hooks + RULES)
      server = await startServer('--config', config, { env: { HOOKS_SECRET: SECRET } })
    }, options)
    after(async () => {
      await server?.stop()
      application?.stop()
      await rm(folder, { recursive: true, force: true })
    }, options)

    test('identifies clients and decides about channels, publications and calls', async () => {
      const stranger = await connect(server).ask('connect', { token: 'name:mallory' })
      assert.deepEqual([stranger.type, stranger.code, stranger.message], ['error', 'unauthorized', 'who are you?'])
      const ada = connect(server)
      const connected = await ada.ask('connect', { token: 'name:ada' })
      assert.deepEqual([connected.type, connected.user], ['connected', 'ada'])
      assert.equal((await ada.ask('subscribe', { channel: 'team:blue' })).type, 'subscribed')
      const denied = await ada.ask('subscribe', { channel: 'team:red' })
      assert.deepEqual([denied.code, denied.message], ['denied', "this is another team's channel"])
      assert.equal((await ada.ask('publish', { channel: 'team:blue', data: { text: '  hello ' } })).type, 'published')
      assert.deepEqual((await ada.next('message')).data, { text: 'hello' })
      assert.equal((await ada.ask('publish', { channel: 'team:blue', data: 7 })).code, 'bad_request')
      assert.equal((await ada.ask('rpc', { method: 'sum', data: [1, 2, 39] })).data, 42)
      assert.equal((await ada.ask('rpc', { method: 'product', data: [] })).code, 'not_found')
      ada.close()
    })

    test('is notified of what happens, in order', async () => {
      const bob = connect(server)
      const { client } = await bob.ask('connect', { token: 'name:bob' })
      await bob.ask('subscribe', { channel: 'team:red' })
      await bob.ask('publish', { channel: 'team:red', data: { text: 'one' } })
      await bob.ask('publish', { channel: 'team:red', data: { text: 'two' } })
      bob.close()
      const seen = []
      // Those of the test before this one come first.
      while (!seen.some(notice => notice.type === 'disconnect' && notice.client === client)) {
        seen.push(JSON.parse(await application.lines.next()))
      }
      const red = seen.filter(notice => notice.channel === 'team:red')
      assert.deepEqual(red.map(({ type, user, data }) => [type, user, data?.text]), [
        ['occupied', undefined, undefined],
        ['published', 'bob', 'one'],
        ['published', 'bob', 'two'],
      ])
      assert.equal(new Set(seen.map(notice => notice.id)).size, seen.length)
    })

    test('refuses what this server has not signed', async () => {
      const body = JSON.stringify({ type: 'connect', token: 'name:ada' })
      const now = Math.floor(Date.now() / 1000)
      const post = async (secret, timestamp, sent = body) => {
        const key = Buffer.from(secret.slice('whsec_'.length), 'base64')
        const signature = createHmac('sha256', key).update(`msg_1.${timestamp}.${body}`).digest('base64')
        const headers = { 'webhook-id': 'msg_1', 'webhook-timestamp': timestamp, 'webhook-signature': `v1,AAAA v1,${signature}` }
        return (await fetch(application.url, { method: 'POST', headers, body: sent })).status
      }
      assert.equal(await post(SECRET, `${now}`), 200)
      assert.equal(await post(`whsec_${randomBytes(32).toString('base64')}`, `${now}`), 401, 'another secret')
      assert.equal(await post(SECRET, `${now - 3600}`), 401, 'an hour ago')
      assert.equal(await post(SECRET, 'yesterday'), 401)
      assert.equal(await post(SECRET, `${now}`, body.replace('ada', 'bob')), 401, 'another body')
      assert.equal((await fetch(application.url, { method: 'POST', body })).status, 401, 'unsigned')
    })
  })
}
