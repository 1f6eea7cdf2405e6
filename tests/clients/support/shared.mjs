// What all tests of a file share: one server, and one browser where they need it.
//
// In: `share(options, what)` at the top of the file. Out: `server` (as of server.mjs) and `browser` (as of
// browser.mjs), which are there while tests run. Both are ended behind the last test, also where a start has failed.
// Node runs each file of tests in a process of its own.

import { after, before } from 'node:test'
import { launchBrowser } from './browser.mjs'
import { startServer } from './server.mjs'

export let server
export let browser

/** `args`: those of `startServer`; `withBrowser`: true for a browser too. */
export function share(options, { args = [], withBrowser = false } = {}) {
  before(async () => {
    server = await startServer(...args)
    if (withBrowser) browser = await launchBrowser()
  }, options)
  after(async () => {
    await browser?.close()
    await server?.stop()
  }, options)
}
