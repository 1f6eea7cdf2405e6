// Builds pages around a typical React client, fixtures/react-client.tsx.txt.
//
// In the fixture's text only the server's host and port are replaced. Two parts are added: an `export` at the end (the
// fixture uses its component in the same file), and a page with an origin of its own, as an application's would have.

import { build } from 'esbuild'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'

const here = fileURLToPath(new URL('..', import.meta.url))

/**
 * The React of the fixture's module if `steady` is true: `useCallback` returns one function for the component's whole
 * life, which always runs the newest body. react-client.test.mjs explains why it is needed.
 */
const STEADY_REACT = `
export * from 'react'
import { useRef } from 'react'
export function useCallback(body) {
  const newest = useRef(body)
  newest.current = body
  return useRef((...args) => newest.current(...args)).current
}`

/** `entry` is TSX that imports { useWebSocket, ChatComponent } from 'client'. */
export async function bundle(entry, serverHost, { steady = false } = {}) {
  const text = await readFile(new URL('../fixtures/react-client.tsx.txt', import.meta.url), 'utf8')
  const host = 'localhost:8080'
  if (text.split(host).length !== 2) throw new Error(`the fixture must name ${host} once`)
  const client = text.replace(host, serverHost) + '\nexport { ChatComponent };\n'
  const result = await build({
    stdin: { contents: entry, loader: 'tsx', resolveDir: here, sourcefile: 'entry.tsx' },
    bundle: true,
    write: false,
    format: 'iife',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"production"' },
    logLevel: 'silent',
    plugins: [{
      name: 'client',
      setup(context) {
        context.onResolve({ filter: /^react$/, namespace: 'client' }, () => (steady ? { path: 'steady-react', namespace: 'steady' } : undefined))
        context.onLoad({ filter: /.*/, namespace: 'steady' }, () => ({ contents: STEADY_REACT, loader: 'js', resolveDir: here }))
        context.onResolve({ filter: /^client$/ }, () => ({ path: 'client', namespace: 'client' }))
        context.onLoad({ filter: /.*/, namespace: 'client' }, () => ({ contents: client, loader: 'tsx', resolveDir: here }))
      },
    }],
  })
  return result.outputFiles[0].text
}

/** An application's own web server, on another port than Fanfare's. `body`: the HTML before the script. */
export async function serveApp(script, body = '<div id="root"></div>') {
  const server = createServer((request, response) => {
    const isScript = request.url === '/app.js'
    response.writeHead(request.url === '/favicon.ico' ? 204 : 200, { 'Content-Type': isScript ? 'text/javascript; charset=utf-8' : 'text/html; charset=utf-8' })
    response.end(isScript ? script : request.url === '/favicon.ico' ? '' : `<!doctype html><title>app</title>${body}<script src="/app.js"></script>`)
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
