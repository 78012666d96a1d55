/** Remembers which keys failed to build, and how long each is held back before the next try. */
import { LRUCache } from "lru-cache";
import { HostError } from "../shared/kernel/errors.ts";
import type { InstanceKey, TenantId } from "../shared/kernel/ids.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";

/** After this long without a failure a key is treated like any other. */
const forgivenAfterMs = 10 * 60_000;

/** What is known about a key that failed to build. */
export interface FailureRecord {
  readonly failures: number;
  readonly lastMs: number;
}

const isForgiven = ({ lastMs }: FailureRecord, nowMs: number): boolean => nowMs - lastMs >= forgivenAfterMs;

export function failure(record: FailureRecord | undefined, nowMs: number): FailureRecord {
  const known = record === undefined || isForgiven(record, nowMs) ? 0 : record.failures;
  return { failures: known + 1, lastMs: nowMs };
}

const firstFailureMs = 1_000;
const longestFailureMs = 60_000;

/**
 * How long to wait before the next try: doubles with each failure, within bounds. `random` (0 to 1) takes off
 * up to a quarter, so that keys that failed for one common cause do not all retry at once.
 */
export function failurePauseMs({ failures }: FailureRecord, random: number): number {
  const pauseMs = Math.min(longestFailureMs, firstFailureMs * 2 ** Math.min(failures - 1, 30));
  return pauseMs * (1 - random / 4);
}

/** The tenant whose request needs a key, and the revisions of its schemas (`LeaseRequest`). */
export interface Wanting {
  readonly tenant: TenantId;
  readonly version: string;
}

interface Entry {
  readonly record: FailureRecord;
  readonly untilMs: number;
  readonly error: HostError;
  /** Tenants whose builds failed; two are enough to hold the key back for all. */
  readonly failed: ReadonlySet<TenantId>;
  /** The revisions with which each tenant was last refused. */
  readonly versions: LRUCache<TenantId, string>;
}

const maxKeys = 1_000;
/** Limit per key; a tenant that falls out of it waits for the pause to end, even if it changes its schema. */
const maxTenants = 10_000;
/**
 * A pooled key is held back for everybody after failing for this many tenants: the first alone may be at
 * fault itself.
 */
const enoughTenants = 2;

export class HeldBuilds {
  readonly #entries = new LRUCache<InstanceKey, Entry>({ max: maxKeys });
  readonly #random: () => number;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Returns the error of the last try; undefined if this tenant may try the key (again) now. */
  refusal(key: InstanceKey, { tenant, version }: Wanting, nowMs: number): HostError | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || nowMs >= entry.untilMs) return undefined;
    const { failed, versions, error, record } = entry;
    if (!failed.has(tenant) && failed.size < enoughTenants) return undefined;
    const known = versions.get(tenant);
    if (known !== undefined && known !== version) return undefined;
    versions.set(tenant, version);
    const retryAfterSeconds = Math.ceil((entry.untilMs - nowMs) / 1_000);
    const tries = record.failures === 1 ? "its build failed" : `${record.failures} of its builds failed`;
    return new HostError(
      error.code,
      `${key} is held back for ${retryAfterSeconds} s because ${tries}: ${error.message}`,
      { cause: error, retryAfterSeconds, details: error.details },
    );
  }

  /** Records that the key could not be built for a tenant whose schemas have not changed since the build began. */
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

  /** Clears a key after a successful build. */
  forget(key: InstanceKey): void {
    this.#entries.delete(key);
  }

  /** Clears the chosen keys so that they are tried at once; returns how many were held back. */
  forgetWhere(chosen: (key: InstanceKey) => boolean): number {
    const keys = [...this.#entries.keys()].filter(chosen);
    for (const key of keys) this.#entries.delete(key);
    return keys.length;
  }
}
