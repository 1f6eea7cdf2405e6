// The size that an application pays for @fanfare/client: bundled and minified by esbuild, gzipped, and its limit.
//
// Run in packages/client after the build. The first row has a limit, and a larger one fails. The others are for
// information.

import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const ROWS = [
  { name: 'core', code: `import { createClient } from '@fanfare/client'; console.log(createClient)`, max: 15 * 1024 },
  { name: 'sse', code: `import { SSEClient } from '@fanfare/client/sse'; console.log(SSEClient)` },
  { name: 'batcher', code: `import { MessageBatcher } from '@fanfare/client/batcher'; console.log(MessageBatcher)` },
]

let tooLarge = false
for (const { name, code, max } of ROWS) {
  const result = await build({
    stdin: { contents: code, resolveDir: process.cwd() },
    bundle: true,
    minify: true,
    write: false,
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
  console.error('@fanfare/client has become too large')
  process.exit(1)
}
