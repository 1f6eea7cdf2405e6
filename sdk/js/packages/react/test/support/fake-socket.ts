/**
 * A WebSocket that a test opens, feeds and closes by hand. All that were made are in `FakeSocket.all`.
 */

export class FakeSocket {
  static all: FakeSocket[] = []

  static get last(): FakeSocket {
    const last = FakeSocket.all.at(-1)
    if (!last) throw new Error('no socket was opened')
    return last
  }

  readyState = 0
  bufferedAmount = 0
  readonly sent: unknown[] = []
  onopen: ((event: never) => void) | null = null
  onmessage: ((event: { data: unknown }) => void) | null = null
  onclose: ((event: { code?: number; reason?: string }) => void) | null = null
  onerror: ((event: never) => void) | null = null

  constructor(readonly url: string) {
    if (!url.startsWith('ws')) throw new SyntaxError(`${url} is no address`)
    FakeSocket.all.push(this)
  }

  send(text: string): void {
    if (this.readyState !== 1) throw new Error('not open')
    this.sent.push(JSON.parse(text))
  }

  /** By our side. The event comes later, as a browser's does. */
  close(): void {
    if (this.readyState >= 2) return
    this.readyState = 2
    setTimeout(() => this.drop())
  }

  open(): void {
    this.readyState = 1
    this.onopen?.(new Event('open') as never)
  }

  message(data: unknown): void {
    this.text(JSON.stringify(data))
  }

  text(data: string): void {
    this.onmessage?.({ data })
  }

  /** By the other side, or by the network. */
  drop(): void {
    if (this.readyState === 3) return
    this.readyState = 3
    this.onclose?.({ code: 1006 })
  }

  fail(): void {
    this.onerror?.(new Event('error') as never)
    this.drop()
  }
}
