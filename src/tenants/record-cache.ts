/** The tenants that a source returned recently, so that an unchanged record stays the same object. */
import { isDeepStrictEqual } from "node:util";
import { LRUCache } from "lru-cache";
import type { TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import type { TenantListener } from "./source.ts";
import type { Tenant } from "./tenant.ts";

/** The clock of every cache here, in milliseconds; replaced in tests. */
export interface Clock {
  now(): number;
}

export interface KnownTenantsOptions {
  readonly max: number;
  /** How long a record is used without being read again; 0: no limit. */
  readonly maxAgeMs: number;
  readonly clock: Clock;
}

export class KnownTenants {
  readonly #records: LRUCache<TenantId, Tenant>;
  readonly #listeners: TenantListener[] = [];

  constructor({ max, maxAgeMs, clock }: KnownTenantsOptions) {
    this.#records = new LRUCache({
      ...lazyLru(max),
      ttl: maxAgeMs,
      perf: clock,
      // Reads the clock every time: cheap, and exact for tests.
      ttlResolution: 0,
      // Keeps an expired record, so that rereading it shows whether it has changed.
      noDeleteOnStaleGet: true,
      // There is nothing left to compare the next read with, so eviction counts as a change.
      dispose: (_, id, reason) => {
        if (reason === "evict") this.announce(id);
      },
    });
  }

  get size(): number {
    return this.#records.size;
  }

  get(id: TenantId): Tenant | undefined {
    return this.#records.get(id);
  }

  /** Caches `tenant` and returns the object that represents it: the earlier one if nothing differs. */
  keep(tenant: Tenant): Tenant {
    const before = this.#records.peek(tenant.id, { allowStale: true });
    const same = before !== undefined && isDeepStrictEqual(before, tenant);
    if (before !== undefined && !same) this.announce(tenant.id);
    const kept = same ? before : tenant;
    this.#records.set(tenant.id, kept);
    return kept;
  }

  /** Drops the record of an id that no longer has a tenant; announces it if there was one. */
  lose(id: TenantId): void {
    if (this.#records.delete(id)) this.announce(id);
  }

  /**
   * Marks the record for rereading, unless it already is; returns whether it did. The record is kept for
   * comparison.
   */
  outdate(tenant: Tenant): boolean {
    if (this.#records.get(tenant.id) !== tenant) return false;
    this.#age(tenant);
    return true;
  }

  /** Marks the record of `id`, or all records (null), for rereading. */
  suspect(id: TenantId | null): void {
    if (id === null) for (const tenant of [...this.#records.values()]) this.#age(tenant);
    else {
      const known = this.#records.peek(id);
      if (known !== undefined) this.#age(known);
    }
  }

  #age(tenant: Tenant): void {
    this.#records.set(tenant.id, tenant, { ttl: 1, start: -1 });
  }

  /** The cached object, however old, if it equals `tenant`, else `tenant`; its age does not change. */
  like(tenant: Tenant): Tenant {
    const known = this.#records.peek(tenant.id, { allowStale: true });
    return known !== undefined && isDeepStrictEqual(known, tenant) ? known : tenant;
  }

  /** Drops all records. */
  forget(): void {
    this.#records.clear();
  }

  onChange(listener: TenantListener): void {
    this.#listeners.push(listener);
  }

  announce(id: TenantId | null): void {
    for (const listener of this.#listeners) listener(id);
  }
}
