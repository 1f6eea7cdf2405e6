// Tests of @fanfare/client, in Node. Type tests (*.test-d.ts) are files that `npm run check` compiles.

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    // A leaked stub or fake clock would change the next test.
    restoreMocks: true,
    unstubGlobals: true,
  },
})
