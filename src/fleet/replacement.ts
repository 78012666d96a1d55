/**
 * Replaces a cell: builds its instances elsewhere and switches to them one by one, then drains and ends the
 * cell.
 */

import type { Observe } from "../observability/observation.ts";
import { isDatabaseFull } from "../shared/connect/loss.ts";
import { toHostError } from "../shared/kernel/errors.ts";
import type { BuildParts } from "./build-parts.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";
import type { CapacityPlan } from "./policy/capacity.ts";

/** How long a successor waits for room before the old cell is drained without one. */
const patienceMs = 5_000;
/** How long to wait for a build in the cell before looking again. */
const lookAgainMs = 1_000;

export class Replacement {
  readonly #options: { readonly plan: CapacityPlan; readonly observe: Observe };
  readonly #parts: BuildParts;

  constructor(options: { readonly plan: CapacityPlan; readonly observe: Observe }, parts: BuildParts) {
    this.#options = options;
    this.#parts = parts;
  }

  /** Resolves when the thread has exited. Instances that could not be built elsewhere are rebuilt on demand. */
  async replace(cell: Cell): Promise<void> {
    if (cell.phase !== "serving") return;
    cell.phase = "condemned";
    const { observe, plan } = this.#options;
    const { usedMb } = cell.heap;
    observe({ kind: "cell.condemned", cell: cell.id, heapUsedMb: usedMb, heapBudgetMb: cell.heapMb });
    // If only one cell is allowed, it has to go first to make room.
    if (plan.cells > 1) await this.#rebuildElsewhere(cell);
    await this.#parts.eviction.end(cell, "replaced", "stale");
  }

  async #rebuildElsewhere(cell: Cell): Promise<void> {
    const tried = new Set<Instance>();
    while (cell.phase === "condemned") {
      const members = this.#parts.registry.instancesOf(cell);
      const [next] = members
        // A tenant's private instance is not rebuilt: the tenant is served with all others and judged anew.
        .filter(
          (instance) => instance.phase === "live" && instance.reservedFor === null && !tried.has(instance),
        )
        .toSorted((a, b) => b.lastUsedMs - a.lastUsedMs);
      if (next === undefined) {
        // Instances still being built here are published here, and then moved like the others.
        if (!members.some((instance) => instance.phase === "building")) return;
        await this.#parts.changed.wait(lookAgainMs);
        continue;
      }
      try {
        await this.#parts.buildsInFlight.run(next.spec.key, null, () => {
          // Not marked as tried if this only joined the build that put the instance here.
          tried.add(next);
          return this.#rebuild(next);
        });
      } catch (thrown) {
        // The failure was observed by the builder. Without room the others would fail as well.
        const error = toHostError(thrown);
        const { code } = error;
        if (isDatabaseFull(error)) continue;
        if (code === "NO_CAPACITY" || code === "BUILD_QUEUE_FULL" || code === "SHUTTING_DOWN") return;
      }
    }
  }

  #rebuild(instance: Instance): Promise<Instance | null> {
    const queuedMs = performance.now();
    return this.#parts.buildQueue.run(async () => {
      // The instance may have been evicted, or lost with its thread, while this waited in the queue.
      if (instance.phase !== "live") return null;
      // If other instances serve the key they take over, unless they are leaving as well.
      const others = this.#parts.registry.serving(instance.spec.key).filter((each) => each !== instance);
      if (others.some(({ cell, reservedFor }) => cell.phase === "serving" && reservedFor === null))
        return null;
      return this.#parts.builder.build(
        instance.latest,
        { kind: "successor", of: instance },
        patienceMs,
        queuedMs,
      );
    });
  }
}
