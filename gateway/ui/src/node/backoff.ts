// How long to wait before the next attempt. Pure: chance comes in.

const FIRST_MS = 1_000;
const LONGEST_MS = 30_000;

/** Doubles from one second to thirty; `chance` from 0 to 1 takes up to half of it away, so that many phones do not come at once. */
export function backoff(attempt: number, chance: number): number {
  const whole = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(whole * (1 - chance / 2));
}
