// The parts of the TypeScript SDK that stand in for what applications have written themselves, in Chromium:
// `SSEClient`, `MessageBatcher`, and `useWebSocket` under the `ChatComponent` of fixtures/react-client.tsx.txt.
//
// Each page is an application's own, of another origin than the server. The snippets of the fixtures run unchanged but
// for the host.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { afterEach, describe, test } from 'node:test'
import { ChatClient } from './support/chat.mjs'
import { serveApp } from './support/react-page.mjs'
import { bundleSdk } from './support/sdk-page.mjs'
import { browser, server, share } from './support/shared.mjs'

const options = { timeout: 120_000 }
const opened = []

share(options, { withBrowser: true })
afterEach(async () => {
  for (const thing of opened.splice(0).reverse()) await thing.close()
}, options)

/** A page with this script; `said` are the lines of its console. */
async function visit(script) {
  const app = await serveApp(script)
  opened.push(app)
  const page = await browser.newPage()
  opened.push(page)
  page.said = []
  page.on('console', message => page.said.push(`${message.type()}: ${message.text()}`))
  page.on('pageerror', error => page.said.push(`exception: ${error}`))
  page.sockets = 0
  page.on('websocket', () => page.sockets++)
  await page.goto(`http://localhost:${app.port}/`)
  return page
}

const fixture = name => readFile(new URL(`fixtures/${name}`, import.meta.url), 'utf8')
const hostOf = text => text.replace(/localhost:\d+/, new URL(server.url).host)

/** A command of the HTTP API. */
async function api(command, body) {
  const key = /^API key: (\S+)$/m.exec(server.output)[1]
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
  const response = await fetch(`${server.url}/api/v1/${command}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.equal(response.status, 200, await response.clone().text())
}

/** A server of the application: what it was asked for, and how many requests are open at a time. */
async function serve(handle) {
  const asked = []
  let wake = () => {}
  const at = { asked, openNow: 0, openMost: 0 }
  const http = createServer((request, response) => {
    at.openMost = Math.max(at.openMost, ++at.openNow)
    response.on('close', () => at.openNow--)
    response.setHeader('Access-Control-Allow-Origin', '*')
    handle(request, response, item => {
      asked.push(item)
      wake()
    })
  })
  await new Promise(resolve => http.listen(0, '127.0.0.1', resolve))
  opened.push({
    close() {
      http.closeAllConnections()
      return new Promise(resolve => http.close(resolve))
    },
  })
  at.url = `http://127.0.0.1:${http.address().port}`
  at.until = async wanted => {
    while (!wanted(asked)) await new Promise(resolve => (wake = resolve))
  }
  return at
}

describe('SSEClient', options, () => {
  test('runs the usual snippet, and comes back after a restart of the server', async () => {
    const text = await fixture('sse-client.ts.txt')
    const usage = hostOf(text.slice(text.indexOf('const client = new SSEClient()')))
    const lines = `client.addEventListener('custom-event', event => console.log('自定义事件:', JSON.parse(event.data)))`
    const page = await visit(await bundleSdk({ contents: `
import { SSEClient } from '@fanfare/client/sse'
const log = console.log
console.log = (...all) => { log(...all); (window.said ??= []).push(all.map(one => typeof one === 'string' ? one : JSON.stringify(one)).join(' ')) }
${usage}
${lines}` }))
    const says = (text, count = 1) => page.waitForFunction(([text, count]) => (window.said ?? []).filter(line => line.includes(text)).length >= count, [text, count])
    await says('已连接到服务器')
    await says('"type":"connected"')
    await api('publish', { channel: 'events', event: 'custom-event', data: { n: 1 } })
    await says('自定义事件: {"n":1}')
    assert.deepEqual(page.said.filter(line => !line.startsWith('log:')), [])
    await server.stop()
    await server.start()
    await says('已连接到服务器', 2)
    await api('publish', { channel: 'events', data: { type: 'after' } })
    await says('收到: {"type":"after"}')
  })

  test('shows its last id across origins, and gets each message once', async () => {
    const page = await visit(await bundleSdk({ contents: `
import { SSEClient } from '@fanfare/client/sse'
window.said = []
window.client = new SSEClient()
client.connect('${server.url}/events?channel=plain', {
  onMessage: data => said.push(data.clientId ? 'connected' : data),
  onError: error => said.push(error.reason),
  events: { named: data => said.push('named ' + data) },
})
client.addEventListener('message', ({ data }) => (window.id = JSON.parse(data).clientId ?? window.id))` }))
    const hears = (...all) => page.waitForFunction(wanted => JSON.stringify(said) === wanted, JSON.stringify(all))
    await hears('connected')
    await api('publish', { channel: 'plain', data: 1 })
    await hears('connected', 1)
    await api('disconnect', { client: await page.evaluate(() => id) })
    await api('publish', { channel: 'plain', event: 'named', data: 2 })
    await hears('connected', 1, 'ended', 'connected', 'named 2')
    assert.deepEqual(page.said, [])
  })

  test('has one stream at a time, whatever the server does', async () => {
    let streams = 0
    const events = await serve((request, response, put) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write(`data: ${++streams}\n\n`)
      put(streams)
      if (streams === 1) response.end()
      if (streams === 2) setImmediate(() => response.destroy())
    })
    const page = await visit(await bundleSdk({ contents: `
import { SSEClient } from '@fanfare/client/sse'
window.said = []
window.client = new SSEClient()
client.connect('${events.url}', { onMessage: data => said.push(data), onError() {} })` }))
    await page.waitForFunction(() => said.includes(3))
    await page.evaluate(() => client.disconnect())
    assert.equal(events.openMost, 1)
  })
})

