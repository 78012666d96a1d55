/** Which keys could not be built, and for how long nobody tries again. */
import { LRUCache } from "lru-cache";
import { HostError } from "../shared/kernel/errors.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import { type FailureRecord, failure, failurePauseMs, isForgiven } from "./build-queue.ts";

/** Whose request wants a key, and by which revisions (`LeaseRequest`). */
export interface Wanting {
  readonly tenant: TenantId;
  readonly version: string;
}

interface Entry {
  readonly record: FailureRecord;
  readonly untilMs: number;
  readonly error: HostError;
  /** Tenants whose builds failed; two are as good as all. */
  readonly failed: ReadonlySet<TenantId>;
  /** By which revisions each tenant was refused last. */
  readonly versions: LRUCache<TenantId, string>;
}

const maxKeys = 1_000;
/** Of one key; whoever was forgotten among more of them waits for the pause to end, whatever it changes. */
const maxTenants = 10_000;
/** A pooled key fails for everybody once it has failed for so many: the first alone may have a fault of its own. */
const enoughTenants = 2;

export class HeldBuilds {
  readonly #entries = new LRUCache<InstanceKey, Entry>({ max: maxKeys });
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** The error to refuse with, by the last try; undefined where the key may be tried, or tried again, for that tenant. */
  refusal(key: InstanceKey, { tenant, version }: Wanting, nowMs: number): HostError | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs >= entry.untilMs) return undefined;
    const { failed, versions, error, record } = entry;
    if (!failed.has(tenant) && failed.size < enoughTenants) return undefined;
    const known = versions.get(tenant);
    if (known !== undefined && known !== version) return undefined;
    versions.set(tenant, version);
    const retryAfterSeconds = Math.ceil((entry.untilMs - nowMs) / 1_000);
    const tries = record.failures === 1 ? "its build failed" : `${record.failures} builds of it failed`;
    return new HostError(
      error.code,
      `${key} is held back for ${retryAfterSeconds} s, as ${tries}: ${error.message}`,
      { cause: error, retryAfterSeconds, details: error.details },
    );
  }

  /** Notes that the key could not be built, for a tenant whose schemas are still what the build began with. */
  note(key: InstanceKey, { tenant, version }: Wanting, error: HostError, nowMs: number): void {
    const last = this.#entries.get(key);
    const known = last === undefined || isForgiven(last.record, nowMs) ? undefined : last;
    const record = failure(known?.record, nowMs);
    const versions = known?.versions ?? new LRUCache<TenantId, string>(lazyLru(maxTenants));
    versions.set(tenant, version);
    const failed = new Set(known?.failed);
    if (failed.size < enoughTenants) failed.add(tenant);
    const untilMs = nowMs + failurePauseMs(record, this.#random());
    this.#entries.set(key, { record, untilMs, error, failed, versions });
  }

  /** Forgets a key that was built. */
  forget(key: InstanceKey): void {
    this.#entries.delete(key);
  }

  /** Lets keys be tried at once; returns how many were known to fail. */
  forgetWhere(chosen: (key: InstanceKey) => boolean): number {
    const keys = [...this.#entries.keys()].filter(chosen);
    for (const key of keys) this.#entries.delete(key);
    return keys.length;
  }
}
