/** All cells of the process; the only owner of their mutable state. */

import type { EvictionReason, Observe, TerminationReason } from "../observability/observation.ts";
import { Condition } from "../shared/kernel/condition.ts";
import { HostError, toHostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import { BoundedSemaphore, type SemaphoreState } from "../shared/kernel/semaphore.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { BuildParts } from "./build-parts.ts";
import { Builder } from "./builder.ts";
import { BuildsInFlight, failureIsLeadersAlone } from "./builds-in-flight.ts";
import type { Cell, CellOptions } from "./cell/cell.ts";
import { CrashBackoff } from "./crash-backoff.ts";
import { Eviction } from "./eviction.ts";
import { assertCurrent, checkQuickly } from "./freshness.ts";
import { HeldBuilds } from "./held-builds.ts";
import type { BuildRequest, Instance } from "./instance.ts";
import type { CapacityPlan } from "./policy/capacity.ts";
import { Quarantine, type QuarantineRules } from "./quarantine.ts";
import { Registry } from "./registry.ts";
import { Replacement } from "./replacement.ts";
import { Replicas } from "./replicas.ts";
import { Spares } from "./spares.ts";

export interface FleetOptions {
  readonly plan: CapacityPlan;
  readonly setup: CellOptions["setup"];
  readonly entry?: URL;
  readonly youngMb: number;
  readonly instanceHeapMb: number;
  readonly drainTimeoutMs: number;
  readonly idleTtlMs: number;
  /** Maximum number of cells that may serve one key. */
  readonly replicas: number;
  /** How much of a cell a tenant may use before it is isolated. */
  readonly quarantine: QuarantineRules;
  readonly builds: { readonly concurrency: number; readonly queue: number; readonly timeoutMs: number };
  readonly observe: Observe;
  /** Called when a build found that its instance cannot be shared, whether or not anyone still waits for it. */
  readonly onUnshareable: (spec: BlueprintSpec, error: HostError) => void;
  /** Told which plugins of its preset a build of the full shape found not to be known. */
  readonly onPlugins: (spec: BlueprintSpec, unknown: readonly string[]) => void;
  /** Called when a thread has ended, so that the backends it left in PostgreSQL can be cancelled. */
  readonly onCellGone: (applicationName: string) => void;
}

export interface LeaseRequest extends BuildRequest {
  readonly tenant: TenantId;
  /** Changes whenever the tenant's schemas change. */
  readonly version: string;
  /** When the request arrived. */
  readonly sinceMs: number;
}

/** A live instance for one request; call `release` exactly once, when nothing of the request runs any more. */
export interface Lease {
  readonly instance: Instance;
  readonly cell: Cell;
  release(): void;
}

/** A decision that is older than this is verified again before it is built. */
const staleMs = 100;
/**
 * Upper bound for finding out whether a failed build still matched its schemas: usually 15 to 30 ms, and a
 * client is waiting.
 */
const proofMs = 2_000;
/** How long no spare is kept after one was given up because memory was short. */
const restMs = 60_000;

export class Fleet {
  readonly registry = new Registry();
  readonly #options: FleetOptions;
  readonly #buildQueue: BoundedSemaphore;
  readonly #buildsInFlight: BuildsInFlight;
  readonly #changed = new Condition();
  readonly #crashBackoff = new CrashBackoff();
  readonly #held = new HeldBuilds();
  readonly #spares: Spares;
  readonly #eviction: Eviction;
  readonly #builder: Builder;
  readonly #replacement: Replacement;
  readonly #replicas: Replicas;
  readonly #quarantine: Quarantine;
  #leases = 0;
  #closed = false;

  constructor(options: FleetOptions) {
    this.#options = options;
    const { registry } = this;
    const changed = this.#changed;
    this.#buildQueue = new BoundedSemaphore(options.builds, () => new HostError("BUILD_QUEUE_FULL"));
    this.#buildsInFlight = new BuildsInFlight(changed);
    this.#spares = new Spares(
      { ...options, onGone: (cell, reason) => this.#onGone(cell, reason) },
      registry,
      changed,
    );
    this.#eviction = new Eviction(options, registry, changed);
    this.#builder = new Builder(
      { ...options, timeoutMs: options.builds.timeoutMs },
      { registry, spares: this.#spares, eviction: this.#eviction, crashBackoff: this.#crashBackoff, changed },
    );
    const parts: BuildParts = {
      registry,
      eviction: this.#eviction,
      builder: this.#builder,
      buildQueue: this.#buildQueue,
      buildsInFlight: this.#buildsInFlight,
      changed,
    };
    this.#replacement = new Replacement(options, parts);
    this.#replicas = new Replicas(options.replicas, parts);
    this.#quarantine = new Quarantine(options, parts);
    this.#builder.onFull(() => this.#quarantine.concede());
  }

  /** Starts the warm spares; at least one cell is started before the first request. */
  open(): void {
    this.#spares.refill(Math.max(1, this.#options.plan.spare));
  }

  get builds(): SemaphoreState {
    return this.#buildQueue.state;
  }

  get evictions(): number {
    return this.#eviction.evictions;
  }

  /** For every database: whether it refused a write of some cell because it is read-only, and would do so again. */
  get readOnly(): Readonly<Record<string, boolean>> {
    const found = new Set([...this.registry.cells].flatMap(({ readOnly }) => readOnly));
    const names = Object.keys(this.#options.setup.databases);
    return Object.fromEntries(names.map((name) => [name, found.has(name)]));
  }

  /** Number of leases given so far. */
  get leases(): number {
    return this.#leases;
  }

  /** False while threads fail to start. */
  get healthy(): boolean {
    return this.#spares.healthy;
  }

  /**
   * A lease on the instance of the request's key. If there is none it is built, once for all concurrent
   * requests. Rejects with what `Builder.build` throws, `BUILD_QUEUE_FULL`, and `BUILD_HELD` for a key that ended
   * threads repeatedly. For a key that recently failed to build it rethrows that error with the time until
   * the next try, without building.
   */
  lease(request: LeaseRequest): MaybePromise<Lease> {
    const current = this.#closed ? undefined : this.registry.current(request.spec.key, request.tenant);
    return current === undefined ? this.#build(request) : this.#acquire(current, request);
  }

  async #build(request: LeaseRequest): Promise<Lease> {
    const { key } = request.spec;
    let doubtful = false;
    for (;;) {
      if (this.#closed) throw new HostError("SHUTTING_DOWN");
      const current = this.registry.current(key, request.tenant);
      if (current !== undefined) return this.#acquire(current, request);
      const refusal = this.#held.refusal(key, request, performance.now());
      if (refusal !== undefined) throw refusal;
      const leader = this.#buildsInFlight.leader(key);
      try {
        await this.#buildsInFlight.run(key, request.tenant, () => this.#admit(request, doubtful));
      } catch (thrown) {
        const error = toHostError(thrown);
        if (leader === undefined || !failureIsLeadersAlone(error, leader, request.tenant, doubtful))
          throw error;
        doubtful = true;
      }
    }
  }

  #acquire(instance: Instance, request: LeaseRequest): Lease {
    this.#leases += 1;
    instance.acquireFor(request.tenant, request, performance.now());
    return {
      instance,
      cell: instance.cell,
      release: () => {
        instance.release(performance.now());
        if (instance.inFlight === 0) this.#changed.notify();
      },
    };
  }

  async #admit(request: LeaseRequest, doubtful: boolean): Promise<Instance> {
    const { key } = request.spec;
    const heldMs = this.#crashBackoff.heldForMs(key, performance.now());
    if (heldMs > 0) {
      const retryAfterSeconds = Math.ceil(heldMs / 1000);
      throw new HostError(
        "BUILD_HELD",
        `${key} is held back for ${retryAfterSeconds} s because its worker crashed repeatedly`,
        {
          retryAfterSeconds,
        },
      );
    }
    const { timeoutMs } = this.#options.builds;
    const queuedMs = performance.now();
    // Another tenant's build was overtaken by a change: check whether this one's would be in vain as well.
    if (doubtful) await assertCurrent(request, queuedMs + timeoutMs);
    try {
      const built = await this.#buildQueue.run(async () => {
        // A build costs fifty times as much as this check, and much may have changed during a long wait in
        // the queue.
        if (performance.now() - queuedMs > staleMs) await checkQuickly(request);
        return this.#builder.build(request, { kind: "first" }, timeoutMs, queuedMs);
      }, request.sinceMs);
      this.#held.forget(key);
      return built;
    } catch (thrown) {
      throw await this.#failed(request, toHostError(thrown));
    }
  }

  /**
   * The error to report for a failed build; recorded if it is the key's own fault. Transient failures (503)
   * are not recorded. If the schema changed or was dropped meanwhile, that error is returned instead.
   */
  async #failed(request: LeaseRequest, error: HostError): Promise<HostError> {
    if (error.status !== 500) return error;
    const nowMs = performance.now();
    try {
      await assertCurrent(request, nowMs + proofMs);
    } catch (thrown) {
      const doubt = toHostError(thrown);
      return doubt.status === 500 || doubt.code === "BUILD_TIMEOUT" ? error : doubt;
    }
    if (error.code === "BUILD_NOT_SHAREABLE" || error.code === "BUILD_READS_MORE") {
      this.#options.onUnshareable(request.spec, error);
      return error;
    }
    this.#held.note(request.spec.key, request, error, nowMs);
    return this.#held.refusal(request.spec.key, request, nowMs) ?? error;
  }

  /** Lets keys that failed to build be tried at once; returns how many there were. */
  tryAgain(chosen: (key: InstanceKey) => boolean): number {
    return this.#held.forgetWhere(chosen);
  }

  /** Builds a cell's instances elsewhere, switches to each as it becomes ready, then drains and ends the cell. */
  replace(cell: Cell): Promise<void> {
    return this.#replacement.replace(cell);
  }

  /**
   * Takes the instances picked by `chosen` out of service; returns their keys at once while they drain in the
   * background.
   */
  evict(chosen: (instance: Instance) => boolean, reason: EvictionReason): readonly InstanceKey[] {
    const picked = this.registry.published.filter(chosen);
    for (const instance of picked) void this.#eviction.retire(instance, reason);
    return picked.map((instance) => instance.spec.key);
  }

  /** Evicts instances that were idle for `idleTtl`, and starts cells that should exist but failed to start. */
  sweep(nowMs: number): void {
    const { idleTtlMs, plan } = this.#options;
    this.#replicas.look();
    this.#quarantine.look(nowMs);
    this.evict((instance) => instance.inFlight === 0 && nowMs - instance.lastUsedMs > idleTtlMs, "idle");
    // A host that is not ready receives no requests, so it has to retry on its own.
    this.#spares.refill(this.#spares.failing ? Math.max(1, plan.spare) : plan.spare);
  }

  /**
   * Gives up a warm spare, or else the least recently used idle cell, because the process exceeds its memory
   * despite the budgets.
   */
  relieve(): void {
    this.#spares.rest(restMs);
    const isIdle = (instance: Instance): boolean => instance.phase === "live" && instance.inFlight === 0;
    const lastUse = (cell: Cell): number =>
      Math.max(...this.registry.instancesOf(cell).map((instance) => instance.lastUsedMs));
    const spare = this.registry.cells.find((cell) => cell.phase === "spare");
    const [idle] = this.registry.cells
      .filter((cell) => cell.phase === "serving" && this.registry.instancesOf(cell).every(isIdle))
      .toSorted((a, b) => lastUse(a) - lastUse(b));
    const cell = spare ?? idle;
    if (cell !== undefined) void this.#eviction.end(cell, "evicted", "capacity");
  }

  /** Drains and ends every cell. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#spares.close();
    this.#builder.close();
    this.#changed.notify();
    await Promise.all(this.registry.cells.map((cell) => this.#eviction.end(cell, "shutdown", "shutdown")));
  }

  #onGone(cell: Cell, reason: TerminationReason): void {
    const members = this.registry.removeCell(cell);
    if (
      reason === "crashed" ||
      reason === "over-budget" ||
      reason === "stalled" ||
      reason === "build-timeout"
    ) {
      this.#crashBackoff.note(members, performance.now());
    }
    for (const instance of members) this.#eviction.forget(instance, "cell-lost");
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
    this.#spares.refill();
    this.#changed.notify();
  }
}
