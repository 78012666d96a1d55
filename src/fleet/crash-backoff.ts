/** Remembers which keys were present when threads ended, and how long each is held back for it. */
import { LRUCache } from "lru-cache";
import type { InstanceKey } from "../shared/kernel/ids.ts";
import type { InstancePhase } from "../shared/kernel/phase.ts";

/** What is known about a key that was present when threads ended. */
export interface CrashRecord {
  /** Thread ends at which it was building or serving. */
  readonly crashes: number;
  /** Those of them at which no other instance was in the thread. */
  readonly certain: number;
  readonly lastMs: number;
}

/** After this long without a crash a key is treated like any other. */
const forgivenAfterMs = 10 * 60_000;
const firstPauseMs = 5_000;
const longestPauseMs = 5 * 60_000;

export function crash(record: CrashRecord | undefined, alone: boolean, nowMs: number): CrashRecord {
  const known = record !== undefined && nowMs - record.lastMs < forgivenAfterMs ? record : undefined;
  return {
    crashes: (known?.crashes ?? 0) + 1,
    certain: (known?.certain ?? 0) + (alone ? 1 : 0),
    lastMs: nowMs,
  };
}

/** Whether a key has to be alone in its cell, so that the next thread end shows who caused it. */
export function isSuspect(record: CrashRecord | undefined, nowMs: number): boolean {
  return record !== undefined && nowMs - record.lastMs < forgivenAfterMs;
}

/**
 * Milliseconds for which a key is still held back; 0: not at all. The first thread end that was certainly its
 * own costs nothing; from the second on, each doubles the pause.
 */
export function heldForMs(record: CrashRecord | undefined, nowMs: number): number {
  if (record === undefined || record.certain < 2) return 0;
  const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (record.certain - 2));
  return Math.max(0, record.lastMs + pauseMs - nowMs);
}

interface Entry {
  readonly record: CrashRecord;
  /** The other keys that were active at the last thread end whose cause is uncertain. */
  readonly coSuspects: readonly InstanceKey[];
}

/** The part of an instance that matters when its thread has ended. */
export interface Member {
  readonly spec: { readonly key: InstanceKey };
  readonly inFlight: number;
  readonly phase: InstancePhase;
}

export class CrashBackoff {
  readonly #entries = new LRUCache<InstanceKey, Entry>({ max: 1_000 });

  /**
   * Records the end of a thread that held `members`: those that were building or had requests in flight may
   * have caused it. If an instance was alone its key is certainly the cause, and keys suspected only together
   * with it are cleared.
   */
  note(members: readonly Member[], nowMs: number): void {
    const active = members.filter((instance) => instance.inFlight > 0 || instance.phase === "building");
    const keys = active.map(({ spec }) => spec.key);
    const alone = members.length === 1;
    for (const key of keys) {
      const known = this.#entries.get(key);
      if (alone) for (const other of known?.coSuspects ?? []) this.#clear(other);
      const coSuspects = alone ? (known?.coSuspects ?? []) : keys.filter((other) => other !== key);
      this.#entries.set(key, { record: crash(known?.record, alone, nowMs), coSuspects });
    }
  }

  isSuspect(key: InstanceKey, nowMs: number): boolean {
    return isSuspect(this.#entries.get(key)?.record, nowMs);
  }

  heldForMs(key: InstanceKey, nowMs: number): number {
    return heldForMs(this.#entries.get(key)?.record, nowMs);
  }

  #clear(key: InstanceKey): void {
    if (this.#entries.get(key)?.record.certain === 0) this.#entries.delete(key);
  }
}
