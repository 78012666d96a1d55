/** How many builds run, wait, or are turned away; and how long a key that ends threads is held back. Pure. */
import { HostError } from "../kernel/errors.ts";
import { type TurnLimits, Turns } from "../kernel/turns.ts";

/** What is known of a key that was there when threads ended. */
export interface StrikeRecord {
  /** Ends of threads that it was in, building or serving. */
  readonly strikes: number;
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
    strikes: (known?.strikes ?? 0) + 1,
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

/** The places for builds. */
export class Admission extends Turns {
  constructor(limits: TurnLimits) {
    super(limits, () => new HostError("BUILD_QUEUE_FULL"));
  }
}
