/** How long a request is retried while its schema changes. Pure. */

/** The history of a request. */
export interface RetryBudget {
  /** When it was dispatched, after its body was read: builds for requests that have waited longest go first. */
  readonly sinceMs: number;
  /** Times that it ran without committing anything. */
  attempts: number;
  /** Times that it got no instance: a change overtook the build, or the build's thread was lost. */
  failedBuilds: number;
  /** Times that its thread or connection was lost. */
  lost: number;
  /** Times that a cell ended or passed it on before starting it, so that it went to another. */
  moved: number;
}

/** Upper bound of the time kept back for the last answer, which may involve a run. */
const maxReservedMs = 5_000;

/**
 * How long a request with that timeout may wait for its schema to settle: an answer in time is better than
 * the deadline.
 */
export function patienceOf(requestTimeoutMs: number): number {
  return requestTimeoutMs - Math.min(maxReservedMs, requestTimeoutMs / 4);
}

/**
 * Whether to give up a request. Tries are not counted: if a tenant changes at random, as often as a build
 * takes, 63 % of all builds are overtaken, and no fixed number of tries would be enough for every request.
 */
export function isExhausted({ sinceMs }: RetryBudget, nowMs: number, patienceMs: number): boolean {
  return nowMs - sinceMs >= patienceMs;
}

/** Maximum pause between tries while a schema keeps changing. */
const longestPauseMs = 500;

/**
 * How long to wait before the next try: random (`random` is from 0 to 1), so that requests stopped by one
 * change do not all come back together, and longer each time, because the change may still be in progress.
 */
export function pauseBefore({ attempts: runs, failedBuilds: builds }: RetryBudget, random: number): number {
  return random * Math.min(longestPauseMs, 20 * (runs + builds));
}
