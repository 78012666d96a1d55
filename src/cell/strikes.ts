/** Which keys were there when threads ended. */
import { LRUCache } from "lru-cache";
import type { InstanceKey } from "../kernel/ids.ts";
import { heldForMs, isSuspect, type StrikeRecord, strike } from "./admission.ts";
import type { Instance } from "./instance.ts";

export class Strikes {
  readonly #records = new LRUCache<InstanceKey, StrikeRecord>({ max: 1_000 });

  /** Notes the end of a thread that held `members`: those that were building or had requests in flight may have caused it. */
  note(members: readonly Instance[]): void {
    const nowMs = performance.now();
    const active = members.filter((instance) => instance.inFlight > 0 || instance.phase === "building");
    for (const { spec } of active) {
      this.#records.set(spec.key, strike(this.#records.get(spec.key), members.length === 1, nowMs));
    }
  }

  isSuspect(key: InstanceKey): boolean {
    return isSuspect(this.#records.get(key), performance.now());
  }

  heldForMs(key: InstanceKey): number {
    return heldForMs(this.#records.get(key), performance.now());
  }
}
