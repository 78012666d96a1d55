/** A tenant that takes more than its share of a cell is served by an instance of its own until it calms down, if there is room. */

import type { Observe } from "../observability/observation.ts";
import type { CellId, TenantId } from "../shared/kernel/ids.ts";
import type { BuildQueue } from "./build-queue.ts";
import type { Builder } from "./builder.ts";
import type { BuildsInFlight } from "./builds-in-flight.ts";
import type { Cell } from "./cell/cell.ts";
import type { Eviction } from "./eviction.ts";
import type { Instance } from "./instance.ts";
import type { CapacityPlan } from "./policy/capacity.ts";
import type { Registry } from "./registry.ts";

/** What a tenant did to a cell between two looks. */
export interface UsageSample {
  /** How long ago the look before was. */
  readonly spanMs: number;
  /** For how long the tenant kept the thread busy. */
  readonly busyMs: number;
  /** Whether other tenants asked the same cell for something. */
  readonly contended: boolean;
}

export interface QuarantineRules {
  /** More than this share of a cell's time is too much; 1: never. */
  readonly share: number;
  /** Over so long. */
  readonly windowMs: number;
}

/** A flood need not go on for a whole window to be known as one: over a fifth of it a larger share is enough. */
const burstFraction = 5;
const burstFactor = 1.6;
/** Calm is less than half of the share that was too much, over so many windows: a thread is not built and given up again and again. */
const calmWindows = 3;
const calmFraction = 0.5;

/** The newest samples that make up `ms`, and their sums. */
function sumsOver(
  samples: readonly UsageSample[],
  ms: number,
): { spanMs: number; busyMs: number; contendedMs: number } {
  const sums = { spanMs: 0, busyMs: 0, contendedMs: 0 };
  for (let at = samples.length - 1; at >= 0 && sums.spanMs < ms; at -= 1) {
    const { spanMs, busyMs, contended } = samples[at] ?? { spanMs: 0, busyMs: 0, contended: false };
    sums.spanMs += spanMs;
    sums.busyMs += busyMs;
    if (contended) sums.contendedMs += spanMs;
  }
  return sums;
}

/** Whether a tenant with these samples, oldest first, takes more than its share while others want theirs. Pure. */
export function isExcessive(samples: readonly UsageSample[], { share, windowMs }: QuarantineRules): boolean {
  if (share >= 1) return false;
  const exceeds = (ms: number, limit: number): boolean => {
    const { busyMs, contendedMs } = sumsOver(samples, ms);
    return busyMs > ms * limit && contendedMs * 2 >= ms;
  };
  return exceeds(windowMs, share) || exceeds(windowMs / burstFraction, Math.min(0.95, share * burstFactor));
}

/** Whether a tenant that has a cell to itself would be no burden to others. Pure. */
export function isCalm(samples: readonly UsageSample[], { share, windowMs }: QuarantineRules): boolean {
  const { spanMs, busyMs } = sumsOver(samples, windowMs * calmWindows);
  return spanMs >= windowMs * calmWindows && busyMs < spanMs * share * calmFraction;
}

/** How long a quarantine waits for a thread to come up. */
const patienceMs = 10_000;
/** How long none is tried after one found no room. */
const retryMs = 10_000;

export class Quarantine {
  readonly #rules: QuarantineRules;
  readonly #plan: CapacityPlan;
  readonly #observe: Observe;
  readonly #registry: Registry;
  readonly #buildQueue: BuildQueue;
  readonly #builder: Builder;
  readonly #buildsInFlight: BuildsInFlight;
  readonly #eviction: Eviction;
  /** By cell and tenant, oldest first. */
  #histories = new Map<CellId, Map<TenantId, UsageSample[]>>();
  #lastMs = performance.now();
  #notBeforeMs = 0;
  #building = false;

  constructor(
    options: { readonly plan: CapacityPlan; readonly quarantine: QuarantineRules; readonly observe: Observe },
    parts: {
      registry: Registry;
      buildQueue: BuildQueue;
      builder: Builder;
      buildsInFlight: BuildsInFlight;
      eviction: Eviction;
    },
  ) {
    this.#rules = options.quarantine;
    this.#plan = options.plan;
    this.#observe = options.observe;
    this.#registry = parts.registry;
    this.#buildQueue = parts.buildQueue;
    this.#builder = parts.builder;
    this.#buildsInFlight = parts.buildsInFlight;
    this.#eviction = parts.eviction;
  }

  /** To be called about once a second. */
  look(nowMs: number): void {
    const spanMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    const histories = new Map<CellId, Map<TenantId, UsageSample[]>>();
    for (const cell of this.#registry.cells) {
      const history = this.#sampled(cell, spanMs);
      if (history.size === 0) continue;
      histories.set(cell.id, history);
      this.#judge(cell, history, nowMs);
    }
    this.#histories = histories;
  }

