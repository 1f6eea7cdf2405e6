// Clients of other languages, each in one program: Python's httpx and Go's net/http, over HTTP/1.1 and, over TLS, over
// HTTP/2. Each sees an event stream and its Last-Event-ID, a conversation by polls and sends, and a denied channel.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startServer } from './support/server.mjs'

const options = { timeout: 300_000 }
const HERE = fileURLToPath(new URL('.', import.meta.url))
const RULES = '[[channels]]\nmatch = "open:*"\nsubscribe = "anyone"\npublish = "anyone"\n[[channels]]\nmatch = "closed:*"\nsubscribe = "server"\n'
// Debian's packages are for its own Python, which may stand behind another one in PATH.
const PYTHON = process.env.PYTHON ?? (existsSync('/usr/bin/python3') ? '/usr/bin/python3' : 'python3')

let folder, plain, secure, program
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fanfare-clients-'))
  const rules = join(folder, 'fanfare.toml')
  await writeFile(rules, RULES)
  plain = await startServer('--config', rules)
  secure = await startServer('--config', rules, '--tls')
  program = join(folder, 'client')
  await run('go', ['build', '-o', program, '.'], { cwd: join(HERE, 'go') })
}, options)
after(async () => {
  await Promise.all([plain?.stop(), secure?.stop()])
  await rm(folder, { recursive: true, force: true })
}, options)

function run(command, args, more) {
  return new Promise((resolve, reject) =>
    execFile(command, args, more, (error, stdout, stderr) => {
      if (error) reject(new Error(`${command} ${args.join(' ')}: ${error.code}\n${stdout}${stderr}`))
      else resolve(stdout)
    }),
  )
}

const cases = [['1.1', 'plain', () => plain], ['1.1', 'TLS', () => secure], ['2', 'TLS', () => secure]]
for (const [name, client] of [
  ["Python's httpx", args => run(PYTHON, [join(HERE, 'httpx_client.py'), ...args])],
  ["Go's net/http", args => run(program, args)],
]) {
  describe(name, options, () => {
    for (const [version, way, server] of cases) {
      test(`streams, comes back, polls and is denied over HTTP/${version}, ${way}`, async () => {
        const { url, output } = server()
        const key = /^API key: (\S+)$/m.exec(output)[1]
        await client([url, key, version])
      })
    }
  })
}
