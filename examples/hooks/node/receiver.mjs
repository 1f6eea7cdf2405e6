// An application that decides for Fanfare and is notified by it, with nothing but Node.
//
// HOOKS_SECRET=whsec_… PORT=3000 node receiver.mjs
//
// It verifies the signature of every request (Standard Webhooks), and answers as docs/hooks.md has it:
//
// - connect: the token `name:ada` is the user ada, of the team that TEAMS has for her; any other token is refused.
// - subscribe: the channel `team:blue` is for the team blue.
// - publish: a message needs a `text`; it is published without spaces around it.
// - rpc: `sum` adds numbers.
// - notices: each is printed once, as a line of JSON.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { createServer } from 'node:http'

// Several secrets in one text, separated by spaces, are all valid: so one can be replaced.
const SECRETS = process.env.HOOKS_SECRET.split(' ').map(text => Buffer.from(text.replace(/^whsec_/, ''), 'base64'))
const TEAMS = new Map([['ada', 'blue'], ['bob', 'red']])
// Requests that are older or newer are refused: somebody may have recorded them.
const TOLERANCE_SECONDS = 300

/** Whether one of our secrets has signed this request, and not long ago. */
function isSigned(headers, body) {
  const { 'webhook-id': id = '', 'webhook-timestamp': timestamp = '', 'webhook-signature': signature = '' } = headers
  const age = Math.abs(Date.now() / 1000 - Number(timestamp))
  if (!/^\d+$/.test(timestamp) || age > TOLERANCE_SECONDS) return false
  const shown = signature.split(' ').filter(part => part.startsWith('v1,')).map(part => Buffer.from(part.slice(3), 'base64'))
  return SECRETS.some(secret => {
    const good = createHmac('sha256', secret).update(`${id}.${timestamp}.`).update(body).digest()
    return shown.some(other => other.length === good.length && timingSafeEqual(other, good))
  })
}

/** The client gets this error. */
class Refused extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

const answers = {
  connect({ token = '' }) {
    const [kind, name] = token.split(':')
    if (kind !== 'name' || !TEAMS.has(name)) throw new Refused('unauthorized', 'who are you?')
    return { user: name, info: { team: TEAMS.get(name) } }
  },
  refresh: question => answers.connect(question),
  subscribe({ channel, user }) {
    if (channel !== `team:${TEAMS.get(user)}`) throw new Refused('denied', "this is another team's channel")
    return {}
  },
  publish({ data }) {
    const text = typeof data?.text === 'string' ? data.text.trim() : ''
    if (text === '') throw new Refused('bad_request', 'a message needs a text')
    return { data: { ...data, text } }
  },
  rpc({ method, data }) {
    if (method !== 'sum') throw new Refused('not_found', 'there is no such method')
    return { data: data.reduce((sum, number) => sum + number, 0) }
  },
}

// The last ids: a notice may come twice. A real application keeps them where it keeps what it does with a notice.
const seen = new Set()

function takeNotices(notices) {
  for (const notice of notices) {
    if (seen.has(notice.id)) continue
    console.log(JSON.stringify(notice))
    seen.add(notice.id)
    if (seen.size > 10_000) seen.delete(seen.values().next().value)
  }
}

function answer(question) {
  if (question.type === 'notices') return takeNotices(question.notices) ?? {}
  try {
    return { result: answers[question.type](question) }
  } catch (error) {
    if (!(error instanceof Refused)) throw error
    return { error: { code: error.code, message: error.message } }
  }
}

async function handle(request, response) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks)
  if (!isSigned(request.headers, body)) return response.writeHead(401).end()
  const text = JSON.stringify(answer(JSON.parse(body)))
  response.writeHead(200, { 'Content-Type': 'application/json' }).end(text)
}

const server = createServer((request, response) => {
  handle(request, response).catch(error => {
    console.error(error)
    if (!response.headersSent) response.writeHead(500).end()
  })
})
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})
