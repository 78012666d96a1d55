/** One built, or building, PostGraphile schema in one cell: an identity of its own, whatever its key. */
import type { TenantId } from "../kernel/ids.ts";
import { type InstancePhase, instanceStep } from "../kernel/phase.ts";
import type { BlueprintSpec } from "../protocol/messages.ts";
import type { Cell } from "./cell.ts";

export class Instance {
  readonly id: number;
  readonly spec: BlueprintSpec;
  readonly cell: Cell;
  /** Alone in its cell: it was there when a thread ended, and the next end is to say whose doing it was. */
  readonly exclusive: boolean;
  /** Whether what it was built on is still current. */
  readonly verify: () => Promise<boolean>;
  /** Tenants that it has served. */
  readonly tenants = new Set<TenantId>();
  heapMb: number;
  requests = 0;
  lastUsedMs: number;
  #phase: InstancePhase = "building";
  #inFlight = 0;
  #idle: (() => void)[] = [];

  constructor(input: {
    id: number;
    spec: BlueprintSpec;
    cell: Cell;
    exclusive: boolean;
    verify: () => Promise<boolean>;
    heapMb: number;
    nowMs: number;
  }) {
    this.id = input.id;
    this.spec = input.spec;
    this.cell = input.cell;
    this.exclusive = input.exclusive;
    this.verify = input.verify;
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

  enter(tenant: TenantId, nowMs: number): void {
    this.tenants.add(tenant);
    this.requests += 1;
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
