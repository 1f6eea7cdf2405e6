/**
 * The last resort for what nobody handles: the console, where there is one.
 */

/** Tells a person. Never throws. */
export function complain(text: string, cause?: unknown): void {
  const { console } = globalThis as { console?: { error(...parts: unknown[]): void } }
  console?.error(`fanfare: ${text}`, ...(cause === undefined ? [] : [cause]))
}

/** Runs the application's code: what it throws, and what its promise is rejected with, goes to `failed`. */
export function guarded(run: () => unknown, failed: (thrown: unknown) => void): void {
  try {
    const result = run() as { then?: (done: undefined, failed: (thrown: unknown) => void) => unknown } | undefined
    if (typeof result?.then === 'function') result.then(undefined, failed)
  } catch (thrown) {
    failed(thrown)
  }
}