  #sampled(cell: Cell, spanMs: number): Map<TenantId, UsageSample[]> {
    const usage = cell.sampleUsage(spanMs);
    const history = this.#histories.get(cell.id) ?? new Map<TenantId, UsageSample[]>();
    const asking = usage.filter(({ requests }) => requests > 0).length;
    const fresh = new Map(usage.map((each) => [each.tenant, each]));
    for (const tenant of new Set([...history.keys(), ...fresh.keys()])) {
      const { busyMs = 0, requests = 0 } = fresh.get(tenant) ?? {};
      const samples = history.get(tenant) ?? [];
      samples.push({ spanMs, busyMs, contended: asking > (requests > 0 ? 1 : 0) });
      const { spanMs: known } = sumsOver(samples, Number.POSITIVE_INFINITY);
      if (known > this.#rules.windowMs * (calmWindows + 1)) samples.shift();
      // Nothing of all that is remembered matters.
      if (samples.every((sample) => sample.busyMs === 0) && this.#reservedIn(cell) === undefined) {
        history.delete(tenant);
      } else history.set(tenant, samples);
    }
    return history;
  }

  #reservedIn(cell: Cell): Instance | undefined {
    return this.#registry.instancesOf(cell).find(({ reservedFor }) => reservedFor !== null);
  }

  #judge(cell: Cell, history: ReadonlyMap<TenantId, readonly UsageSample[]>, nowMs: number): void {
    const reserved = this.#reservedIn(cell);
    if (reserved !== undefined) {
      const { reservedFor } = reserved;
      const samples = reservedFor === null ? undefined : history.get(reservedFor);
      if (reserved.phase === "live" && samples !== undefined && isCalm(samples, this.#rules)) {
        this.#release(reserved, "calm");
      }
      return;
    }
    if (this.#building || nowMs < this.#notBeforeMs || this.#plan.cells < 2) return;
    for (const [tenant, samples] of history) {
      const instance = isExcessive(samples, this.#rules) ? this.#instanceOf(cell, tenant) : undefined;
      // One at a time: the next look finds the others.
      if (instance !== undefined && !this.#building) this.#isolate(instance, tenant, samples);
    }
  }

  /** What serves `tenant` in that cell, and nothing of its own elsewhere. */
  #instanceOf(cell: Cell, tenant: TenantId): Instance | undefined {
    const [latest] = this.#registry
      .instancesOf(cell)
      .filter((instance) => instance.phase === "live" && instance.tenants.has(tenant))
      .toSorted((a, b) => b.lastUsedMs - a.lastUsedMs);
    if (latest === undefined || this.#registry.reserved(latest.spec.key, tenant) !== undefined)
      return undefined;
    return latest;
  }

  /** Where it costs nobody else anything: no build waits, and there is room without an eviction. */
  #isolate(instance: Instance, tenant: TenantId, samples: readonly UsageSample[]): void {
    const { running, queued } = this.#buildQueue.state;
    if (running + queued > 0) return;
    const { key } = instance.spec;
    const queuedMs = performance.now();
    this.#building = true;
    let resume = (): void => undefined;
    const work = this.#buildsInFlight.run(key, null, () =>
      this.#buildQueue.run(async () => {
        if (instance.phase !== "live") return null;
        // What would keep others waiting now has the thread to itself in a moment.
        resume = instance.cell.hold(tenant);
        const purpose = { kind: "quarantine", tenant } as const;
        const built = await this.#builder.build(instance.latest, purpose, patienceMs, queuedMs);
        // What waits where it was is the larger part of it.
        instance.cell.dismiss(tenant);
        this.#observe({
          kind: "tenant.quarantined",
          tenant,
          key,
          cell: built.cell.id,
          share: shareOf(samples),
        });
        return built;
      }),
    );
    work
      // Observed where it failed.
      .catch(() => {
        this.#notBeforeMs = performance.now() + retryMs;
      })
      .finally(() => {
        this.#building = false;
        resume();
      });
  }

  /** Its tenant is served with all others again. */
  #release(instance: Instance, why: "calm" | "capacity"): void {
    const { reservedFor, spec, cell } = instance;
    if (reservedFor === null) return;
    this.#observe({ kind: "tenant.released", tenant: reservedFor, key: spec.key, cell: cell.id, why });
    void this.#eviction.retire(instance, why === "calm" ? "idle" : "capacity");
  }

  /** Gives up one quarantine, as somebody else needs the room; false where there is none. */
  concede(): boolean {
    const [first] = this.#registry.published.filter(
      ({ reservedFor, phase }) => reservedFor !== null && phase === "live",
    );
    if (first === undefined) return false;
    this.#notBeforeMs = performance.now() + retryMs;
    this.#release(first, "capacity");
    return true;
  }
}

/** Of the time that the samples cover, the tenant's. */
function shareOf(samples: readonly UsageSample[]): number {
  const { spanMs, busyMs } = sumsOver(samples, Number.POSITIVE_INFINITY);
  return spanMs === 0 ? 0 : busyMs / spanMs;
}
