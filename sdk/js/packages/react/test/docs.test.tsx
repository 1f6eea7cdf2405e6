// @vitest-environment jsdom
// The snippets of docs/react.md are true: all are compiled, their components render against the fake server without a
// complaint of React, and the test among them passes.
//
// A snippet is a file: its first line names it (`// app/actions.ts`), or the component that it exports does.

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, posix } from 'node:path'
import * as client from '@fanfare/client'
import * as testing from '@fanfare/client/testing'
import * as React from 'react'
import { createRoot } from 'react-dom/client'
import * as jsxRuntime from 'react/jsx-runtime'
import { afterEach, describe, expect, test, vi } from 'vitest'
import * as hooks from '../src/index.js'

const PAGES = ['../../../../docs/react.md', 'README.md', 'llms.txt']

interface Snippet {
  path: string
  code: string
}

function snippetsOf(page: string): Snippet[] {
  const blocks = [...readFileSync(page, 'utf8').matchAll(/^```tsx?\n(.*?)^```$/gms)].map(([, code = '']) => code)
  return blocks.map((code, index) => {
    const named = /^\/\/ (\S+\.tsx?)\n/.exec(code)?.[1]
    const exported = /^export (?:function|const) (\w+)/m.exec(code)?.[1]
    return { path: named ?? `${exported ?? `snippet-${index}`}.tsx`, code }
  })
}

const pages = PAGES.map(page => ({ page, snippets: snippetsOf(page) }))

/** What the pages leave to the reader. */
const STUBS = {
  'session.ts': 'export declare function currentUser(): Promise<{ id: string; name: string } | null>',
  'stubs/jsonwebtoken.d.ts': `declare const jwt: {
    sign(claims: object, secret: string, options: { subject: string; expiresIn: string }): string
  }
  export default jwt`,
  'stubs/testing-library.d.ts': `import type { ReactNode } from 'react'
  export declare function render(ui: ReactNode): void
  export declare const screen: { findByText(text: string): Promise<Element> }`,
}

