// @fanfare/client/testing: not there yet.

export {}
