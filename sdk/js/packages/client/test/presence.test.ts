// Who is present, as subscriptions to one channel come and go on one connection.

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Client } from '../src/index.js'
import { createFakeServer, type FakeServer } from '../src/testing.js'

let server: FakeServer
let clients: Client[]

beforeEach(() => {
  vi.useFakeTimers()
  server = createFakeServer()
  clients = []
})

afterEach(() => {
  for (const client of clients) client.close()
  server.close()
  vi.useRealTimers()
})

const later = (ms: number) => vi.advanceTimersByTimeAsync(ms)

async function enter(user: string) {
  const client = server.client({ token: user })
  clients.push(client)
  const entry = client.channel('chat:x').enter()
  await later(1)
  return entry
}

test('a list of an earlier subscription is not gone on with', async () => {
  const ada = server.client({ token: 'ada' })
  clients.push(ada)
  const told: string[] = []
  const presence = ({ members }: { members: readonly { user?: string }[] | null }) =>
    told.push((members ?? []).map(member => member.user).join(' '))
  ada.on('error', () => {})

  const bob = await enter('bob')
  const first = ada.channel('chat:x').subscribe({ presence })
  await later(1)
  expect(told).toEqual(['bob'])
  first.unsubscribe()
  await later(2_000)
  bob.leave()
  await later(1)

  server.refuse('presence', { code: 'denied' }, 1)
  ada.channel('chat:x').subscribe({ presence })
  await later(1)
  await enter('carol')
  expect(told).toEqual(['bob'])
})
