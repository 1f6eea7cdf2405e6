// The size that an application pays for the package in the current folder: bundled and minified by esbuild, gzipped.
//
// Run after the build. A row with a limit fails beyond it; the others are for information. React and @fanfare/client
// are not part of @fanfare/react's sizes.

import { readFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const ALL_ROWS = {
  '@fanfare/client': [
    { name: 'core', code: `import { createClient } from '@fanfare/client'; console.log(createClient)`, max: 18 * 1024 },
    { name: 'sse', code: `import { SSEClient } from '@fanfare/client/sse'; console.log(SSEClient)` },
    { name: 'batcher', code: `import { MessageBatcher } from '@fanfare/client/batcher'; console.log(MessageBatcher)` },
  ],
  '@fanfare/react': [
    { name: 'hooks', code: `import { createHooks } from '@fanfare/react'; console.log(createHooks())`, max: 6 * 1024 },
    { name: 'useWebSocket', code: `import { useWebSocket } from '@fanfare/react'; console.log(useWebSocket)` },
  ],
}
const { name: PACKAGE, peerDependencies = {} } = JSON.parse(readFileSync('package.json', 'utf8'))
const ROWS = ALL_ROWS[PACKAGE]

let tooLarge = false
for (const { name, code, max } of ROWS) {
  const result = await build({
    stdin: { contents: code, resolveDir: process.cwd() },
    bundle: true,
    minify: true,
    write: false,
    external: Object.keys(peerDependencies),
    format: 'esm',
    target: 'es2022',
    logLevel: 'error',
  })
  const minified = result.outputFiles[0].contents
  const gzipped = gzipSync(minified, { level: 9 }).length
  tooLarge ||= gzipped > max
  const limit = max === undefined ? '' : `, at most ${max}`
  console.log(`${name}: ${gzipped} bytes gzipped (${minified.length} minified)${limit}`)
}
if (tooLarge) {
  console.error(PACKAGE + ' has become too large')
  process.exit(1)
}
