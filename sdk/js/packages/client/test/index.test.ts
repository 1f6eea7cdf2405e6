// The public face of @fanfare/client, from its source.

import { expect, test } from 'vitest'
import * as client from '../src/index.js'

test('the entry point exports createClient', () => {
  expect(client.createClient).toBeTypeOf('function')
})
