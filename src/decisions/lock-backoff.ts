/** Keeps tenants whose schema is locked from delaying the decisions of others. */
import { LRUCache } from "lru-cache";
import { HostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import type { TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import { SingleFlight } from "../shared/kernel/single-flight.ts";
import type { Tenant } from "../tenants/tenant.ts";
import type { Decision } from "./decision.ts";
import { schemaLocked } from "./probe.ts";

export interface LockBackoffOptions {
  readonly decisions: {
    decide(tenant: Tenant): MaybePromise<Decision>;
    peek(tenant: TenantId): Decision | undefined;
    verify(decision: Decision): Promise<boolean>;
    forget(tenant: TenantId): void;
  };
  readonly clock?: { now(): number };
}

interface Pause {
  readonly tenant: Tenant;
  readonly failures: number;
  readonly untilMs: number;
}

/** Short, so that a finished change is noticed soon; a lock wait takes 3 s on one of the few probe connections. */
const firstPauseMs = 1_000;
const longestPauseMs = 10_000;
/** After this long a tenant is treated like any other. */
const forgottenMs = 60_000;

/**
 * A tenant that locks its own table blocks every probe of its shape, and only time helps. After a first
 * timeout the tenant is probed after growing pauses, and only one such tenant at a time: the other
 * connections are for tenants that are not locked.
 */
export class LockBackoff {
  readonly #decisions: LockBackoffOptions["decisions"];
  readonly #clock: { now(): number };
  readonly #pauses: LRUCache<TenantId, Pause>;
  /** Keyed by record: the answer for one record does not apply to another of the same tenant. */
  readonly #again = new SingleFlight<Tenant, Decision>();
  readonly #semaphore = new BoundedSemaphore({ concurrency: 1, queue: 10 }, () => {
    return new HostError("LOCK_TIMEOUT", "too many tenants are waiting for locked schemas", {
      retryAfterSeconds: 3,
    });
  });

  constructor({ decisions, clock = performance }: LockBackoffOptions) {
    this.#decisions = decisions;
    this.#clock = clock;
    this.#pauses = new LRUCache({ ...lazyLru(10_000), ttl: forgottenMs, perf: clock, ttlResolution: 0 });
  }

  /**
   * The decision for `tenant`; rejects with `LOCK_TIMEOUT` at once if its schema was locked a moment ago, and as
   * `decide` does.
   */
  decide(tenant: Tenant): MaybePromise<Decision> {
    if (this.#decisions.peek(tenant.id)?.tenant === tenant) return this.#decisions.decide(tenant);
    const pause = this.#pauses.get(tenant.id);
    // A different record may name a different schema.
    if (pause?.tenant !== tenant) return this.#decide(tenant);
    const leftMs = pause.untilMs - this.#clock.now();
    if (leftMs > 0) return Promise.reject(lockedFor(leftMs));
    return this.#again.run(tenant, () => this.#semaphore.run(() => this.#decide(tenant)));
  }

  /**
   * Whether `decision` is current. If its tenant's schema is locked, forgets the decision, starts a pause and
   * throws `LOCK_TIMEOUT`.
   */
  async verify(decision: Decision): Promise<boolean> {
    try {
      return await this.#decisions.verify(decision);
    } catch (error) {
      if (!isLocked(error)) throw error;
      this.#decisions.forget(decision.tenant.id);
      throw this.#pause(decision.tenant);
    }
  }

  async #decide(tenant: Tenant): Promise<Decision> {
    try {
      const decision = await this.#decisions.decide(tenant);
      this.#pauses.delete(tenant.id);
      return decision;
    } catch (error) {
      throw isLocked(error) ? this.#pause(tenant) : error;
    }
  }

  /** Called by all who waited for the same answer; they count as one failure and share one pause. */
  #pause(tenant: Tenant): HostError {
    const nowMs = this.#clock.now();
    const known = this.#pauses.get(tenant.id);
    const last = known?.tenant === tenant ? known : undefined;
    if (last !== undefined && last.untilMs > nowMs) return lockedFor(last.untilMs - nowMs);
    const failures = (last?.failures ?? 0) + 1;
    const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** (failures - 1));
    this.#pauses.set(tenant.id, { tenant, failures, untilMs: nowMs + pauseMs });
    return lockedFor(pauseMs);
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof HostError && error.code === "LOCK_TIMEOUT";
}

/** Clients see the text, so it names no tenant. */
function lockedFor(ms: number): HostError {
  return new HostError("LOCK_TIMEOUT", schemaLocked, { retryAfterSeconds: ms / 1_000 });
}
