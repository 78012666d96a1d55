/** Builds instances: reserves room, enforces the build timeout, and publishes only what is still current. */
import { availableParallelism } from "node:os";
import { LRUCache } from "lru-cache";
import type { Observe } from "../observability/observation.ts";
import type { Condition } from "../shared/kernel/condition.ts";
import { HostError, toHostError, unreachable } from "../shared/kernel/errors.ts";
import type { CellId, InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { BuildReport } from "../shared/protocol/messages.ts";
import type { CrashBackoff } from "./crash-backoff.ts";
import type { Eviction } from "./eviction.ts";
import { assertCurrent } from "./freshness.ts";
import { type BuildRequest, Instance } from "./instance.ts";
import { type CapacityPlan, fillShare, moduleHeapMb } from "./policy/capacity.ts";
import { decidePlacement, type Placement } from "./policy/placement.ts";
import { isServing, type Registry } from "./registry.ts";
import type { Spares } from "./spares.ts";

/** Why an instance is built. */
export type BuildPurpose =
  /** No instance serves the key yet. */
  | { readonly kind: "first" }
  /** Takes over from an instance that has to leave its cell. */
  | { readonly kind: "successor"; readonly of: Instance }
  /** Added in another cell beside those that serve the key; evicts nothing to get room. */
  | { readonly kind: "replica" }
  /** A replica for one tenant alone, in a cell of its own. */
  | { readonly kind: "quarantine"; readonly tenant: TenantId };

export interface BuilderOptions {
  readonly plan: CapacityPlan;
  readonly instanceHeapMb: number;
  readonly timeoutMs: number;
  readonly observe: Observe;
  /** Told which plugins of its preset a build of the full shape found not to be known. */
  readonly onPlugins: (spec: BlueprintSpec, unknown: readonly string[]) => void;
}

const mb = 1024 * 1024;
/**
 * Some events free room without a notification, for example a collection that finds a heap smaller than it
 * seemed.
 */
const lookAgainMs = 1_000;
/** Bounds the set of warnings: a preset function may produce a different name each time. */
const maxLogged = 100;

export class Builder {
  readonly #options: BuilderOptions;
  readonly #registry: Registry;
  readonly #spares: Spares;
  readonly #eviction: Eviction;
  readonly #crashBackoff: CrashBackoff;
  readonly #changed: Condition;
  /** Measured heap of past instances by key, in MB: the estimate for the next build of the same key. */
  readonly #measuredMb = new LRUCache<InstanceKey, number>(lazyLru(10_000));
  /** Preset warnings that were already logged. */
  readonly #logged = new Set<string>();
  readonly #unfitPatches = new Set<string>();
  #ordinal = 0;
  #closed = false;
  #concede: () => void = () => undefined;

  constructor(
    options: BuilderOptions,
    parts: {
      registry: Registry;
      spares: Spares;
      eviction: Eviction;
      crashBackoff: CrashBackoff;
      changed: Condition;
    },
  ) {
    this.#options = options;
    this.#registry = parts.registry;
    this.#spares = parts.spares;
    this.#eviction = parts.eviction;
    this.#crashBackoff = parts.crashBackoff;
    this.#changed = parts.changed;
  }

  close(): void {
    this.#closed = true;
  }

  /** Registers `concede`, which is called when a build finds no room and gives up what is needed least. */
  onFull(concede: () => void): void {
    this.#concede = concede;
  }

  /**
   * Builds an instance and publishes it; the instance that it succeeds, if any, is drained. The result is
   * held: the caller calls `release`. `patienceMs` is how long to wait for room. Throws
   * `BUILD_FAILED`, `BUILD_TIMEOUT`, `BUILD_NOT_SHAREABLE`, `NO_CAPACITY`, `CELL_LOST`, `SHUTTING_DOWN`,
   * `SCHEMA_CHANGED` if a change overtook the build, and whatever the request's `verify` throws.
   */
  async build(
    request: BuildRequest,
    purpose: BuildPurpose,
    patienceMs: number,
    queuedMs: number,
  ): Promise<Instance> {
    const { observe } = this.#options;
    const { key } = request.spec;
    const instance = await this.#place(request, purpose, performance.now() + patienceMs);
    const { cell } = instance;
    const startedMs = performance.now();
    observe({ kind: "build.started", key, cell: cell.id, queuedMs: startedMs - queuedMs });
    try {
      const report = await this.#buildInTime(instance);
      const { buildMs, heapBytes, types, unhonoured, unfitPatches } = report;
      this.#warnOf(unhonoured);
      this.#warnOfPatches(unfitPatches);
      cell.heap.built(report, performance.now());
      if (heapBytes !== null) this.#measured(instance, heapBytes / mb);
      else void cell.heap.sizeOf(instance.id).then((heapMb) => this.#measured(instance, heapMb));
      await assertCurrent(request, startedMs + this.#timeoutMs(request.spec));
      // A condemned cell still serves, and its replacement will move this instance as well.
      if (!isServing(cell)) throw new HostError("CELL_LOST", `cell ${cell.id} ended while building ${key}`);
      instance.phase = "live";
      instance.acquire(performance.now());
      this.#registry.publish(instance);
      if (purpose.kind === "successor") void this.#eviction.retire(purpose.of, "stale");
      observe({ kind: "build.done", key, cell: cell.id, buildMs, types });
      if (request.spec.shape === "full") this.#options.onPlugins(request.spec, report.unknownPlugins);
      return instance;
    } catch (thrown) {
      const error = this.#closed ? new HostError("SHUTTING_DOWN") : toHostError(thrown);
      observe({ kind: "build.failed", key, code: error.code, error, buildMs: performance.now() - startedMs });
      this.#discard(instance);
      throw error;
    } finally {
      this.#spares.refillSoon();
      this.#changed.notify();
    }
  }

  /** Logs once which parts of the preset the host ignores; the same preset is used for every instance. */
  #warnOf(unhonoured: readonly string[]): void {
    const unlogged = unhonoured
      .filter((each) => !this.#logged.has(each))
      .slice(0, maxLogged - this.#logged.size);
    if (unlogged.length === 0) return;
    for (const each of unlogged) this.#logged.add(each);
    this.#options.observe({
      kind: "config.warning",
      path: "preset",
      message: `the host ignores ${unlogged.join("; ")}`,
    });
  }

  /** Once for each in the life of the process, whichever thread and build it is that finds out. */
  #warnOfPatches(unfit: readonly string[]): void {
    for (const name of unfit) {
      if (this.#unfitPatches.has(name)) continue;
      this.#unfitPatches.add(name);
      const reason =
        "the version is supported, but its members are not as expected: other code has changed them";
      this.#options.observe({ kind: "patch.state", name, state: "plain", reason });
    }
  }

  #measured(instance: Instance, heapMb: number): void {
    const { cell, spec } = instance;
    // Requests may have freed memory during the build, so the difference can be zero or negative.
    instance.heapMb = Math.max(1, heapMb);
    instance.measured = true;
    this.#measuredMb.set(spec.key, instance.heapMb);
    this.#options.observe({
      kind: "instance.measured",
      key: spec.key,
      cell: cell.id,
      heapMb: instance.heapMb,
    });
    this.#changed.notify();
  }

  #timeoutMs(spec: BlueprintSpec): number {
    return this.#options.timeoutMs * schemasMade(spec);
  }

  async #buildInTime(instance: Instance): Promise<BuildReport> {
    const timeoutMs = this.#timeoutMs(instance.spec);
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      void instance.cell.terminate("build-timeout");
    }, timeoutMs);
    try {
      return await instance.cell.build(instance.id, instance.spec);
    } catch (error) {
      throw late ? new HostError("BUILD_TIMEOUT", `the build took longer than ${timeoutMs} ms`) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** A failed build may have left anything behind, so a cell that holds nothing else is ended with it. */
  #discard(instance: Instance): void {
    const { cell } = instance;
    this.#eviction.forget(instance, "stale");
    if (cell.phase !== "serving") return;
    if (this.#registry.instancesOf(cell).length === 0) void cell.terminate("evicted");
    else void cell.release(instance.id).catch(() => undefined);
  }

  /** Reserves room for an instance: makes some if there is none, and waits until it is there. */
  async #place(request: BuildRequest, purpose: BuildPurpose, deadlineMs: number): Promise<Instance> {
    const { plan, instanceHeapMb } = this.#options;
    const { key } = request.spec;
    const oneMb = this.#measuredMb.get(key) ?? instanceHeapMb;
    // Two schemas may need more than an empty cell has; as no cell has more, nothing is gained by asking for it.
    const roomMb = Math.max(oneMb, plan.heapMb * fillShare - moduleHeapMb);
    const heapMb = Math.min(oneMb * schemasMade(request.spec), roomMb);
    const silent = new Set<CellId>();
    const reservedFor = purpose.kind === "quarantine" ? purpose.tenant : null;
    const exclusive =
      reservedFor !== null || (plan.cells > 1 && this.#crashBackoff.isSuspect(key, performance.now()));
    for (;;) {
      if (this.#closed) throw new HostError("SHUTTING_DOWN");
      const step = decidePlacement({
        cells: this.#registry.placed(),
        mayStart: this.#spares.pauseMs(performance.now()) === 0,
        maxCells: plan.cells,
        maxInstances: plan.instances,
        spread: availableParallelism(),
        needMb: heapMb,
        exclusive,
        avoid: this.#avoided(key, purpose),
        silent,
      });
      if (step.kind === "place") {
        return this.#reserve(request, step.cell, { heapMb, exclusive, reservedFor });
      }
      const nowMs = performance.now();
      const isExtra = purpose.kind === "replica" || purpose.kind === "quarantine";
      if (isExtra && !this.#isFree(step)) throw new HostError("NO_CAPACITY");
      // A tenant's private instance is the first to go.
      if (!isExtra && this.#takesRoom(step)) this.#concede();
      if (nowMs >= deadlineMs) throw new HostError("NO_CAPACITY");
      if (step.kind === "measure") silent.add(step.cell);
      await this.#makeRoom(step, deadlineMs - nowMs);
    }
  }

  /**
   * Whether a step takes nothing from anyone, and does not block other builds waiting for something that may
   * never come.
   */
  #isFree({ kind }: Placement): boolean {
    const starting = this.#registry.cells.some((cell) => cell.phase === "starting");
    return kind === "start" || kind === "measure" || (kind === "wait" && starting);
  }

  /** Whether a step evicts something, or waits for room while no cell is starting or leaving. */
  #takesRoom({ kind }: Placement): boolean {
    if (kind === "wait")
      return this.#registry.cells.every(({ phase }) => phase === "serving" || phase === "condemned");
    return kind === "evict-cell" || kind === "evict-instance";
  }

  #avoided(key: InstanceKey, purpose: BuildPurpose): ReadonlySet<CellId> {
    switch (purpose.kind) {
      case "first":
        return new Set();
      case "successor":
        return new Set([purpose.of.cell.id]);
      case "replica":
      case "quarantine":
        return new Set(this.#registry.serving(key).map(({ cell }) => cell.id));
      default:
        return unreachable(purpose);
    }
  }

  #reserve(
    request: BuildRequest,
    id: CellId,
    what: Pick<Instance, "heapMb" | "exclusive" | "reservedFor">,
  ): Instance {
    const cell = this.#registry.cell(id);
    if (cell === undefined) throw new HostError("INTERNAL", "placed in a cell that no longer exists");
    cell.phase = "serving";
    this.#ordinal += 1;
    const nowMs = performance.now();
    const instance = new Instance({ ...what, id: this.#ordinal, request, cell, nowMs });
    this.#registry.add(instance);
    return instance;
  }

  async #makeRoom(step: Exclude<Placement, { kind: "place" }>, timeoutMs: number): Promise<void> {
    switch (step.kind) {
      case "start": {
        const pauseMs = this.#spares.pauseMs(performance.now());
        if (pauseMs === 0) this.#spares.start();
        else await this.#changed.wait(Math.min(timeoutMs, pauseMs, lookAgainMs));
        return;
      }
      case "evict-cell": {
        const cell = this.#registry.cell(step.cell);
        if (cell !== undefined) void this.#eviction.end(cell, "evicted", "capacity");
        return;
      }
      case "evict-instance": {
        const instance = this.#registry.find(step.instance);
        if (instance !== undefined) void this.#eviction.retire(instance, "capacity");
        return;
      }
      case "measure": {
        const cell = this.#registry.cell(step.cell);
        cell?.collect(performance.now());
        // Other changes in the meantime say nothing about this cell.
        const untilMs = performance.now() + Math.min(timeoutMs, lookAgainMs);
        do await this.#changed.wait(untilMs - performance.now());
        while (!this.#closed && cell?.heap.collecting === true && performance.now() < untilMs);
        return;
      }
      case "wait":
        return this.#changed.wait(Math.min(timeoutMs, lookAgainMs));
      default:
        return unreachable(step);
    }
  }
}

/** How many schemas a build makes: where objects are left out, another with them shows that the API is the same. */
function schemasMade({ leftOut }: BlueprintSpec): number {
  return leftOut.length === 0 ? 1 : 2;
}
