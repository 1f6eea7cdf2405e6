// `npm run simulate -- --seeds 5000 --from 1`, or `--seed 7` for one run with everything that happens in it.

import { simulate } from './world.js'

const argument = (name: string) => {
  const at = process.argv.indexOf(`--${name}`)
  return at < 0 ? undefined : Number(process.argv[at + 1])
}
const one = argument('seed')
const from = one ?? argument('from') ?? 1
const seeds = one === undefined ? (argument('seeds') ?? 1_000) : 1
const max = argument('failures') ?? 3
const counters: Record<string, number> = {}
const bad: number[] = []
let events = 0
for (let seed = from; seed < from + seeds && bad.length < max; seed++) {
  const outcome = await simulate(seed, one !== undefined)
  events += outcome.events
  for (const [name, n] of Object.entries(outcome.counters)) counters[name] = (counters[name] ?? 0) + n
  if (one !== undefined) console.log(outcome.log.join('\n'))
  if (!outcome.failures.length) continue
  bad.push(seed)
  console.log(`seed ${seed}: ${outcome.failures.join('\n  ')}`)
}
if (process.argv.includes('--counters')) {
  for (const name of Object.keys(counters).sort()) console.log(`${String(counters[name]).padStart(9)} ${name}`)
}
console.log(`${seeds} seeds, ${events} events, ${bad.length} failed`)
process.exitCode = bad.length ? 1 : 0
