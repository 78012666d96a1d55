/** How many cells serve one hot blueprint: more while all of them are busy with it, fewer when they are idle. */
import { availableParallelism } from "node:os";
import type { InstanceKey } from "../shared/kernel/ids.ts";
import type { BuildParts } from "./build-parts.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";

/** The load of one instance of a key since the last look. */
export interface ReplicaLoad {
  /** Share of the time in which its cell's event loop was busy. */
  readonly utilization: number;
  /** Share of its cell's requests that went to this instance. */
  readonly share: number;
}

/** Consecutive looks at which a key was hot, and at which one replica fewer would have been enough. */
export interface Streak {
  readonly hot: number;
  readonly cool: number;
}

export const noStreak: Streak = { hot: 0, cool: 0 };

const hotUtilization = 0.8;
/** Utilization that the remaining replicas would reach if they did all the work. */
const coolUtilization = 0.4;
/**
 * Looks are one second apart. A build costs more than three busy seconds, and a thread that is given up costs
 * that again.
 */
const hotLooks = 3;
const coolLooks = 30;

/** Whether a key gets one replica more or fewer, and the streak to remember until the next look. Pure. */
export function decideReplicas(
  loads: readonly ReplicaLoad[],
  max: number,
  { hot, cool }: Streak,
): { readonly verdict: "grow" | "shrink" | "none"; readonly streak: Streak } {
  const isHot = loads.every(({ utilization, share }) => utilization >= hotUtilization && share >= 0.5);
  const total = loads.reduce((sum, { utilization }) => sum + utilization, 0);
  const isCool = loads.length > 1 && total / (loads.length - 1) < coolUtilization;
  const streak = { hot: isHot ? hot + 1 : 0, cool: isCool ? cool + 1 : 0 };
  if (loads.length > max) return { verdict: "shrink", streak: noStreak };
  if (streak.hot >= hotLooks && loads.length < max) return { verdict: "grow", streak: noStreak };
  if (streak.cool >= coolLooks) return { verdict: "shrink", streak: noStreak };
  return { verdict: "none", streak };
}

/** How long a replica waits for a thread to start. */
const patienceMs = 10_000;

export class Replicas {
  readonly #parts: BuildParts;
  readonly #max: number;
  #streaks = new Map<InstanceKey, Streak>();
  /** The request count of each instance at the last look. */
  #counts = new Map<Instance, number>();

  constructor(
    /** Capped at the number of cores: more threads than cores would only take turns. */
    max: number,
    parts: BuildParts,
  ) {
    this.#max = Math.min(max, availableParallelism());
    this.#parts = parts;
  }

  /** Call about once a second. */
  look(): void {
    if (this.#max < 2) return;
    const loads = this.#loads();
    const streaks = new Map<InstanceKey, Streak>();
    for (const [key, instances] of Map.groupBy(loads.keys(), ({ spec }) => spec.key)) {
      const { verdict, streak } = decideReplicas(
        instances.map((instance) => loads.get(instance) ?? { utilization: 0, share: 0 }),
        this.#max,
        this.#streaks.get(key) ?? noStreak,
      );
      streaks.set(key, streak);
      if (verdict === "grow") this.#grow(key, instances);
      else if (verdict === "shrink") this.#shrink(instances);
    }
    this.#streaks = streaks;
  }

  #loads(): Map<Instance, ReplicaLoad> {
    const counts = new Map<Instance, number>();
    const loads = new Map<Instance, ReplicaLoad>();
    // An instance for one tenant alone is not a replica.
    const shared = this.#parts.registry.published.filter(({ reservedFor }) => reservedFor === null);
    for (const [cell, members] of Map.groupBy(shared, (instance): Cell => instance.cell)) {
      const utilization = cell.utilization.sample();
      const since = members.map((instance) => instance.requests - (this.#counts.get(instance) ?? 0));
      const all = since.reduce((sum, count) => sum + count, 0);
      for (const [index, instance] of members.entries()) {
        counts.set(instance, instance.requests);
        loads.set(instance, { utilization, share: all === 0 ? 0 : (since[index] ?? 0) / all });
      }
    }
    this.#counts = counts;
    return loads;
  }

  /**
   * Builds a replica only if that does not affect others: no build waits, and there is room without an
   * eviction.
   */
  #grow(key: InstanceKey, [first]: readonly Instance[]): void {
    const { running, queued } = this.#parts.buildQueue.state;
    if (first === undefined || running + queued > 0) return;
    const queuedMs = performance.now();
    const building = this.#parts.buildsInFlight.run(key, null, () =>
      this.#parts.buildQueue.run(async () => {
        if (first.phase !== "live") return null;
        return this.#parts.builder.build(first.latest, { kind: "replica" }, patienceMs, queuedMs);
      }),
    );
    // The failure was observed by the builder; the next hot seconds will try again.
    building.catch(() => undefined);
  }

  #shrink(instances: readonly Instance[]): void {
    // A cell that is being replaced removes one replica by itself and relies on the others.
    if (instances.some(({ cell }) => cell.phase !== "serving")) return;
    const newest = instances.toSorted((a, b) => b.id - a.id)[0];
    if (newest !== undefined) void this.#parts.eviction.retire(newest, "idle");
  }
}
