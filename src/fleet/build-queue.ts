/**
 * How many builds run, wait or are rejected, and how long a key that ends threads or fails to build is held
 * back. Pure.
 */
import { HostError } from "../shared/kernel/errors.ts";
import { BoundedSemaphore, type SemaphoreLimits } from "../shared/kernel/semaphore.ts";

/** What is known about a key that was present when threads ended. */
export interface StrikeRecord {
  /** Thread ends at which it was building or serving. */
  readonly crashBackoff: number;
  /** Those of them at which no other instance was in the thread. */
  readonly certain: number;
  readonly lastMs: number;
}

/** After this long without a strike a key is treated like any other. */
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

/** Whether a key has to be alone in its cell, so that the next thread end shows who caused it. */
export function isSuspect(record: StrikeRecord | undefined, nowMs: number): boolean {
  return record !== undefined && nowMs - record.lastMs < forgivenAfterMs;
}

/**
 * Milliseconds for which a key is still held back; 0: not at all. The first thread end that was certainly its
 * own costs nothing; from the second on, each doubles the pause.
 */
export function heldForMs(record: StrikeRecord | undefined, nowMs: number): number {
  if (record === undefined || record.certain < 2) return 0;
  const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (record.certain - 2));
  return Math.max(0, record.lastMs + pauseMs - nowMs);
}

/** What is known about a key that failed to build. */
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
 * How long to wait before the next try: doubles with each failure, within bounds. `random` (0 to 1) takes off
 * up to a quarter, so that keys that failed for one common cause do not all retry at once.
 */
export function failurePauseMs({ failures }: FailureRecord, random: number): number {
  const pauseMs = Math.min(longestFailureMs, firstFailureMs * 2 ** Math.min(failures - 1, 30));
  return pauseMs * (1 - random / 4);
}

/** Limits concurrent builds; throws `BUILD_QUEUE_FULL` if its queue is full. */
export class BuildQueue extends BoundedSemaphore {
  constructor(limits: SemaphoreLimits) {
    super(limits, () => new HostError("BUILD_QUEUE_FULL"));
  }
}
