/** One built, or building, PostGraphile schema in one cell: an identity of its own, whatever its key. */
import type { TenantId } from "../shared/kernel/ids.ts";
import { type InstancePhase, instanceStep } from "../shared/kernel/phase.ts";
import type { BlueprintSpec } from "../shared/protocol/messages.ts";
import type { Cell } from "./cell/cell.ts";

export interface BuildRequest {
  readonly spec: BlueprintSpec;
  /** Whether what the build began with is still current; asked after the build, before it is published. */
  readonly verify: () => Promise<boolean>;
}

export class Instance {
  readonly id: number;
  readonly spec: BlueprintSpec;
  readonly cell: Cell;
  /** Alone in its cell: it was there when a thread ended, and the next end is to say whose doing it was. */
  readonly exclusive: boolean;
  /** The only tenant that it serves, which took more than its share elsewhere; null: any. */
  readonly reservedFor: TenantId | null;
  /** Tenants that it has served. */
  readonly tenants = new Set<TenantId>();
  /** An estimate until it is measured. */
  heapMb: number;
  measured = false;
  requests = 0;
  lastUsedMs: number;
  /**
   * What the last to be served would have had it built with: it is rebuilt on that. The tenant that it was first
   * built for may have moved to another shape long ago.
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

  enter(tenant: TenantId, request: BuildRequest, nowMs: number): void {
    this.tenants.add(tenant);
    this.requests += 1;
    this.latest = request;
    this.hold(nowMs);
  }

  /** Counts as a request in flight, so that nobody takes it for idle; `leave` ends it. */
  hold(nowMs: number): void {
    this.#inFlight += 1;
    this.lastUsedMs = nowMs;
  }

  leave(nowMs: number): void {
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
