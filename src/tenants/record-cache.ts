/** The tenants that a source has given lately, so that an unchanged record stays one object. */
import { isDeepStrictEqual } from "node:util";
import { LRUCache } from "lru-cache";
import type { TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import type { TenantListener } from "./source.ts";
import type { Tenant } from "./tenant.ts";

/** The clock of every cache here, in milliseconds; tests bring their own. */
export interface Clock {
  now(): number;
}

export interface KnownTenantsOptions {
  readonly max: number;
  /** How long a record stands without being read again; 0: for as long as there is room. */
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
      // Asks the clock every time: a read of a counter, and exact for tests.
      ttlResolution: 0,
      // An aged record stays, so that reading it again shows whether it has changed.
      noDeleteOnStaleGet: true,
      // Nothing is left to compare the next reading with, so it has to count as a change.
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

  /** Keeps `tenant`, and returns the object that stands for it: the earlier one where nothing is different. */
  keep(tenant: Tenant): Tenant {
    const before = this.#records.peek(tenant.id, { allowStale: true });
    const same = before !== undefined && isDeepStrictEqual(before, tenant);
    if (before !== undefined && !same) this.announce(tenant.id);
    const kept = same ? before : tenant;
    this.#records.set(tenant.id, kept);
    return kept;
  }

  /** Drops the record of an id that turned out to be nobody's, and tells of it where there was one. */
  lose(id: TenantId): void {
    if (this.#records.delete(id)) this.announce(id);
  }

  /** Has the record read again, unless that was so already; it stays, to be compared with what is read. */
  outdate(tenant: Tenant): boolean {
    if (this.#records.get(tenant.id) !== tenant) return false;
    this.#age(tenant);
    return true;
  }

  /** The same of whatever record `id` has, or of all of them. */
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

  /** The object that stands for `tenant`, where nothing is different, however old; it stays as old. */
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
