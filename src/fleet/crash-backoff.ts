/** Remembers which keys were present when threads ended. */
import { LRUCache } from "lru-cache";
import type { InstanceKey } from "../shared/kernel/ids.ts";
import type { InstancePhase } from "../shared/kernel/phase.ts";
import { heldForMs, isSuspect, type StrikeRecord, strike } from "./build-queue.ts";

interface Entry {
  readonly record: StrikeRecord;
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
      const company = alone ? (known?.coSuspects ?? []) : keys.filter((other) => other !== key);
      this.#entries.set(key, { record: strike(known?.record, alone, nowMs), coSuspects: company });
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
