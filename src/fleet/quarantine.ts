/**
 * Isolates a tenant that takes more than its share of a cell: if there is room, an instance of its own serves
 * it until it calms down.
 */

import type { Observe } from "../observability/observation.ts";
import type { CellId, TenantId } from "../shared/kernel/ids.ts";
import type { BuildParts } from "./build-parts.ts";
import type { Cell } from "./cell/cell.ts";
import type { Instance } from "./instance.ts";
import type { CapacityPlan } from "./policy/capacity.ts";

/** A tenant's use of a cell between two looks. */
export interface UsageSample {
  /** Time since the previous look. */
  readonly spanMs: number;
  /** How long the tenant kept the thread busy. */
  readonly busyMs: number;
  /** Whether other tenants sent requests to the same cell. */
  readonly contended: boolean;
}

export interface QuarantineRules {
  /** Share of a cell's time that is too much; 1: never. */
  readonly share: number;
  /** Period over which the share is measured. */
  readonly windowMs: number;
}

/** A flood is recognised before a whole window has passed: over a fifth of it, a larger share is enough. */
const burstFraction = 5;
const burstFactor = 1.6;
/**
 * A tenant is calm after this many windows below half of the excessive share, so that threads are not built
 * and given up repeatedly.
 */
const calmWindows = 3;
const calmFraction = 0.5;

/** Sums over the newest samples that cover `ms`. */
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

/** Whether a tenant with these samples, oldest first, takes more than its share while others compete. Pure. */
export function isExcessive(samples: readonly UsageSample[], { share, windowMs }: QuarantineRules): boolean {
  if (share >= 1) return false;
  const exceeds = (ms: number, limit: number): boolean => {
    const { busyMs, contendedMs } = sumsOver(samples, ms);
    return busyMs > ms * limit && contendedMs * 2 >= ms;
  };
  return exceeds(windowMs, share) || exceeds(windowMs / burstFraction, Math.min(0.95, share * burstFactor));
}

/** Whether a tenant that has a cell to itself could share one again without burdening others. Pure. */
export function isCalm(samples: readonly UsageSample[], { share, windowMs }: QuarantineRules): boolean {
  const { spanMs, busyMs } = sumsOver(samples, windowMs * calmWindows);
  return spanMs >= windowMs * calmWindows && busyMs < spanMs * share * calmFraction;
}

/** How long a quarantine waits for a thread to start. */
const patienceMs = 10_000;
/** How long no quarantine is tried after one found no room. */
const retryMs = 10_000;
/** How long a heavy tenant's requests are held at most, so that a slow build does not make them miss their deadlines. */
const maxHoldMs = 5_000;

export class Quarantine {
  readonly #rules: QuarantineRules;
  readonly #plan: CapacityPlan;
  readonly #observe: Observe;
  readonly #parts: BuildParts;
  /** Samples by cell and tenant, oldest first. */
  #histories = new Map<CellId, Map<TenantId, UsageSample[]>>();
  #lastMs = performance.now();
  #notBeforeMs = 0;
  #building = false;

  constructor(
    options: { readonly plan: CapacityPlan; readonly quarantine: QuarantineRules; readonly observe: Observe },
    parts: BuildParts,
  ) {
    this.#rules = options.quarantine;
    this.#plan = options.plan;
    this.#observe = options.observe;
    this.#parts = parts;
  }

  /** Call about once a second. */
  look(nowMs: number): void {
    const spanMs = nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    const histories = new Map<CellId, Map<TenantId, UsageSample[]>>();
    for (const cell of this.#parts.registry.cells) {
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
      // No remembered sample matters any more.
      if (samples.every((sample) => sample.busyMs === 0) && this.#reservedIn(cell) === undefined) {
        history.delete(tenant);
      } else history.set(tenant, samples);
    }
    return history;
  }

  #reservedIn(cell: Cell): Instance | undefined {
    return this.#parts.registry.instancesOf(cell).find(({ reservedFor }) => reservedFor !== null);
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

  /** The instance that serves `tenant` in that cell; undefined if the tenant has one of its own elsewhere. */
  #instanceOf(cell: Cell, tenant: TenantId): Instance | undefined {
    const [latest] = this.#parts.registry
      .instancesOf(cell)
      .filter((instance) => instance.phase === "live" && instance.tenants.has(tenant))
      .toSorted((a, b) => b.lastUsedMs - a.lastUsedMs);
    if (latest === undefined || this.#parts.registry.reserved(latest.spec.key, tenant) !== undefined)
      return undefined;
    return latest;
  }

  /**
   * Isolates the tenant only if that does not affect others: no build waits, and there is room without an
   * eviction.
   */
  #isolate(instance: Instance, tenant: TenantId, samples: readonly UsageSample[]): void {
    const { running, queued } = this.#parts.buildQueue.state;
    if (running + queued > 0) return;
    const { key } = instance.spec;
    const queuedMs = performance.now();
    this.#building = true;
    let resume = (): void => undefined;
    const work = this.#parts.buildsInFlight.run(key, null, () =>
      this.#parts.buildQueue.run(async () => {
        if (instance.phase !== "live") return null;
        // Heavy requests that would block others now will have a thread of their own in a moment.
        resume = instance.cell.pause(tenant);
        setTimeout(resume, maxHoldMs).unref();
        const purpose = { kind: "quarantine", tenant } as const;
        const built = await this.#parts.builder.build(instance.latest, purpose, patienceMs, queuedMs);
        // Most of the tenant's load is already waiting in the old cell, so that moves too.
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
      // The failure was observed by the builder.
      .catch(() => {
        this.#notBeforeMs = performance.now() + retryMs;
      })
      .finally(() => {
        this.#building = false;
        resume();
      });
  }

  /** Ends the quarantine; the tenant is served with all others again. */
  #release(instance: Instance, why: "calm" | "capacity"): void {
    const { reservedFor, spec, cell } = instance;
    if (reservedFor === null) return;
    this.#observe({ kind: "tenant.released", tenant: reservedFor, key: spec.key, cell: cell.id, why });
    void this.#parts.eviction.retire(instance, why === "calm" ? "idle" : "capacity");
  }

  /** Gives up one quarantine because another build needs the room; false if there is none. */
  concede(): boolean {
    const [first] = this.#parts.registry.published.filter(
      ({ reservedFor, phase }) => reservedFor !== null && phase === "live",
    );
    if (first === undefined) return false;
    this.#notBeforeMs = performance.now() + retryMs;
    this.#release(first, "capacity");
    return true;
  }
}

/** The tenant's share of the time that the samples cover. */
function shareOf(samples: readonly UsageSample[]): number {
  const { spanMs, busyMs } = sumsOver(samples, Number.POSITIVE_INFINITY);
  return spanMs === 0 ? 0 : busyMs / spanMs;
}
