/** How often a request is tried while the schema moves under it. Pure. */

/** What a request has been through. */
export interface Tries {
  /** When it came: who has waited longest is built for first. */
  readonly sinceMs: number;
  /** It ran, and nothing of it stands. */
  runs: number;
  /** An instance was built for it in vain; it has not run at all. */
  builds: number;
  /** Its thread was lost. */
  lost: number;
  /** It was given to a cell that never came to it. */
  moved: number;
}

const mostRuns = 4;
/**
 * Of a tenant that changes at random, as often as a build takes, 63 % of all builds are overtaken, and twelve in a row for 4
 * requests in 1,000; four were for 160.
 */
const mostBuilds = 12;
/** Beyond so many it is given up when its patience is at an end: refused in time, rather than ended at its deadline. */
const leastBuilds = 4;

/** Whether a request is given up; `patienceMs` is for how long it may wait for builds that are overtaken. */
export function isExhausted({ runs, builds, sinceMs }: Tries, nowMs: number, patienceMs: number): boolean {
  if (runs >= mostRuns || builds >= mostBuilds) return true;
  return builds >= leastBuilds && nowMs - sinceMs > patienceMs;
}
