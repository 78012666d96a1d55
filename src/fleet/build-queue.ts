/** How many builds run, wait, or are turned away; and how long a key that ends threads, or cannot be built, is held back. Pure. */
import { HostError } from "../shared/kernel/errors.ts";
import { BoundedSemaphore, type SemaphoreLimits } from "../shared/kernel/semaphore.ts";

/** What is known of a key that was there when threads ended. */
export interface StrikeRecord {
  /** Ends of threads that it was in, building or serving. */
  readonly crashBackoff: number;
  /** Those of them where nothing else was. */
  readonly certain: number;
  readonly lastMs: number;
}

/** After this long without a strike a key is as good as any other. */
const forgivenAfterMs = 10 * 60_000;
const firstPauseMs = 5_000;
const longestPauseMs = 5 * 60_000;

export function strike(record: StrikeRecord | undefined, alone: boolean, nowMs: number): StrikeRecord {
  const known = record !== undefined && nowMs - record.lastMs < forgivenAfterMs ? record : undefined;
  return {
    crashBackoff: (known?.crashBackoff ?? 0) + 1,
    certain: (known?.certain ?? 0) + (alone ? 1 : 0),
    lastMs: nowMs,
  };
}

/** Whether a key is to be alone in its cell, so that the next end of a thread says whose doing it was. */
export function isSuspect(record: StrikeRecord | undefined, nowMs: number): boolean {
  return record !== undefined && nowMs - record.lastMs < forgivenAfterMs;
}

/**
 * For how many more milliseconds a key is held back; 0: not at all. The first end of a thread costs nothing, each
 * further one that was certainly its own twice the pause before.
 */
export function heldForMs(record: StrikeRecord | undefined, nowMs: number): number {
  if (record === undefined || record.certain < 2) return 0;
  const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (record.certain - 2));
  return Math.max(0, record.lastMs + pauseMs - nowMs);
}

/** What is known of a key that could not be built. */
export interface FailureRecord {
  readonly failures: number;
  readonly lastMs: number;
}

export const isForgiven = ({ lastMs }: FailureRecord, nowMs: number): boolean =>
  nowMs - lastMs >= forgivenAfterMs;

export function failure(record: FailureRecord | undefined, nowMs: number): FailureRecord {
  const known = record === undefined || isForgiven(record, nowMs) ? 0 : record.failures;
  return { failures: known + 1, lastMs: nowMs };
}

const firstFailureMs = 1_000;
const longestFailureMs = 60_000;

/**
 * How long nobody tries again: each failure twice as long as the one before, within bounds. `random` (0 to 1) takes up to a quarter
 * off, so that the keys that one cause has failed do not all come back at once.
 */
export function failurePauseMs({ failures }: FailureRecord, random: number): number {
  const pauseMs = Math.min(longestFailureMs, firstFailureMs * 2 ** Math.min(failures - 1, 30));
  return pauseMs * (1 - random / 4);
}

/** The places for builds. */
export class BuildQueue extends BoundedSemaphore {
  constructor(limits: SemaphoreLimits) {
    super(limits, () => new HostError("BUILD_QUEUE_FULL"));
  }
}
