/** Caches a plugin's values between requests: never across tenants, never without bounds. */
import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantRequest } from "./request.ts";

export interface TenantCacheOptions {
  /** The most values, of all tenants together; the least recently used is evicted first. */
  readonly max: number;
  /** How long a value is kept; by default five minutes. */
  readonly ttlMs?: number;
  /**
   * Who shares a value. `settings` (the default): requests of one tenant with equal settings, that is the same role and claims,
   * and equal headers of those that the config's `requestHeaders` names. `tenant`: all requests of one tenant, for values that
   * depend on none of these.
   */
  readonly per?: "settings" | "tenant";
}

/** Values by tenant and key. When a tenant's schema changes, its cached values are no longer found. */
export class TenantCache<Value> {
  readonly #values: LRUCache<string, Promise<Value>>;
  readonly #per: "settings" | "tenant";

  constructor({ max, ttlMs = 300_000, per = "settings" }: TenantCacheOptions) {
    this.#values = new LRUCache({ max, ttl: ttlMs });
    this.#per = per;
  }

  /** The result of `make` for this tenant and `key`, computed once for concurrent callers; a rejection is not cached. */
  async get(request: TenantRequest, key: string, make: () => Value | Promise<Value>): Promise<Value> {
    if (typeof request?.binding?.tenant !== "string") {
      throw new HostError("INTERNAL", "a TenantCache needs the request that requestOf returned");
    }
    const full = this.#keyOf(request, key);
    // The caller that started it may have been cancelled, which must not fail this request.
    const begun = this.#values.get(full)?.catch(() => this.#make(full, make));
    return begun ?? this.#make(full, make);
  }

  get size(): number {
    return this.#values.size;
  }

  #make(full: string, make: () => Value | Promise<Value>): Promise<Value> {
    const value = (async () => make())();
    this.#values.set(full, value);
    value.catch(() => {
      if (this.#values.peek(full) === value) this.#values.delete(full);
    });
    return value;
  }

  #keyOf({ binding, settings, identifyingHeaders }: TenantRequest, key: string): string {
    const who = [binding.tenant, binding.statementTag];
    if (this.#per === "tenant") return JSON.stringify([...who, key]);
    const given = [settings, identifyingHeaders].map((record) =>
      Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)),
    );
    // Hashed, because claims may be long and should not be kept.
    const text = JSON.stringify([...who, key, given]);
    return createHash("sha256").update(text).digest("base64url");
  }
}
