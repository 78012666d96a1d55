/** How instances and cells leave: out of service first, then drained, then released or ended with their thread. */
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
   * Takes a live instance out of service, waits for its requests (≤ `drainTimeout`), and lets go of it: with its thread
   * where nothing else is in there. Resolves when its memory is on its way back.
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
    // The last one of several that left together.
    if (this.#registry.instancesOf(cell).length === 0) return this.end(cell, threadReason(reason), reason);
    // Whether the heap really came back is for the governor to see.
    cell.collect(performance.now());
  }

  /** Drains a cell with everything in it (≤ `drainTimeout`) and ends its thread. Resolves at its exit. */
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

  /** Strikes an instance off, once; whatever is live under its key by now stays. */
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

/** Why a thread ends with the last of its instances. */
function threadReason(reason: EvictionReason): TerminationReason {
  return reason === "idle" || reason === "flushed" ? reason : "evicted";
}
