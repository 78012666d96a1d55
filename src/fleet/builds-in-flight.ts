/** Builds in flight: one per key, and whose request each was started for. */

import type { Condition } from "../shared/kernel/condition.ts";
import type { HostError } from "../shared/kernel/errors.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import type { Instance } from "./instance.ts";

interface Flight {
  /** Null: a replacement's. */
  readonly leader: TenantId | null;
  readonly done: Promise<void>;
}

export class BuildsInFlight {
  readonly #running = new Map<InstanceKey, Flight>();
  readonly #changed: Condition;

  constructor(changed: Condition) {
    this.#changed = changed;
  }

  /** Whose build of `key` is in flight; undefined: there is none. */
  leader(key: InstanceKey): TenantId | null | undefined {
    return this.#running.get(key)?.leader;
  }

  /**
   * The build in flight for `key`, or else `work`, which then is that. A failure is shared by all who wait, never kept.
   * What `work` returns it holds, and it is held until all who waited have had their turn: it is idle before that, and
   * another build could take it for room.
   */
  run(key: InstanceKey, leader: TenantId | null, work: () => Promise<Instance | null>): Promise<void> {
    const running = this.#running.get(key);
    if (running !== undefined) return running.done;
    let held: Instance | null = null;
    const done = (async () => {
      try {
        held = await work();
      } finally {
        this.#running.delete(key);
      }
    })();
    this.#running.set(key, { leader, done });
    const letGo = (): void => {
      held?.leave(held.lastUsedMs);
      this.#changed.notify();
    };
    // The reactions of those who wait are queued by then: this comes behind them.
    done.then(
      () => queueMicrotask(letGo),
      () => undefined,
    );
    return done;
  }
}

/**
 * Whether the build that `tenant` waited for failed for a reason of its leader's: of a tenant whose schema moved, is
 * locked or gone, or of a replacement, which has less patience. `again`: it is not the first that failed `tenant` like that.
 */
export function failureIsLeadersAlone(
  error: HostError,
  leader: TenantId | null,
  tenant: TenantId,
  again: boolean,
): boolean {
  if (leader === tenant) return false;
  switch (error.code) {
    case "SCHEMA_CHANGED":
    case "SCHEMA_NOT_FOUND":
    case "LOCK_TIMEOUT":
      return true;
    case "NO_CAPACITY":
      return leader === null;
    // A schema that goes away in mid-build looks like this; a second failure is the blueprint's own.
    case "BUILD_FAILED":
      return !again;
    default:
      return false;
  }
}
