// An nginx in front of a server, as many pages have one. Without lines that pass `Upgrade` on, it blocks WebSockets.
//
// In: the port of a server. Out: an address for clients; `allow()` reloads it with those lines.

import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const config = (folder, port, server, upgrade) => `
daemon off;
worker_processes 1;
pid ${folder}/pid;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path ${folder};
    proxy_temp_path ${folder};
    fastcgi_temp_path ${folder};
    uwsgi_temp_path ${folder};
    scgi_temp_path ${folder};
    server {
        listen 127.0.0.1:${port};
        location / {
            proxy_pass http://127.0.0.1:${server};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            ${upgrade ? 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";' : ''}
        }
    }
}
`

/** Resolves once something listens there. */
async function listening(port, child) {
  while (child.exitCode === null) {
    const socket = net.connect(port, '127.0.0.1')
    const open = await new Promise(done => socket.once('connect', () => done(true)).once('error', () => done(false)))
    socket.destroy()
    if (open) return
  }
  throw new Error(`nginx ended (${child.exitCode})`)
}

export async function startNginx(server) {
  const folder = await mkdtemp(join(tmpdir(), 'fanfare-nginx-'))
  const file = join(folder, 'nginx.conf')
  const port = 12_000 + Math.floor(Math.random() * 8_000)
  await writeFile(file, config(folder, port, server, false))
  const child = spawn('nginx', ['-e', 'stderr', '-p', folder, '-c', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', chunk => (said += chunk))
  process.once('exit', () => child.kill('SIGTERM'))
  const exited = new Promise(done => child.once('exit', done))
  await listening(port, child).catch(error => {
    throw new Error(`${error.message}: ${said}`)
  })
  return {
    url: `http://127.0.0.1:${port}`,
    async allow() {
      await writeFile(file, config(folder, port, server, true))
      child.kill('SIGHUP')
    },
    async stop() {
      child.kill('SIGTERM')
      await exited
      await rm(folder, { recursive: true, force: true })
    },
  }
}
