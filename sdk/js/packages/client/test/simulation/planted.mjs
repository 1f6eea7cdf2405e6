// Slips that a reviewer could miss, planted into a copy of the sources: does a seed, or a test, find each of them?
//
// `npm run planted` plants all, `npm run planted -- NAME…` some. A slip is a text that stands once in a file, and
// another one in its place; a test of the suite sees to it that the texts still stand there. `test` names the file of
// tests that finds a slip which the simulation cannot see, such as a bound that it never reaches.

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const HERE = fileURLToPath(new URL('../..', import.meta.url))
const SEEDS = 400

/** @type {Record<string, { file: string, from: string, to: string, test?: string }>} */
export const SLIPS = JSON.parse(readFileSync(new URL('planted.json', import.meta.url), 'utf8'))

/** The source with the slip in it. */
export function planted({ file, from, to }) {
  const source = readFileSync(join(HERE, 'src', file), 'utf8')
  const found = source.split(from).length - 1
  if (found !== 1) throw new Error(`the text stands ${found} times in src/${file}:\n${from}`)
  return source.replace(from, () => to)
}

/** The seed, or the test, that finds it. */
function find(slip) {
  const folder = mkdtempSync(join(tmpdir(), 'planted-'))
  try {
    for (const name of ['src', 'test', 'package.json', 'vitest.config.ts'])
      cpSync(join(HERE, name), join(folder, name), { recursive: true })
    symlinkSync(join(HERE, '../../node_modules'), join(folder, 'node_modules'))
    writeFileSync(join(folder, 'src', slip.file), planted(slip))
    const run = (command, args) => spawnSync(join(HERE, '../../node_modules/.bin', command), args, { cwd: folder })
    if (slip.test !== undefined) {
      const { status, stderr } = run('vitest', ['run', `test/${slip.test}`])
      const name = /FAIL\s+(.*)/.exec(String(stderr).replace(/\x1b\[[0-9;]*m/g, ''))?.[1]
      return status === 0 ? undefined : (name ?? `test/${slip.test} fails`)
    }
    const bundle = join(folder, 'simulation.mjs')
    const main = join(folder, 'test/simulation/main.ts')
    const how = ['--bundle', '--platform=node', '--format=esm', '--log-level=error', `--outfile=${bundle}`]
    execFileSync(join(HERE, '../../node_modules/.bin/esbuild'), [main, ...how])
    const { status, stdout } = spawnSync(process.execPath, [bundle, '--seeds', `${SEEDS}`, '--failures', '1'])
    return status === 0 ? undefined : String(stdout).split('\n')[0]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

if (process.argv[1] && dirname(process.argv[1]) === dirname(fileURLToPath(import.meta.url))) {
  const asked = process.argv.slice(2)
  const names = asked.length ? asked : Object.keys(SLIPS)
  const unseen = names.filter(name => {
    const found = find(SLIPS[name])
    console.log(`${name}: ${found ?? 'NOT FOUND'}`)
    return found === undefined
  })
  console.log(`${names.length - unseen.length} of ${names.length} slips are found`)
  process.exitCode = unseen.length ? 1 : 0
}
