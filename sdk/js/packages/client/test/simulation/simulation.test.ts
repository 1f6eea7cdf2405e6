// The client core against a faulty fake server, in virtual time: 250 seeds. `npm run simulate` runs more.
//
// A seed that fails is run again by `npm run simulate -- --seed N`, which prints everything that happens in it.

import { expect, test } from 'vitest'
import { planted, SLIPS } from './planted.mjs'
import { simulate } from './world.js'

const SEEDS = 250
const AT_A_TIME = 50

/** What the judge cannot have judged if it never happened. */
const REQUIRED = [
  ...['begun', 'recovered', 'unrecovered', 'gap unrecovered', 'gap gap', 'gap overflow', 'resyncs', 'messages read'],
  ...['published', 'resent', 'publish: unknown', 'publish: timed_out', 'publish: outbox_full', 'publish: closed'],
  ...['tokens asked', 'renewed', 'state needs-auth', 'state error', 'loaded from the storage', 'error handler'],
  ...['signals', 'signals to one', 'subscribed by the server', 'messages: gap', 'meddled', 'garbled', 'gap of a page'],
  ...['answers lost', 'answers repeated', 'socket hangs', 'sleep', 'long sleep', 'clock jump', 'hidden', 'drain'],
  ...['cut', 'offline', 'restart', 'forget', 'server gap', 'disconnect 4006', 'disconnect 4503', 'ticket'],
  ...['connectivity lost', 'connectivity restored', 'connectivity failed', 'ready: limit_exceeded', 'rpc: unknown'],
]

const counters: Record<string, number> = {}
const batches = Array.from({ length: SEEDS / AT_A_TIME }, (_, i) => 1 + i * AT_A_TIME)

test.each(batches)('fifty seeds from %i on', async from => {
  for (let seed = from; seed < from + AT_A_TIME; seed++) {
    const outcome = await simulate(seed)
    expect(outcome.failures, `npm run simulate -- --seed ${seed}`).toEqual([])
    for (const [name, n] of Object.entries(outcome.counters)) counters[name] = (counters[name] ?? 0) + n
  }
})

test('everything that is judged has happened', () => {
  expect(REQUIRED.filter(name => !counters[name])).toEqual([])
})

test('a seed gives the same run each time', async () => {
  expect(await simulate(7, true)).toEqual(await simulate(7, true))
})

// `npm run planted` finds each of them by a seed or a test.
test.each(Object.keys(SLIPS))('the slip %s can be planted', name => {
  const slip = SLIPS[name]!
  expect(planted(slip)).not.toBe('')
  expect(slip.to).not.toBe(slip.from)
})
