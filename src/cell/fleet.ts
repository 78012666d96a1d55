/** All the cells of the process, and the only owner of what changes about them. */
import { HostError } from "../kernel/errors.ts";
import type { InstanceKey, TenantId } from "../kernel/ids.ts";
import type { EvictionReason, Observe, TerminationReason } from "../kernel/observation.ts";
import { Signal } from "../kernel/signal.ts";
import { SingleFlight } from "../kernel/single-flight.ts";
import { Admission, type AdmissionState } from "./admission.ts";
import { Builder, type BuildRequest } from "./builder.ts";
import type { CapacityPlan } from "./capacity.ts";
import type { Cell, CellOptions } from "./cell.ts";
import type { Instance } from "./instance.ts";
import { Retirement } from "./retirement.ts";
import { Roster } from "./roster.ts";
import { Strikes } from "./strikes.ts";
import { Supply } from "./supply.ts";

export interface FleetOptions {
  readonly plan: CapacityPlan;
  readonly setup: CellOptions["setup"];
  readonly entry?: URL;
  readonly youngMb: number;
  readonly instanceHeapMb: number;
  readonly drainTimeoutMs: number;
  readonly idleTtlMs: number;
  readonly builds: { readonly concurrency: number; readonly queue: number; readonly timeoutMs: number };
  readonly observe: Observe;
  /** Called when a thread has ended, so that what it left in PostgreSQL can be stopped. */
  readonly onCellGone: (applicationName: string) => void;
}

export interface LeaseRequest extends BuildRequest {
  readonly tenant: TenantId;
}

/** A live instance for one request; `release` must be called exactly once, when nothing of the request runs any more. */
export interface Lease {
  readonly instance: Instance;
  readonly cell: Cell;
  release(): void;
}

/** How long a replacement waits for room before its predecessor is drained without one. */
const replacementPatienceMs = 5_000;

