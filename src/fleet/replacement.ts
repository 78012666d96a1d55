/** Replaces a cell: its instances are built elsewhere and switched one by one, then it is drained and ended. */

import type { Observe } from "../observability/observation.ts";
import type { Condition } from "../shared/kernel/condition.ts";
import { toHostError } from "../shared/kernel/errors.ts";
import type { BuildQueue } from "./build-queue.ts";
import type { Builder } from "./builder.ts";
import type { BuildsInFlight } from "./builds-in-flight.ts";
import type { Cell } from "./cell/cell.ts";
import type { Eviction } from "./eviction.ts";
import type { Instance } from "./instance.ts";
import type { CapacityPlan } from "./policy/capacity.ts";
import type { Registry } from "./registry.ts";

/** How long a replacement waits for room before its predecessor is drained without one. */
const patienceMs = 5_000;
/** How long it waits for a build in the cell before it looks again. */
const lookAgainMs = 1_000;

export class Replacement {
  readonly #options: { readonly plan: CapacityPlan; readonly observe: Observe };
  readonly #registry: Registry;
  readonly #eviction: Eviction;
  readonly #builder: Builder;
  readonly #buildQueue: BuildQueue;
  readonly #buildsInFlight: BuildsInFlight;
  readonly #changed: Condition;

  constructor(
    options: { readonly plan: CapacityPlan; readonly observe: Observe },
    parts: {
      registry: Registry;
      eviction: Eviction;
      builder: Builder;
      buildQueue: BuildQueue;
      buildsInFlight: BuildsInFlight;
      changed: Condition;
    },
  ) {
    this.#options = options;
    this.#registry = parts.registry;
    this.#eviction = parts.eviction;
    this.#builder = parts.builder;
    this.#buildQueue = parts.buildQueue;
    this.#buildsInFlight = parts.buildsInFlight;
    this.#changed = parts.changed;
  }

  /** Resolves when the thread has exited. What could not be built elsewhere comes back on demand. */
  async replace(cell: Cell): Promise<void> {
    if (cell.phase !== "serving") return;
    cell.phase = "condemned";
    const { observe, plan } = this.#options;
    const { usedMb } = cell.heap;
    observe({ kind: "cell.condemned", cell: cell.id, heapUsedMb: usedMb, heapBudgetMb: cell.heapMb });
    // The only cell that there may be makes room by going.
    if (plan.cells > 1) await this.#rebuildElsewhere(cell);
    await this.#eviction.end(cell, "replaced", "stale");
  }

  async #rebuildElsewhere(cell: Cell): Promise<void> {
    const tried = new Set<Instance>();
    while (cell.phase === "condemned") {
      const members = this.#registry.instancesOf(cell);
      const [next] = members
        // What one tenant has for itself is not built again: it is served with all others, and judged anew.
        .filter(
          (instance) => instance.phase === "live" && instance.reservedFor === null && !tried.has(instance),
        )
        .toSorted((a, b) => b.lastUsedMs - a.lastUsedMs);
      if (next === undefined) {
        // What is still being built in there is published there, and then moved like the others.
        if (!members.some((instance) => instance.phase === "building")) return;
        await this.#changed.wait(lookAgainMs);
        continue;
      }
      try {
        await this.#buildsInFlight.run(next.spec.key, null, () => {
          // Not where it only waited for the end of the build that brought the instance here.
          tried.add(next);
          return this.#rebuild(next);
        });
      } catch (thrown) {
        // Observed where it failed. Without room the others would fare no better.
        const { code } = toHostError(thrown);
        if (code === "NO_CAPACITY" || code === "BUILD_QUEUE_FULL" || code === "SHUTTING_DOWN") return;
      }
    }
  }

  #rebuild(instance: Instance): Promise<Instance | null> {
    const queuedMs = performance.now();
    return this.#buildQueue.run(async () => {
      // It may have been evicted, or lost with its thread, while this waited for its turn.
      if (instance.phase !== "live") return null;
      // Where others serve the key, they take over what it did; not where they are about to go as well.
      const others = this.#registry.serving(instance.spec.key).filter((each) => each !== instance);
      if (others.some(({ cell, reservedFor }) => cell.phase === "serving" && reservedFor === null))
        return null;
      return this.#builder.build(instance.latest, { kind: "successor", of: instance }, patienceMs, queuedMs);
    });
  }
}