test.each(pages)('the snippets of $page compile', { timeout: 120_000 }, ({ snippets }) => {
  expect(snippets.length).toBeGreaterThan(0)
  expect(new Set(snippets.map(({ path }) => path)).size).toBe(snippets.length)
  mkdirSync('node_modules', { recursive: true })
  const folder = mkdtempSync(join(process.cwd(), 'node_modules/.docs-')) // so that packages are found
  const write = (path: string, text: string) => {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  for (const [path, text] of Object.entries(STUBS)) write(path, text)
  for (const { path, code } of snippets) write(path, code)
  write('package.json', '{"type":"module"}')
  const source = (path: string) => [join(process.cwd(), path)]
  const config = {
    extends: source('../../tsconfig.base.json')[0],
    compilerOptions: {
      jsx: 'react-jsx',
      module: 'ESNext',
      moduleResolution: 'Bundler',
      lib: ['ES2023', 'DOM', 'DOM.Iterable'],
      types: ['node'],
      noUnusedLocals: false,
      exactOptionalPropertyTypes: false, // as in most applications
      paths: {
        '@fanfare/client': source('../client/src/index.ts'),
        '@fanfare/client/*': source('../client/src/*.ts'),
        '@fanfare/react': source('src/index.ts'),
        jsonwebtoken: [join(folder, 'stubs/jsonwebtoken.d.ts')],
        '@testing-library/react': [join(folder, 'stubs/testing-library.d.ts')],
      },
    },
    include: ['**/*'],
    exclude: [],
  }
  write('tsconfig.json', JSON.stringify(config))
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
  let said = ''
  try {
    execFileSync(process.execPath, [tsc, '--project', folder, '--pretty', 'false'], { encoding: 'utf8', cwd: folder })
  } catch (thrown) {
    said = (thrown as { stdout: string }).stdout
  }
  rmSync(folder, { recursive: true, force: true })
  expect(said).toBe('')
})

const roots: { unmount(): void }[] = []
const clients: client.Client[] = []
let server: testing.FakeServer | undefined
afterEach(() => {
  for (const root of roots.splice(0)) root.unmount()
  for (const made of clients.splice(0)) made.close()
  server?.close()
  document.body.replaceChildren()
})

function show(ui: React.ReactNode): Element {
  const box = document.body.appendChild(document.createElement('div'))
  const root = createRoot(box)
  roots.push(root)
  root.render(<React.StrictMode>{ui}</React.StrictMode>)
  return box
}

const findByText = (text: string) =>
  vi.waitFor(() => {
    const found = [...document.body.querySelectorAll('*')].find(it => !it.children.length && it.textContent === text)
    if (!found) throw new Error(`no ${text} in ${document.body.innerHTML}`)
    return found
  })

let cache: Record<string, string> | undefined
/** The scripts of all snippets. In a process of its own: esbuild does not run under jsdom's globals. */
function scripts(): Record<string, string> {
  const code = `import { transform } from 'esbuild'
    let text = ''
    for await (const part of process.stdin) text += part
    const options = { loader: 'tsx', format: 'cjs', jsx: 'automatic' }
    const all = JSON.parse(text).map(async code => [code, (await transform(code, options)).code])
    process.stdout.write(JSON.stringify(Object.fromEntries(await Promise.all(all))))`
  const input = JSON.stringify(pages.flatMap(({ snippets }) => snippets.map(({ code }) => code)))
  cache ??= JSON.parse(execFileSync(process.execPath, ['--input-type=module', '-e', code], { input, encoding: 'utf8' }))
  return cache as Record<string, string>
}

/** Runs a snippet, with those that it imports. */
async function load(snippets: Snippet[], path: string, modules: Record<string, unknown>) {
  const js = scripts()[snippets.find(snippet => snippet.path === path)?.code ?? ''] ?? ''
  const module = { exports: {} as Record<string, unknown> }
  for (const [, from = ''] of js.matchAll(/require\("(\.[^"]*)"\)/g)) {
    const target = posix.join(dirname(path), from)
    const file = snippets.find(snippet => [`${target}.ts`, `${target}.tsx`].includes(snippet.path))
    if (file) modules[target] ??= await load(snippets, file.path, modules)
  }
  const require = (name: string) => modules[name.startsWith('.') ? posix.join(dirname(path), name) : name]
  new Function('require', 'module', 'exports', js)(require, module, module.exports)
  return module.exports
}

const PROPS = {
  room: 'general',
  name: 'general',
  me: 'Ada',
  load: () => Promise.resolve(['a line']),
  initial: { messages: [], position: { epoch: 'e', offset: 0 } },
}

describe.each(pages)('the snippets of $page run:', ({ snippets }) => {
  const components = snippets.filter(({ path }) => path.endsWith('.tsx') && !/page|layout|test|Socket/.test(path))
  test.each(components.map(({ path }) => path))('%s', { timeout: 60_000 }, async path => {
    server = testing.createFakeServer()
    const { env, url } = server
    const tests: (() => Promise<void>)[] = []
    const own = (options?: client.ClientOptions) => {
      const made = client.createClient({ ...options, url, env })
      clients.push(made)
      return made
    }
    const modules: Record<string, unknown> = {
      react: React,
      'react/jsx-runtime': jsxRuntime,
      '@fanfare/client': { ...client, createClient: own },
      '@fanfare/client/testing': testing,
      '@fanfare/react': hooks,
      '@testing-library/react': { render: show, screen: { findByText } },
      vitest: { expect, test: (_: string, run: () => Promise<void>) => tests.push(run) },
    }
    vi.stubGlobal('fetchCount', () => Promise.resolve({ count: 3 }))
    const complaints = vi.spyOn(console, 'error')
    const made = await load(snippets, path, modules)
    for (const part of Object.values(made) as React.FC<typeof PROPS>[]) {
      const Part = part
      const ui = <Part {...PROPS}>child</Part>
      const box = show(/^App/.test(path) ? ui : <hooks.FanfareProvider client={own()}>{ui}</hooks.FanfareProvider>)
      const isQuiet = path === 'Banner.tsx' // it has nothing to say
      if (!isQuiet) await vi.waitFor(() => expect(box.innerHTML).not.toBe(''), { timeout: 20_000 })
    }
    await server.settled()
    server.publish('chat:general', { text: 'hello' })
    server.publish('price:gold', { bid: 1, ask: 2 })
    await server.settled()
    expect(complaints.mock.calls).toEqual([])
  })

  test.each(snippets.filter(({ path }) => path.endsWith('.test.tsx')).map(({ path }) => path))('%s', async path => {
    const tests: (() => Promise<void>)[] = []
    const modules: Record<string, unknown> = {
      react: React,
      'react/jsx-runtime': jsxRuntime,
      '@fanfare/client': client,
      '@fanfare/client/testing': testing,
      '@fanfare/react': hooks,
      '@testing-library/react': { render: show, screen: { findByText } },
      vitest: { expect, test: (_: string, run: () => Promise<void>) => tests.push(run) },
    }
    await load(snippets, path, modules)
    expect(tests).toHaveLength(1)
    for (const run of tests) await run()
  })
})
