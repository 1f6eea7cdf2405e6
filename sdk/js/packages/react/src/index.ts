/**
 * `@fanfare/react`: hooks over `@fanfare/client`, for React 18 and 19.
 *
 * {@link FanfareProvider} and {@link createHooks} are the way in; the hooks that stand here have no types of an
 * application. Docs: docs/react.md.
 */
'use client'

import type { AppTypes } from '@fanfare/client'
import { useChannel as channel } from './channel.js'
import { useConnection as connection } from './connection.js'
import { type Hooks, useFanfare as fanfare } from './create-hooks.js'
import { useEnter as enter } from './enter.js'
import { useLatest as latest } from './latest.js'
import { useMessages as messages } from './messages.js'
import { usePending as pending, usePublish as publish } from './pending.js'
import { usePresence as presence } from './presence.js'
import { useReduced as reduced } from './reduced.js'
import { useSignal as signal } from './signals.js'

export { FanfareProvider } from './context.js'
export type { FanfareProviderProps } from './context.js'
export { createHooks } from './create-hooks.js'
export type { Hooks } from './create-hooks.js'
export { shallowEqual } from './equal.js'
export type { Schedule } from './frame.js'
export type * from './types.js'

// Each by itself, so that a bundler takes those that are used.
type Untyped = Hooks<AppTypes>
export const useFanfare = fanfare as unknown as Untyped['useFanfare']
export const useChannel = channel as unknown as Untyped['useChannel']
export const useMessages = messages as unknown as Untyped['useMessages']
export const useLatest = latest as unknown as Untyped['useLatest']
export const useReduced = reduced as unknown as Untyped['useReduced']
export const usePresence = presence as unknown as Untyped['usePresence']
export const useEnter = enter as unknown as Untyped['useEnter']
export const useSignal = signal as unknown as Untyped['useSignal']
export const usePublish = publish as unknown as Untyped['usePublish']
export const usePending = pending as unknown as Untyped['usePending']
export const useConnection = connection as unknown as Untyped['useConnection']

export { useWebSocket } from './useWebSocket.js'
export type { ConnectionStatus, UseWebSocketOptions, UseWebSocketResult, WebSocketConstructor } from './useWebSocket.js'
