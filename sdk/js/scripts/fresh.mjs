// Uses the packages as a user does who installs them: `npm pack`, `npm install` in an empty folder, and an application
// of each kind. Run in sdk/js after the build. `FRESH=folder` keeps what it makes there.
//
// In plain Node by `import` and by `require`; types as both kinds of project resolve them; Vite with React, built. The
// tools (React, Vite, TypeScript, ws) are those of this workspace, so that nothing is fetched. With FANFARE_BIN the
// programs of Node talk to the real server too.

import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'

const ROOT = process.cwd()
const FOLDER = process.env.FRESH ?? mkdtempSync(join(tmpdir(), 'fanfare-fresh-'))
const tool = name => join(ROOT, 'node_modules', name)
const say = text => console.log(`fresh: ${text}`)
const run = (cwd, command, ...args) =>
  execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
const npm = (cwd, ...args) => run(cwd, 'npm', ...args)

function write(files) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(FOLDER, name)), { recursive: true })
    writeFileSync(join(FOLDER, name), text)
  }
}

const LINKED = 'react react-dom scheduler vite ws typescript @types/react @types/react-dom csstype'.split(' ')

function install() {
  mkdirSync(FOLDER, { recursive: true })
  const tarballs = ['client', 'react'].map(name => {
    const [{ filename, files }] = JSON.parse(
      npm(join(ROOT, 'packages', name), 'pack', '--json', '--ignore-scripts', '--pack-destination', FOLDER),
    )
    say(`${filename}: ${files.length} files`)
    return `./${filename}`
  })
  write({ 'package.json': '{"name":"fresh","private":true,"type":"module"}' })
  npm(FOLDER, 'install', '--no-audit', '--no-fund', '--offline', '--legacy-peer-deps', ...tarballs)
  for (const name of LINKED) {
    mkdirSync(dirname(join(FOLDER, 'node_modules', name)), { recursive: true })
    symlinkSync(tool(name), join(FOLDER, 'node_modules', name))
  }
}

/** The same program, by `import` and by `require`. */
const program = (load, url) => `
${load('@fanfare/client', 'createClient, FanfareError, VERSION')}
${load('@fanfare/client/testing', 'createFakeServer')}
${load('@fanfare/client/sse', 'SSEClient')}
${load('@fanfare/client/batcher', 'MessageBatcher')}
${load('@fanfare/client/outbox', 'indexedDbOutbox')}
${load('@fanfare/react', 'FanfareProvider, createHooks')}
${load('ws', 'WebSocket')}
async function main() {
  for (const it of [SSEClient, MessageBatcher, indexedDbOutbox, FanfareProvider, createHooks, VERSION, FanfareError])
    if (!it) throw new Error('an export is missing')
  const server = createFakeServer()
  for (const client of [server.client(), ${url ? `createClient({ url: '${url}', env: { WebSocket } })` : ''}]) {
    const chat = client.channel('fresh:one')
    const heard = new Promise(done => chat.subscribe(message => done(message.data)))
    await chat.publish({ text: 'hello' })
    console.log((await heard).text, client.state.name)
    client.close()
  }
  server.close()
}
main()
`

const APP = `
import { createClient } from '@fanfare/client'
import { createHooks, FanfareProvider } from '@fanfare/react'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'

type App = { channels: { 'chat:*': { events: { message: { text: string } } } } }
const { useMessages, usePublish } = createHooks<App>()
const client = createClient<App>({ url: new URLSearchParams(location.search).get('url') ?? 'http://localhost:8080' })

function Chat() {
  const { messages } = useMessages('chat:fresh', { recent: 10 })
  const publish = usePublish('chat:fresh')
  return (
    <main>
      <ul>{messages.map(message => <li key={message.position.offset}>{message.data.text}</li>)}</ul>
      <button onClick={() => publish({ text: 'hello' })}>Say hello</button>
    </main>
  )
}

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <FanfareProvider client={client}><Chat /></FanfareProvider>
  </StrictMode>,
)
`

const typescript = (module, moduleResolution) =>
  JSON.stringify({
    compilerOptions: {
      ...{ target: 'ES2022', lib: ['ES2022', 'DOM'], strict: true, noEmit: true, jsx: 'react-jsx', types: [] },
      ...{ module, moduleResolution, exactOptionalPropertyTypes: true, preserveSymlinks: true },
    },
    files: ['src/main.tsx'],
  })

async function realServer() {
  const bin = process.env.FANFARE_BIN
  if (!bin) return undefined
  const args = ['dev', '--listen', '127.0.0.1:0', '--shards', '1']
  const child = spawn(resolve(bin), args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  const url = await new Promise((done, failed) => {
    const look = chunk => {
      const found = /listening on (http:\S+)\n/.exec((said += chunk))
      if (found) done(found[1])
    }
    child.stdout.on('data', look)
    child.stderr.on('data', look)
    child.once('exit', code => failed(new Error(`${bin} ended (${code}): ${said}`)))
  })
  return { url, stop: () => child.kill() }
}

install()
const server = await realServer()
try {
  write({
    'app.mjs': program((name, what) => `import { ${what} } from '${name}'`, server?.url),
    'app.cjs': program((name, what) => `const { ${what} } = require('${name}')`, server?.url),
    'src/main.tsx': APP,
    'index.html': '<!doctype html><div id="root"></div><script type="module" src="/src/main.tsx"></script>',
    // Vite reads how JSX is meant from this name.
    'tsconfig.json': typescript('ESNext', 'Bundler'),
    'nodenext.json': typescript('NodeNext', 'NodeNext'),
  })
  const expected = 'hello connected\n'.repeat(server ? 2 : 1)
  for (const name of ['app.mjs', 'app.cjs']) {
    const said = run(FOLDER, process.execPath, name)
    if (said !== expected) throw new Error(`${name} said ${JSON.stringify(said)}`)
    say(`${name} runs${server ? ', against the real server too' : ''}`)
  }
  for (const name of ['tsconfig.json', 'nodenext.json'])
    run(FOLDER, process.execPath, tool('typescript/bin/tsc'), '--project', name)
  say('types hold as bundlers and as Node resolve them')
  run(FOLDER, process.execPath, tool('vite/bin/vite.js'), 'build', '--logLevel', 'warn')
  const [script] = readdirSync(join(FOLDER, 'dist/assets')).filter(name => name.endsWith('.js'))
  const built = readFileSync(join(FOLDER, 'dist/assets', script), 'utf8')
  if (built.includes('React.createElement(')) throw new Error('the app needs a global `React`, which no page has')
  say(`Vite has built the React app: ${built.length} characters with React`)
} finally {
  server?.stop()
  if (!process.env.FRESH) rmSync(FOLDER, { recursive: true, force: true })
}
