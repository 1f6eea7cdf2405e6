module fanfare-client-test

go 1.19
