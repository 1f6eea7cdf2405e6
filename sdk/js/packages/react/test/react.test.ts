// The set-up of these tests: each project has the React that its name says, and one copy of it.

import { version } from 'react'
import { version as ofDom } from 'react-dom'
import { expect, test } from 'vitest'

test('React and react-dom are one version, the one that the project is named for', ({ task }) => {
  expect(version).toBe(ofDom)
  expect(task.file.projectName).toBe(`react-${version.split('.')[0]}`)
})
