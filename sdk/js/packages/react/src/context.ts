/** The provider: which client the hooks below it use. It opens nothing, and closes nothing. */
'use client'

import type { AppTypes, Client } from '@fanfare/client'
import { createContext, createElement, type ReactNode, useContext, useEffect, useMemo, useState } from 'react'
import { connectionOf } from './connection.js'
import { frame, type Schedule } from './frame.js'
import { Registry } from './store.js'

const Context = createContext<Registry | null>(null)

/** One for each client: roots of one page share their stores. */
const registries = new WeakMap<Client, Registry>()

function registryOf(client: Client, schedule: Schedule | undefined): Registry {
  if (schedule) return new Registry(client, schedule)
  let registry = registries.get(client)
  if (!registry) registries.set(client, (registry = new Registry(client, frame)))
  return registry
}

export interface FanfareProviderProps<App extends AppTypes> {
  /** From `createClient`. Make it once: outside of components, or in `useState(() => createClient(…))`. */
  client: Client<App>
  /** When components learn of changes. Default: once a frame. The first one counts. */
  schedule?: Schedule | undefined
  children?: ReactNode
}

export function FanfareProvider<App extends AppTypes>({ client, schedule, children }: FanfareProviderProps<App>) {
  const [first] = useState(() => schedule)
  const registry = useMemo(() => registryOf(client as unknown as Client, first), [client, first])
  // The loss of a connection is told once: the component that shows the banner may come later.
  useEffect(() => connectionOf(registry).listen(() => {}), [registry])
  return createElement(Context.Provider, { value: registry }, children)
}

/** @internal */
export function useRegistry(): Registry {
  const registry = useContext(Context)
  if (registry) return registry
  throw new Error('there is no <FanfareProvider client={…}> above this component, which its hooks of Fanfare need')
}
