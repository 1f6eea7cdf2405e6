/**
 * The last resort for what nobody handles: the console, where there is one.
 */

/** Tells a person. Never throws. */
export function complain(text: string, cause?: unknown): void {
  const { console } = globalThis as { console?: { error(...parts: unknown[]): void } }
  console?.error(`fanfare: ${text}`, ...(cause === undefined ? [] : [cause]))
}

/** A promise that nobody has to look at: a rejection of it is handled. */
export function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}

/** Runs the application's code: what it throws, and what its promise is rejected with, goes to `failed`. */
export function guarded<T>(run: (value: T) => unknown, failed: (thrown: unknown) => void, value?: T): void {
  try {
    const result = run(value as T) as
      { then?: (done: undefined, failed: (thrown: unknown) => void) => unknown } | undefined
    if (typeof result?.then === 'function') result.then(undefined, failed)
  } catch (thrown) {
    failed(thrown)
  }
}
