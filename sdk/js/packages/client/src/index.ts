// The public face of @fanfare/client. (Nothing but the placeholder of its first function yet.)

/** Not there yet. */
export function createClient(): never {
  throw new Error('@fanfare/client has no client yet')
}
