// Builds the package in the current folder: src/ → dist/esm and dist/cjs, each with types; and the licences.
//
// One output file for each source file, so that a bundler takes only what is used, and a class is the same one through
// every sub-path of the package. `package.json` in each folder says which kind of module it holds: file names and
// imports then are the same in both, and so are the types. At the end each file that package.json promises must exist.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { build } from 'esbuild'

const KINDS = { esm: 'module', cjs: 'commonjs' }

const manifest = JSON.parse(readFileSync('package.json', 'utf8'))
const sources = readdirSync('src', { recursive: true }).filter(name => /\.tsx?$/.test(name) && !name.endsWith('.d.ts'))

rmSync('dist', { recursive: true, force: true })
for (const [format, type] of Object.entries(KINDS)) {
  const outdir = join('dist', format)
  await build({
    entryPoints: sources.map(name => join('src', name)),
    outbase: 'src',
    outdir,
    format,
    target: 'es2022',
    jsx: 'automatic',
    logLevel: 'warning',
  })
  writeFileSync(join(outdir, 'package.json'), JSON.stringify({ type, sideEffects: false }) + '\n')
}

const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
// Without `paths`: the types of a sibling package are those it ships.
const options = ['--noEmit', 'false', '--emitDeclarationOnly', '--declaration', '--rootDir', 'src', '--paths', 'null']
execFileSync(process.execPath, [tsc, '--project', '.', ...options, '--outDir', 'dist/esm'], { stdio: 'inherit' })
for (const name of ['LICENSE-MIT', 'LICENSE-APACHE']) cpSync(join('../../../..', name), join('dist', name))
cpSync('dist/esm', 'dist/cjs', { recursive: true, filter: path => !/\.js(on)?$/.test(path) })

const { main, module, types, exports } = manifest
const promised = JSON.stringify([main, module, types, exports]).match(/\.\/dist\/[^"]+/g)
const missing = [...new Set(promised)].filter(path => !existsSync(path))
if (missing.length > 0) throw new Error(`package.json names files that were not built: ${missing.join(', ')}`)
