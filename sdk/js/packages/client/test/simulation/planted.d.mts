export interface Slip {
  file: string
  from: string
  to: string
  test?: string
}

export const SLIPS: Record<string, Slip>
export function planted(slip: Slip): string
