// @fanfare/client/outbox: not there yet.

export {}
