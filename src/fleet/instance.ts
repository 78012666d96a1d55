/** One PostGraphile schema, built or building, in one cell; its identity does not depend on its key. */
import type { TenantId } from "../shared/kernel/ids.ts";
import { type InstancePhase, instanceStep } from "../shared/kernel/phase.ts";
import type { BlueprintSpec } from "../shared/model/blueprint-spec.ts";
import type { Cell } from "./cell/cell.ts";

export interface BuildRequest {
  readonly spec: BlueprintSpec;
  /** Whether the schemas that the build began with are still current; asked after the build, before publishing. */
  readonly verify: () => Promise<boolean>;
}

export class Instance {
  readonly id: number;
  readonly spec: BlueprintSpec;
  readonly cell: Cell;
  /** Alone in its cell because it was present when a thread ended: the next end shows whether it is the cause. */
  readonly exclusive: boolean;
  /** The only tenant that it serves, which took more than its share elsewhere; null: any tenant. */
  readonly reservedFor: TenantId | null;
  /** Tenants that it has served. */
  readonly tenants = new Set<TenantId>();
  /** In MB; an estimate until it is measured. */
  heapMb: number;
  measured = false;
  requests = 0;
  lastUsedMs: number;
  /**
   * The build request of the last tenant served, used for a rebuild: the tenant that it was first built for
   * may have moved to another shape long ago.
   */
  latest: BuildRequest;
  #phase: InstancePhase = "building";
  #inFlight = 0;
  #idle: (() => void)[] = [];

  constructor(input: {
    id: number;
    request: BuildRequest;
    cell: Cell;
    exclusive: boolean;
    reservedFor: TenantId | null;
    heapMb: number;
    nowMs: number;
  }) {
    this.id = input.id;
    this.latest = input.request;
    this.spec = input.request.spec;
    this.cell = input.cell;
    this.exclusive = input.exclusive;
    this.reservedFor = input.reservedFor;
    this.heapMb = input.heapMb;
    this.lastUsedMs = input.nowMs;
  }

  get phase(): InstancePhase {
    return this.#phase;
  }

  set phase(to: InstancePhase) {
    this.#phase = instanceStep(this.#phase, to);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  acquireFor(tenant: TenantId, request: BuildRequest, nowMs: number): void {
    this.tenants.add(tenant);
    this.requests += 1;
    this.latest = request;
    this.acquire(nowMs);
  }

  /** Counts as a request in flight so that the instance is not considered idle; `release` ends it. */
  acquire(nowMs: number): void {
    this.#inFlight += 1;
    this.lastUsedMs = nowMs;
  }

  release(nowMs: number): void {
    this.#inFlight -= 1;
    this.lastUsedMs = nowMs;
    if (this.#inFlight > 0) return;
    for (const wake of this.#idle.splice(0)) wake();
  }

  /** Resolves when no request is in flight, or after `timeoutMs`. */
  async idle(timeoutMs: number): Promise<void> {
    if (this.#inFlight === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle.push(resolve);
    const timer = setTimeout(resolve, timeoutMs);
    await promise;
    clearTimeout(timer);
  }
}
