// docs/errors.md has an entry for every code that a user can meet, and none for a code that is no more.
//
// Codes come from the generated tables of docs/protocol.md and from the sources. A code in the sources is a literal: as
// the first argument of `FanfareError`, as a `code:`, in `ClientCode`, as a kind of `WireEnd`, as a gap's reason, or as
// an `SSEReason`.

import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const read = (path: string) => readFileSync(new URL(path, import.meta.url), 'utf8')
const page = read('../docs/errors.md')
const entries = [...page.matchAll(/^### `([^`]+)`$/gm)].map(([, code]) => code as string)

/** What stands in quotes in a part of a source. */
const quoted = (text: string) => [...text.matchAll(/'([a-z][a-z_-]+)'/g)].map(([, word]) => word as string)
const between = (text: string, from: string, to: RegExp) => text.slice(text.indexOf(from)).split(to)[0] ?? ''

const ofProtocol = ['errors', 'disconnects'].flatMap(name => {
  const table = between(read('../../../../../docs/protocol.md'), `<!-- generated: ${name} -->`, /<!-- \/generated/)
  return [...table.matchAll(/^\| (?:\d+ \| )?`([a-z_]+)`/gm)].map(([, code]) => code as string)
})

const sources = readdirSync(new URL('../src', import.meta.url), { recursive: true, encoding: 'utf8' })
  .filter(name => name.endsWith('.ts') && !name.startsWith('testing'))
  .map(name => read(`../src/${name}`))
const ofSources = [
  ...sources.flatMap(text =>
    [...text.matchAll(/(?:FanfareError\(\s*|\bcode: |\bfail\()'([a-z_]+)'/g)].map(([, code]) => code as string),
  ),
  ...quoted(between(read('../src/errors.ts'), 'export type ClientCode', /\n\n/)),
  ...quoted(between(read('../src/types.ts'), 'export interface Gap', /\n}/)),
].filter(code => !['string', 'number'].includes(code)) // types of fields in wire.ts
const ofStreams = quoted(between(read('../src/sse-types.ts'), 'export type SSEReason', /\n\n/))

describe('docs/errors.md', () => {
  test('has each entry once', () => expect(entries).toEqual([...new Set(entries)]))

  test.each([
    ['docs/protocol.md', ofProtocol, 35],
    ['the sources', ofSources, 20],
    ['SSEClient', ofStreams, 10],
  ])('has an entry for each code of %s', (_, codes, least) => {
    expect(new Set(codes).size).toBeGreaterThanOrEqual(least)
    expect([...new Set(codes)].filter(code => !entries.includes(code))).toEqual([])
  })

  test('has no entry for a code that does not exist', () => {
    const known = new Set([...ofProtocol, ...ofSources, ...ofStreams, 'lost', 'refused', 'requested'])
    expect(entries.filter(code => !known.has(code))).toEqual([])
  })

  test('says in each entry what happened and what to do', () => {
    for (const entry of page.split(/^### /m).slice(1)) {
      expect(entry).toMatch(/\*\*What happened\.\*\* /)
      expect(entry).toMatch(/\*\*What to do\.\*\* /)
    }
  })

  test('is shipped', () => {
    expect((JSON.parse(read('../package.json')) as { files: string[] }).files).toContain('docs')
  })
})
