// @fanfare/client/sse: not there yet.

export {}
