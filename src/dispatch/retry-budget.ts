/** How long a request is tried while the schema moves under it. Pure. */

/** What a request has been through. */
export interface RetryBudget {
  /** When it came: who has waited longest is built for first. */
  readonly sinceMs: number;
  /** It ran, and nothing of it stands. */
  attempts: number;
  /** An instance was built for it in vain; it has not run at all. */
  overtakenBuilds: number;
  /** Its thread was lost. */
  lost: number;
  /** It was given to a cell that never came to it. */
  moved: number;
}

/** What is left of a request's time is for the last answer, which may be a run as well. */
const maxReservedMs = 5_000;

/** For how long a request of that time may wait for its schema to settle: refused in time, rather than ended at its deadline. */
export function patienceOf(requestTimeoutMs: number): number {
  return requestTimeoutMs - Math.min(maxReservedMs, requestTimeoutMs / 4);
}

/**
 * Whether a request is given up. It is not counted how often it was tried: of a tenant that changes at random, as often as a build
 * takes, 63 % of all builds are overtaken, and no number of them would do for every request.
 */
export function isExhausted({ sinceMs }: RetryBudget, nowMs: number, patienceMs: number): boolean {
  return nowMs - sinceMs >= patienceMs;
}

/** Whoever changes a schema for longer than this is not waited for more often than so. */
const longestPauseMs = 500;

/**
 * How long to wait before the next try: at random, so that requests which one change has stopped do not come back as one.
 * `random` is from 0 to 1. Longer each time: whoever is changing the schema may not be done.
 */
export function pauseBefore(
  { attempts: runs, overtakenBuilds: builds }: RetryBudget,
  random: number,
): number {
  return random * Math.min(longestPauseMs, 20 * (runs + builds));
}
