/**
 * `SSEClient` against a real server's `/events`, and against a plain event stream of Node.
 */

import { readFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { api, type Fanfare, Inbox, startFanfare } from '../../../support/fanfare.js'
import { SSEClient, type SSEError } from '../src/sse.js'

const clients: SSEClient[] = []

function newClient(): SSEClient {
  const client = new SSEClient({ random: () => 0 })
  clients.push(client)
  return client
}

afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect()
})

describe('against fanfare', () => {
  let server: Fanfare

  beforeAll(async () => {
    server = await startFanfare()
  })

  afterAll(async () => {
    await server?.stop()
  })

  test('the usual snippet runs unchanged but for host and port', async () => {
    const text = await readFile(
      new URL('../../../../../tests/clients/fixtures/sse-client.ts.txt', import.meta.url),
      'utf8',
    )
    const usage = text.slice(text.indexOf('const client = new SSEClient();'))
    expect(usage.split('localhost:3000')).toHaveLength(2)
    const said = new Inbox<unknown[]>()
    const console = { log: (...words: unknown[]) => said.put(words) }
    const run = new Function(
      'SSEClient',
      'console',
      usage.replace('localhost:3000', new URL(server.url).host) + '; return client',
    )
    clients.push(run(SSEClient, console) as SSEClient)
    await said.next(([word]) => word === '已连接到服务器')
    const [, connected] = await said.next(([word]) => word === '收到:')
    expect(connected).toMatchObject({ type: 'connected', clientId: expect.any(String) })
    await api(server, 'publish', { channel: 'events', data: { type: 'update', value: 101 } })
    await said.next(([word, data]) => word === '收到:' && (data as { value?: number }).value === 101)
  })

  test('each message comes once, also over the end of a stream, and to the handler of its event', async () => {
    const inbox = new Inbox<unknown>()
    const client = newClient()
    client.connect(`${server.url}/events?channel=numbers`, {
      onMessage: inbox.put,
      onError: error => inbox.put(error.reason),
      events: { 'custom-event': inbox.put },
    })
    const connected = (await inbox.next()) as { clientId: string }
    await api(server, 'publish', { channel: 'numbers', data: 1 })
    expect(await inbox.next()).toBe(1)
    await api(server, 'disconnect', { client: connected.clientId })
    await api(server, 'publish', { channel: 'numbers', event: 'custom-event', data: 2 })
    expect(await inbox.next()).toBe('ended')
    expect(await inbox.next()).toHaveProperty('clientId')
    expect(await inbox.next()).toBe(2)
  })

  test('a refusal is an error with the reason of the server, and the end', async () => {
    const errors = new Inbox<SSEError>()
    const client = newClient()
    client.connect(`${server.url}/events?chanel=a`, { onError: errors.put })
    const error = await errors.next()
    expect(error).toMatchObject({ reason: 'status', status: 400, willReconnect: false })
    expect(error.message).toContain('channel')
    expect(client.state).toBe('ended')
    client.connect(`${server.url}/v1/ws`, { onError: errors.put })
    expect((await errors.next()).willReconnect).toBe(false)
  })

  test('a restart of the server is a loss that is told, and the stream goes on', async () => {
    const own = await startFanfare()
    try {
      const inbox = new Inbox<unknown>()
      const put = (error: SSEError) => inbox.put(error.reason)
      newClient().connect(`${own.url}/events?channel=a`, { onMessage: inbox.put, onError: put })
      await inbox.next()
      await own.kill()
      expect(['network', 'ended']).toContain(await inbox.next())
      await own.start()
      // Its channels began anew: what was published between is not known.
      await inbox.next(item => item === 'gap')
      await api(own, 'publish', { channel: 'a', data: 'after' })
      await inbox.next(item => item === 'after')
    } finally {
      await own.stop()
    }
  })
})

describe('against a plain server', () => {
  test('streams, no id, `data` alone: one stream at a time, and again after each end', async () => {
    const streams: ServerResponse[] = []
    const arrived = new Inbox<ServerResponse>()
    let open = 0
    let most = 0
    const server = createServer((_, response) => {
      most = Math.max(most, ++open)
      response.on('close', () => open--)
      response.writeHead(200, {
        'Content-Type': 'text/event-stream',
        'Cache-Control': 'no-cache',
        Connection: 'keep-alive',
      })
      response.write('data: {"type":"connected"}\n\n')
      streams.push(response)
      arrived.put(response)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    try {
      const inbox = new Inbox<unknown>()
      const client = newClient()
      client.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}/events`, { onMessage: inbox.put })
      for (let round = 0; round < 2; round++) {
        const stream = await arrived.next()
        await inbox.next()
        stream.write(`event: message\ndata: ${round}\n\n`)
        expect(await inbox.next()).toBe(round)
        if (round) stream.destroy()
        else stream.end()
      }
      const last = await arrived.next()
      const closed = new Promise(resolve => last.on('close', resolve))
      await inbox.next()
      client.disconnect()
      await closed
      expect(most).toBe(1)
      expect(streams).toHaveLength(3)
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })
})
