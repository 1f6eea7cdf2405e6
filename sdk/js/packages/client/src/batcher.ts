// @fanfare/client/batcher: not there yet.

export {}