export class Fleet {
  readonly roster = new Roster();
  readonly #options: FleetOptions;
  readonly #admission: Admission;
  readonly #building = new SingleFlight<InstanceKey, void>();
  readonly #changed = new Signal();
  readonly #strikes = new Strikes();
  readonly #supply: Supply;
  readonly #retirement: Retirement;
  readonly #builder: Builder;
  #closed = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { roster } = this;
    const changed = this.#changed;
    this.#admission = new Admission(options.builds);
    this.#supply = new Supply(
      { ...options, onGone: (cell, reason) => this.#onGone(cell, reason) },
      roster,
      changed,
    );
    this.#retirement = new Retirement(options, roster, changed);
    this.#builder = new Builder(
      { ...options, timeoutMs: options.builds.timeoutMs },
      { roster, supply: this.#supply, retirement: this.#retirement, strikes: this.#strikes, changed },
    );
  }

  /** Starts the warm spares; at least one cell is up before the first request. */
  open(): void {
    this.#supply.refill(Math.max(1, this.#options.plan.spare));
  }

  get builds(): AdmissionState {
    return this.#admission.state;
  }

  get evictions(): number {
    return this.#retirement.evictions;
  }

  /** False while threads fail to start. */
  get healthy(): boolean {
    return this.#supply.healthy;
  }

  /**
   * A lease on the instance of the request's key, building it first where there is none: once, however many ask.
   * Throws what `Builder.build` throws, `BUILD_QUEUE_FULL`, and `BUILD_HELD` for a key that ended threads repeatedly.
   */
  async lease(request: LeaseRequest): Promise<Lease> {
    const { key } = request.spec;
    for (;;) {
      if (this.#closed) throw new HostError("SHUTTING_DOWN");
      const instance = this.roster.current(key);
      if (instance !== undefined) return this.#enter(instance, request.tenant);
      await this.#building.run(key, () => this.#admit(request));
    }
  }

  #enter(instance: Instance, tenant: TenantId): Lease {
    instance.enter(tenant, performance.now());
    return {
      instance,
      cell: instance.cell,
      release: () => {
        instance.leave(performance.now());
        if (instance.inFlight === 0) this.#changed.notify();
      },
    };
  }

  async #admit(request: BuildRequest): Promise<void> {
    const { key } = request.spec;
    const heldMs = this.#strikes.heldForMs(key);
    if (heldMs > 0) throw new HostError("BUILD_HELD", `${key} is held back for ${Math.ceil(heldMs)} ms`);
    const queuedMs = performance.now();
    await this.#admission.run(async () => {
      await this.#builder.build(request, null, this.#options.builds.timeoutMs, queuedMs);
    });
  }

  /** Builds a cell's instances elsewhere, switches each as it is ready, then drains and ends the cell. */
  async replace(cell: Cell): Promise<void> {
    if (cell.phase !== "serving") return;
    cell.phase = "condemned";
    const { observe } = this.#options;
    observe({
      kind: "cell.condemned",
      cell: cell.id,
      heapUsedMb: cell.heap.usedMb,
      heapBudgetMb: cell.heapMb,
    });
    const recent = this.roster.instancesOf(cell).toSorted((a, b) => b.lastUsedMs - a.lastUsedMs);
    for (const instance of recent) {
      if (instance.phase !== "live" || cell.phase !== "condemned") continue;
      const rebuild = (): Promise<void> =>
        this.#admission.run(() =>
          this.#builder.build(instance, cell.id, replacementPatienceMs, performance.now()),
        );
      try {
        await this.#building.run(instance.spec.key, rebuild);
      } catch {
        // Observed where it failed. What is left is drained with its cell and comes back on demand.
        break;
      }
    }
    await this.#retirement.end(cell, "replaced", "stale");
  }

  /** Takes what `chosen` picks out of service; returns the keys at once, they drain meanwhile. */
  evict(chosen: (instance: Instance) => boolean, reason: EvictionReason): readonly InstanceKey[] {
    const picked = this.roster.published.filter(chosen);
    for (const instance of picked) void this.#retirement.retire(instance, reason);
    return picked.map((instance) => instance.spec.key);
  }

  /** Evicts instances that were not used for `idleTtl`. */
  sweep(nowMs: number): void {
    const { idleTtlMs } = this.#options;
    this.evict((instance) => instance.inFlight === 0 && nowMs - instance.lastUsedMs > idleTtlMs, "idle");
  }

  /** Gives up the warm spares, or else the idle cell that was used least recently: memory beyond the budgets is short. */
  relieve(): void {
    const spare = this.roster.cells.find((cell) => cell.phase === "spare");
    const lastUse = (cell: Cell): number =>
      Math.max(...this.roster.instancesOf(cell).map((instance) => instance.lastUsedMs));
    const [idle] = this.roster.cells
      .filter((cell) => cell.phase === "serving" && cell.inFlight === 0)
      .toSorted((a, b) => lastUse(a) - lastUse(b));
    const cell = spare ?? idle;
    if (cell !== undefined) void this.#retirement.end(cell, "evicted", "capacity");
  }

  /** Drains and ends every cell. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#supply.close();
    this.#builder.close();
    this.#changed.notify();
    await Promise.all(this.roster.cells.map((cell) => this.#retirement.end(cell, "shutdown", "shutdown")));
  }

  #onGone(cell: Cell, reason: TerminationReason): void {
    const members = this.roster.removeCell(cell);
    if (
      reason === "crashed" ||
      reason === "over-budget" ||
      reason === "stalled" ||
      reason === "build-timeout"
    ) {
      this.#strikes.note(members);
    }
    for (const instance of members) this.#retirement.forget(instance, "cell-lost");
    const { observe, onCellGone } = this.#options;
    observe({
      kind: "cell.terminated",
      cell: cell.id,
      reason,
      heapUsedMb: cell.heap.usedMb,
      inFlight: cell.inFlight,
      instances: members.length,
    });
    onCellGone(cell.applicationName);
    this.#supply.refill();
    this.#changed.notify();
  }
}
