// Imports and requires each sub-path of the built package in the current folder: both ways give the same names.
//
// In processes of their own without a bundler, as plain Node does it. Types are publint's and are-the-types-wrong's
// affair.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

const { name, exports } = JSON.parse(readFileSync('package.json', 'utf8'))
const node = (kind, code) => execFileSync(process.execPath, ['--input-type', kind, '-e', code], { encoding: 'utf8' })

const entries = Object.keys(exports).filter(path => path !== './package.json').map(path => name + path.slice(1))
const list = JSON.stringify(entries)
const print = 'console.log(list.map((name, i) => name + ": " + Object.keys(all[i]).sort()).join("\\n"))'
const imported = node(
  'module',
  `const list = ${list}, all = []; for (const name of list) all.push(await import(name)); ${print}`,
)
const required = node('commonjs', `const list = ${list}, all = list.map(name => require(name)); ${print}`)
if (imported !== required) {
  console.error(`import gives\n${imported}\nand require gives\n${required}`)
  process.exit(1)
}
console.log(imported.trimEnd())
