// `socket.io-client` that polls over HTTP/2: its transport for `fetch`, with a `fetch` over one connection of Node's
// HTTP/2 client.
//
// Out: `polling(session)`, a class for the option `transports`. `session` is a connection of `node:http2`. Only what
// the transport of `engine.io-client` asks of `fetch` is there.

import { Fetch } from 'engine.io-client'
import http2 from 'node:http2'

/** A connection for requests, which must speak HTTP/2. Its certificate may sign itself. */
export async function connect(url) {
  const session = http2.connect(url, { rejectUnauthorized: false })
  await new Promise((resolve, reject) => session.once('connect', resolve).once('error', reject))
  return session
}

async function request(session, url, { method, headers, body }) {
  const { pathname, search } = new URL(url)
  const stream = session.request({ ':method': method, ':path': pathname + search, ...Object.fromEntries(headers) })
  stream.setEncoding('utf8')
  stream.end(body ?? undefined)
  const status = await new Promise((resolve, reject) => stream.once('response', head => resolve(head[':status'])).once('error', reject))
  let text = ''
  for await (const chunk of stream) text += chunk
  return { ok: status >= 200 && status < 300, status, text: async () => text }
}

export function polling(session) {
  return class extends Fetch {
    _fetch(data) {
      const headers = new Headers(data === undefined ? {} : { 'content-type': 'text/plain;charset=UTF-8' })
      return request(session, this.uri(), { method: data === undefined ? 'GET' : 'POST', headers, body: data })
    }
  }
}
