// Builds pages around the mission's React client.
//
// The document's text stands unchanged in fixtures/mission-client.tsx.txt. Only the server's host and port are
// replaced, and two parts are added: an `export` at the end (the document uses its component in the same file), and a
// page with an origin of its own, as an application's would have.

import { build } from 'esbuild'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('..', import.meta.url))

/**
 * The React that the document's module gets when `steady` is asked for: `useCallback` answers with one function for the
 * component's whole life, which always runs the newest body. See mission-client.test.mjs for why there must be such a thing.
 */
const STEADY_REACT = `
export * from 'react'
import { useRef } from 'react'
export function useCallback(body) {
  const newest = useRef(body)
  newest.current = body
  return useRef((...args) => newest.current(...args)).current
}`

/** `entry` is TSX that imports { useWebSocket, ChatComponent } from 'mission'. */
export async function bundle(entry, serverHost, { steady = false } = {}) {
  const text = await readFile(new URL('../fixtures/mission-client.tsx.txt', import.meta.url), 'utf8')
  const host = 'localhost:8080'
  if (text.split(host).length !== 2) throw new Error(`the document names ${host} once`)
  const mission = text.replace(host, serverHost) + '\nexport { ChatComponent };\n'
  const result = await build({
    stdin: { contents: entry, loader: 'tsx', resolveDir: here, sourcefile: 'entry.tsx' },
    bundle: true,
    write: false,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'silent',
    plugins: [{
      name: 'mission',
      setup(context) {
        context.onResolve({ filter: /^react$/, namespace: 'mission' }, () => (steady ? { path: 'steady-react', namespace: 'steady' } : undefined))
        context.onLoad({ filter: /.*/, namespace: 'steady' }, () => ({ contents: STEADY_REACT, loader: 'js', resolveDir: here }))
        context.onResolve({ filter: /^mission$/ }, () => ({ path: 'mission', namespace: 'mission' }))
        context.onLoad({ filter: /.*/, namespace: 'mission' }, () => ({ contents: mission, loader: 'tsx', resolveDir: here }))
      },
    }],
  })
  return result.outputFiles[0].text
}

/** An application's own web server, on another port than Fanfare's. */
export async function serveApp(script) {
  const server = createServer((request, response) => {
    const isScript = request.url === '/app.js'
    response.writeHead(request.url === '/favicon.ico' ? 204 : 200, { 'Content-Type': isScript ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8' })
    response.end(isScript ? script : request.url === '/favicon.ico' ? '' : '<!doctype html><title>app</title><div id="root"></div><script src="/app.js"></script>')
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address()
  return {
    port,
    close() {
      server.closeAllConnections()
      return new Promise(resolve => server.close(resolve))
    },
  }
}
