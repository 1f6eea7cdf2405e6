// Tests of @fanfare/react, each once with React 19 and once with React 18, on the sources of @fanfare/client.

import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const client = [
  { find: /^@fanfare\/client$/, replacement: at('../client/src/index.ts') },
  { find: /^@fanfare\/client\/(\w+)$/, replacement: at('../client/src/$1.ts') },
]

/** The copy in `folder`: react-dom there finds the React beside it. */
const react = (folder: string) => [
  { find: /^(react|react-dom)(\/.*)?$/, replacement: at(folder) + '/node_modules/$1$2' },
]

const project = (name: string, alias: { find: RegExp, replacement: string }[]) => ({
  resolve: { alias },
  test: {
    name,
    include: ['test/**/*.test.{ts,tsx}'],
    testTimeout: 30_000,
    // Vite makes addresses of the page out of `import.meta.url`: that of the binary is made here.
    env: { FANFARE_BIN: process.env.FANFARE_BIN ?? at('../../../../target/debug/fanfare') },
    restoreMocks: true,
    unstubGlobals: true,
  },
})

export default defineConfig({
  test: {
    projects: [
      project('react-19', [...client, ...react('../..')]),
      project('react-18', [...client, ...react('../../peers/react-18')]),
    ],
  },
})
