// Pages with the TypeScript SDK in them, as an application's own server gives them out.
//
// The SDK comes from its sources in sdk/js, which esbuild bundles without a build of the packages. Out: `bundleSdk()`,
// a script; `serveApp` of react-page.mjs serves it from an origin of its own.

import { build } from 'esbuild'
import { fileURLToPath } from 'node:url'

const at = path => fileURLToPath(new URL(path, import.meta.url))
const SDK = at('../../../sdk/js/packages')

/**
 * `entry`: a file of this folder, or `{ contents }` of a module. `mode`: that of React; a strict tree mounts twice in
 * `development`. `more`: other options of esbuild.
 */
export async function bundleSdk(entry = 'sdk-entry.mjs', { mode = 'production', ...more } = {}) {
  const source = typeof entry === 'string'
    ? { entryPoints: [at(entry)] }
    : { stdin: { loader: 'tsx', resolveDir: at('..'), sourcefile: 'entry.tsx', ...entry } }
  const result = await build({
    ...source,
    bundle: true,
    write: false,
    format: 'iife',
    target: 'es2022',
    jsx: 'automatic',
    alias: {
      '@fanfare/client/batcher': `${SDK}/client/src/batcher.ts`,
      '@fanfare/client/sse': `${SDK}/client/src/sse.ts`,
      '@fanfare/client': `${SDK}/client/src/index.ts`,
      '@fanfare/react': `${SDK}/react/src/index.ts`,
      // The page's, also for files of the SDK: its own packages need not be installed, and two Reacts would not work.
      'react': at('../node_modules/react'),
      'react-dom': at('../node_modules/react-dom'),
    },
    define: { 'process.env.NODE_ENV': JSON.stringify(mode) },
    logLevel: 'warning',
    ...more,
  })
  return result.outputFiles[0].text
}
