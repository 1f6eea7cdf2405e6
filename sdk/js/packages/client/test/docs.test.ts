// The snippets of the guides are true: each block of TypeScript is compiled, and run against the fake server.
//
// A snippet has what the one before it would have made: `client`, `chat`, and some functions of an application
// (`PRELUDE`), unless it makes them itself. `// prints …` lines are what it writes to the console, in order; without
// one nothing is demanded. No snippet may leave an error of a handler behind.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { format } from 'node:util'
import { transform } from 'esbuild'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import * as batcher from '../src/batcher.js'
import { type Client, type ClientOptions, createClient, FanfareError } from '../src/index.js'
import * as sse from '../src/sse.js'
import * as testing from '../src/testing.js'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const ROOT = at('../../../../..')
const PAGES = ['docs/sdk.md', 'docs/from-socketio.md', 'docs/from-pusher-ably.md', 'docs/from-centrifugo.md']
PAGES.push('README.md', 'README.zh-CN.md', 'sdk/js/packages/client/README.md', 'sdk/js/packages/client/llms.txt')

interface Snippet {
  name: string
  imports: string
  body: string
  prints: string[]
}

function snippetsOf(page: string): Snippet[] {
  const all: Snippet[] = []
  let lines: string[] | undefined
  for (const [index, line] of readFileSync(join(ROOT, page), 'utf8').split('\n').entries()) {
    if (line === '```ts') {
      lines = []
      continue
    }
    if (lines && line === '```') {
      const name = `${page.replace(/\W/g, '-')}-line-${index - lines.length}`
      const prints = lines.flatMap(text => /^\/\/ prints (.*)$/.exec(text)?.[1] ?? [])
      const isImport = (text: string) => text.startsWith('import ')
      const imports = lines.filter(isImport).join('\n')
      all.push({ name, imports, body: lines.filter(text => !isImport(text)).join('\n'), prints })
      lines = undefined
    } else lines?.push(line)
  }
  return all
}

const snippets = PAGES.flatMap(snippetsOf)

const PRELUDE = `
import type * as fanfare from '@fanfare/client'
import type { FakeServer } from '@fanfare/client/testing'
interface App {
  channels: {
    'chat:*': {
      events: { message: { text: string }; edited: { id: string; text: string } }
      signals: { typing: { on: boolean } }
      presence: { name: string }
    }
  }
  rpc: { add: [{ a: number; b: number }, number] }
}
declare const client: fanfare.Client<App>
declare const chat: fanfare.Channel<App['channels']['chat:*']>
declare const server: FakeServer
declare function expect(value: unknown): { toEqual(other: unknown): void }
declare function until(holds: () => unknown): Promise<void>
declare function getToken(): Promise<string>
declare function loadLines(): Promise<string[]>
declare function reload(): Promise<void>
declare function show(data: unknown): void
declare function showBanner(text: string | null): void
declare function showLogin(why: string): void
declare function showMembers(count: number): void
`

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fanfare-docs-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('the snippets compile', { timeout: 60_000 }, () => {
  expect(snippets.length).toBeGreaterThan(20)
  for (const { name, imports, body } of snippets)
    writeFileSync(join(folder, `${name}.ts`), `${imports}\n${PRELUDE}\nexport async function run() {\n${body}\n}\n`)
  // What a browser has is what `env` takes.
  writeFileSync(
    join(folder, 'globals.ts'),
    `import type { Env } from '@fanfare/client'
export const env: Partial<Env> = { WebSocket, fetch, AbortController, TextDecoder, setTimeout, now: Date.now }\n`,
  )
  writeFileSync(join(folder, 'ws.d.ts'), 'declare const socket: typeof WebSocket\nexport default socket\n')
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
  const source = (name: string) => [at(`../src/${name}.ts`)]
  const subPaths = ['sse', 'batcher', 'outbox', 'tabs', 'testing']
  const paths = Object.fromEntries(subPaths.map(name => [`@fanfare/client/${name}`, source(name)]))
  const config = {
    extends: at('../../../tsconfig.base.json'),
    compilerOptions: {
      lib: ['ES2023', 'DOM', 'DOM.Iterable'],
      noUnusedLocals: false,
      noUnusedParameters: false,
      paths: { '@fanfare/client': source('index'), ...paths, ws: [join(folder, 'ws.d.ts')] },
    },
    files: ['globals.ts', ...snippets.map(({ name }) => `${name}.ts`)],
  }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
  let said = ''
  try {
    execFileSync(process.execPath, [tsc, '--project', folder, '--pretty', 'false'], { encoding: 'utf8', cwd: folder })
  } catch (thrown) {
    said = (thrown as { stdout: string }).stdout
  }
  expect(said).toBe('')
})

/** `import { a } from 'x'` as a part of the function that is run. */
const asConst = (imports: string) =>
  imports
    .replace(/^import type .*$/gm, '')
    .replace(/^import (\w+) from ('[^']+')$/gm, 'const $1 = modules[$2].default')
    .replace(/^import (\{.*\}) from ('[^']+')$/gm, 'const $1 = modules[$2]')

async function run({ imports, body }: Snippet): Promise<{ printed: string[]; faults: string[] }> {
  const printed: string[] = []
  const faults: string[] = []
  const identify = (token: string | undefined) => (token === undefined ? {} : { user: token })
  const server = testing.createFakeServer({ identify })
  server.rpc('add', ({ a, b }: { a: number; b: number | null }) => {
    if (b === null) throw Object.assign(new Error('`b` is no number'), { code: 'bad_request' })
    return a + b
  })
  const clients: Client[] = []
  const watched = <C extends Client<never>>(made: C): C => {
    made.on('error', error => error.code === 'handler' && faults.push(error.message))
    clients.push(made as unknown as Client)
    return made
  }
  const { WebSocket } = server.env
  const env = { ...server.env, WebSocket }
  const own = (options: ClientOptions = {}) => watched(createClient({ ...options, env: { ...options.env, ...env } }))
  const client = own({ url: 'http://localhost:8080', token: 'ada' })
  const modules = {
    '@fanfare/client': { createClient: own, FanfareError },
    '@fanfare/client/testing': testing,
    '@fanfare/client/sse': sse,
    '@fanfare/client/batcher': batcher,
    ws: { default: WebSocket },
  }
  const values = {
    modules,
    client,
    chat: client.channel('chat:general'),
    server,
    until: (holds: () => unknown) => vi.waitUntil(holds, { timeout: 5_000, interval: 5 }),
    getToken: () => Promise.resolve('ada'),
    loadLines: () => Promise.resolve([]),
    reload: () => Promise.resolve(),
    show: () => {},
    showBanner: () => {},
    showLogin: () => {},
    showMembers: () => {},
    fetch: () => Promise.resolve({ ok: true, text: () => Promise.resolve('ada') }),
    expect,
    console: { log: (...all: unknown[]) => printed.push(format(...all)) },
  }
  const { code } = await transform(`async function run() {\n${asConst(imports)}\n${body}\n}`, { loader: 'ts' })
  const make = new Function(...Object.keys(values), `${code}\nreturn run`) as (...all: unknown[]) => () => Promise<void>
  await make(...Object.values(values))()
  await server.settled()
  for (const made of clients) made.close()
  server.close()
  return { printed, faults }
}

describe('runs as the page says:', () => {
  test.each(snippets.map(snippet => [snippet.name, snippet] as const))('%s', async (_, snippet) => {
    const { printed, faults } = await run(snippet)
    expect(faults).toEqual([])
    if (snippet.prints.length) expect(printed).toEqual(snippet.prints)
  })
})