describe('MessageBatcher', options, () => {
  test('sends what waits when the page goes away', async () => {
    const collector = await serve((request, response, put) => {
      let body = ''
      request.on('data', chunk => (body += chunk))
      request.on('end', () => {
        put(JSON.parse(body))
        response.end()
      })
    })
    const page = await visit(await bundleSdk({ contents: `
import { MessageBatcher } from '@fanfare/client/batcher'
const send = messages => { if (!navigator.sendBeacon('${collector.url}', JSON.stringify(messages))) throw new Error('refused') }
window.batcher = new MessageBatcher(send, { batchSize: 2, batchDelay: 3600_000 })` }))
    await page.evaluate(() => ['a', 'b', 'c'].forEach(message => batcher.add(message)))
    await collector.until(asked => asked.length === 1)
    await page.goto('about:blank')
    await collector.until(asked => asked.length === 2)
    assert.deepEqual(collector.asked, [['a', 'b'], ['c']])
  })
})

describe('useWebSocket', options, () => {
  test('carries the usual component, in a strict tree: one connection, which comes back', async () => {
    const text = await fixture('react-client.tsx.txt')
    const component = hostOf(text.split('// 组件中的使用')[1])
    const script = await bundleSdk({ contents: `
import React, { StrictMode, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { useWebSocket } from '@fanfare/react'
${component}
createRoot(document.getElementById('root')).render(<StrictMode><ChatComponent /></StrictMode>)` }, { mode: 'development' })
    const ann = await ChatClient.join(server.ws, 'ann', 'general', 'Ann')
    const page = await visit(script)
    const shows = text => page.waitForFunction(wanted => document.body.textContent.includes(wanted), text)
    await shows('状态:已连接')
    await ann.expect('join', { userId: 'user123', username: 'John Doe' })
    ann.say('大家好')
    await shows('Ann: 大家好')
    assert.equal(page.sockets, 1)
    assert.deepEqual(page.said.filter(line => /^(error|warning|exception)/.test(line)), [])
    await ann.close()
    await server.stop()
    await shows('状态:未连接')
    await server.start()
    await shows('状态:已连接')
    const bob = await ChatClient.join(server.ws, 'bob', 'general', 'Bob')
    bob.say('back')
    await shows('Bob: back')
    await bob.close()
  })
})
