/** How instances and cells leave: taken out of service, drained, then released or ended with their thread. */
import type { EvictionReason, Observe, TerminationReason } from "../observability/observation.ts";
import type { Condition } from "../shared/kernel/condition.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";
import type { Registry } from "./registry.ts";

export interface EvictionOptions {
  readonly drainTimeoutMs: number;
  readonly observe: Observe;
}

export class Eviction {
  readonly #options: EvictionOptions;
  readonly #registry: Registry;
  readonly #changed: Condition;
  #evictions = 0;

  constructor(options: EvictionOptions, registry: Registry, changed: Condition) {
    this.#options = options;
    this.#registry = registry;
    this.#changed = changed;
  }

  get evictions(): number {
    return this.#evictions;
  }

  /**
   * Takes a live instance out of service, drains it (≤ `drainTimeout`) and releases it, or ends its thread if
   * nothing else is in it. Resolves when its memory is being returned.
   */
  async retire(instance: Instance, reason: EvictionReason): Promise<void> {
    if (instance.phase !== "live") return;
    const { cell } = instance;
    if (this.#registry.instancesOf(cell).length === 1 && cell.phase === "serving") {
      return this.end(cell, threadReason(reason), reason);
    }
    instance.phase = "draining";
    this.#registry.unpublish(instance);
    await instance.idle(this.#options.drainTimeoutMs);
    if (instance.phase !== "draining") return;
    await cell.release(instance.id).catch(() => undefined);
    this.forget(instance, reason);
    this.#changed.notify();
    if (cell.phase !== "serving") return;
    // It was the last of several that left together.
    if (this.#registry.instancesOf(cell).length === 0) return this.end(cell, threadReason(reason), reason);
    // The governor sees from this whether the heap really shrank.
    cell.collect(performance.now());
  }

  /**
   * Drains a cell with all its instances (≤ `drainTimeout`) and ends its thread. Resolves when the thread has
   * exited.
   */
  async end(cell: Cell, reason: TerminationReason, why: EvictionReason): Promise<void> {
    if (cell.phase === "terminating" || cell.phase === "gone") return cell.gone;
    if (cell.phase !== "starting") cell.phase = "draining";
    const members = this.#registry.instancesOf(cell);
    for (const instance of members) {
      if (instance.phase === "live") instance.phase = "draining";
      this.#registry.unpublish(instance);
    }
    await Promise.all(members.map((instance) => instance.idle(this.#options.drainTimeoutMs)));
    for (const instance of members) this.forget(instance, why);
    await cell.terminate(reason);
  }

  /** Marks an instance as gone, once; a live instance under the same key stays. */
  forget(instance: Instance, reason: EvictionReason): void {
    if (instance.phase === "gone") return;
    const served = instance.phase !== "building";
    instance.phase = "gone";
    this.#registry.remove(instance);
    if (!served) return;
    this.#evictions += 1;
    const { cell, heapMb, spec } = instance;
    this.#options.observe({ kind: "instance.evicted", key: spec.key, cell: cell.id, reason, heapMb });
  }
}

/** The termination reason when a thread ends with its last instance. */
function threadReason(reason: EvictionReason): TerminationReason {
  return reason === "idle" || reason === "flushed" ? reason : "evicted";
}
