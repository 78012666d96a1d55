/** Builds in flight: one per key, and the tenant whose request started each. */

import type { Condition } from "../shared/kernel/condition.ts";
import type { HostError } from "../shared/kernel/errors.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import type { Instance } from "./instance.ts";

interface Flight {
  /** Null: started by the fleet itself (a replacement, replica or quarantine). */
  readonly leader: TenantId | null;
  readonly done: Promise<void>;
}

export class BuildsInFlight {
  readonly #running = new Map<InstanceKey, Flight>();
  readonly #changed: Condition;

  constructor(changed: Condition) {
    this.#changed = changed;
  }

  /**
   * The tenant whose request started the build of `key` in flight (null: the fleet); undefined if there is
   * none.
   */
  leader(key: InstanceKey): TenantId | null | undefined {
    return this.#running.get(key)?.leader;
  }

  /**
   * Joins the build in flight for `key`, or starts `work` as that build. A failure reaches all who wait and
   * is not kept. `work` returns its instance held, and it stays held until all who waited have taken their
   * lease: without that it would be idle, and another build could evict it for room.
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
      held?.release(held.lastUsedMs);
      this.#changed.notify();
    };
    // The continuations of all waiters are queued by then, so this runs after them.
    done.then(
      () => queueMicrotask(letGo),
      () => undefined,
    );
    return done;
  }
}

/**
 * Whether the build that `tenant` waited for failed for a reason of its leader alone: a tenant whose schema
 * changed, is locked or gone, or the fleet itself, which is less patient. `again`: this is not the first such
 * failure for `tenant`.
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
    // A schema that is dropped during the build looks like this; a second failure is the blueprint's own.
    case "BUILD_FAILED":
      return !again;
    default:
      return false;
  }
}
