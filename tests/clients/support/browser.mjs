// Chromium, by playwright-core. In: CHROMIUM (default /usr/bin/chromium). Out: `launchBrowser()`, and `Watched` pages
// that collect the messages of a user's console, so that a test can demand that there are none.

import { chromium } from 'playwright-core'

export function launchBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Playwright gives it its own user-data-dir, removed afterwards. The other flags keep it from contacting other
    // hosts.
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  })
}

/** Complaints of a page that are not about a server that is deliberately away. */
export function watch(page) {
  const complaints = []
  page.on('pageerror', error => complaints.push(`exception: ${error}`))
  page.on('console', message => {
    if (message.type() !== 'error' && message.type() !== 'warning') return
    if (/^WebSocket connection to .* failed/.test(message.text())) return
    const { url } = message.location()
    // The browser fetches the icon at any time. Where a test ends the server meanwhile, the connection is refused,
    // reset, or closed without an answer. So are the requests of the SDK's other transports, which it tries where a
    // WebSocket fails. A status of the server (404) is still a complaint.
    if (/\/(icon\.svg|v1\/(sse|stream|poll|send))$/.test(url) && /net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED|ABORTED)|EMPTY_RESPONSE)$/.test(message.text())) return
    complaints.push(`${message.type()}: ${message.text()} (${url})`)
  })
  return complaints
}

/**
 * A tab that the browser may freeze. Those of Playwright count as focused whatever happens, and Chromium does not freeze
 * such a tab. In: the browser and an address. Out: `evaluate` and `waitForFunction` as a page has them, `freeze()` and
 * `thaw()`, and `complaints` as of `watch`.
 */
export async function openBareTab(browser, url) {
  const devtools = await browser.newBrowserCDPSession()
  const { targetId } = await devtools.send('Target.createTarget', { url: 'about:blank', newWindow: true })
  const { sessionId } = await devtools.send('Target.attachToTarget', { targetId, flatten: false })
  const complaints = []
  const waiting = new Map()
  const loaded = new Promise(done => waiting.set('Page.loadEventFired', done))
  devtools.on('Target.receivedMessageFromTarget', ({ message: text }) => {
    const { id, method, params, result, error } = JSON.parse(text)
    if (method === 'Runtime.exceptionThrown') complaints.push(`exception: ${params.exceptionDetails.text}`)
    waiting.get(id ?? method)?.(error ? { exceptionDetails: error } : result)
    waiting.delete(id ?? method)
  })
  let last = 0
  const send = (method, params = {}) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, resolve)
      devtools.send('Target.sendMessageToTarget', { sessionId, message: JSON.stringify({ id: last, method, params }) }).catch(reject)
    })
  const evaluate = async (run, arg) => {
    const expression = `(${run})(${JSON.stringify(arg)})`
    const { result, exceptionDetails } = await send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })
    if (exceptionDetails) throw new Error(`${exceptionDetails.exception?.description ?? exceptionDetails.message}`)
    return result.value
  }
  await send('Runtime.enable')
  await send('Page.enable')
  await send('Page.navigate', { url })
  await loaded
  return {
    complaints,
    evaluate,
    waitForFunction: (run, arg) =>
      evaluate(`arg => new Promise(done => { const look = () => (${run})(arg) ? done() : setTimeout(look, 20); look() })`, arg),
    async freeze() {
      await evaluate(() => {
        window.lifecycle = []
        for (const type of ['freeze', 'resume']) document.addEventListener(type, () => lifecycle.push(type))
      })
      await send('Page.setWebLifecycleState', { state: 'frozen' })
      await evaluate(() => {
        if (lifecycle.join() !== 'freeze') throw new Error(`the tab is not frozen: ${lifecycle}`)
      })
    },
    async thaw() {
      await send('Page.setWebLifecycleState', { state: 'active' })
    },
    async close() {
      await devtools.send('Target.closeTarget', { targetId })
      await devtools.detach()
    },
  }
}
