// One channel's subscription on the server: positions, fed with messages by hand.

import { expect, test } from 'vitest'
import { Calls } from '../src/calls.js'
import { Remote, type RemoteHost } from '../src/remote.js'
import { defaultEnv } from '../src/env.js'

function live() {
  const told: unknown[] = []
  const env = defaultEnv()
  const host: RemoteHost = {
    env,
    name: 'c',
    calls: new Calls(env, () => {}),
    overtakes: () => false,
    mayLeave: () => false,
    isWanted: () => true,
    options: () => ({}),
    reconnect: reason => told.push(reason),
    pump: () => {},
    report: error => told.push(error.code),
    live: (page, { offset }, before) => told.push(['live', page.length, offset, before?.offset]),
    publication: ({ offset }, position) => told.push([position.epoch, offset, remote.position?.offset]),
    gap: ({ position }) => told.push(['gap', position.epoch, position.offset]),
    other: () => {},
    ended: error => told.push(error.code),
  }
  const remote = new Remote(host)
  remote.bare()
  remote.push({ type: 'subscribed', channel: 'c', epoch: 'a', offset: 7, publications: [] })
  told.length = 0
  const message = (offset: number, epoch?: string) =>
    remote.push({ type: 'message', channel: 'c', offset, data: 1, ts: 1, ...(epoch !== undefined && { epoch }) })
  return { remote, told, message }
}

test('the position is at each message when it is handed over; what is not newer is skipped', () => {
  const { told, message } = live()
  for (const offset of [7, 8, 8, 12, 11, 13]) message(offset)
  expect(told).toEqual([
    ['a', 8, 8],
    ['a', 12, 12],
    ['a', 13, 13],
  ])
})

test('a message that begins another epoch is taken, whatever its offset; the next ones are of that epoch', () => {
  const { remote, told, message } = live()
  message(8)
  message(1, 'b')
  message(2)
  message(2)
  expect(told).toEqual([
    ['a', 8, 8],
    ['b', 1, 1],
    ['b', 2, 2],
  ])
  expect(remote.position).toEqual({ epoch: 'b', offset: 2 })
})

test('a gap moves the position; one behind it says nothing', () => {
  const { remote, told } = live()
  const gap = (epoch: string, offset: number) => remote.push({ type: 'gap', channel: 'c', epoch, offset })
  gap('a', 5)
  gap('a', 9)
  gap('b', 3)
  expect(told).toEqual([
    ['gap', 'a', 9],
    ['gap', 'b', 3],
  ])
  expect(remote.position).toEqual({ epoch: 'b', offset: 3 })
})
