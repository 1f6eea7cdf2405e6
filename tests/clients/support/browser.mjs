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
    // reset, or closed without an answer. A status of the server (404) is still a complaint.
    if (url.endsWith('/icon.svg') && /net::ERR_(CONNECTION_(REFUSED|RESET|CLOSED|ABORTED)|EMPTY_RESPONSE)$/.test(message.text())) return
    complaints.push(`${message.type()}: ${message.text()} (${url})`)
  })
  return complaints
}
