/** Counts failed attempts to authenticate by address. */
import { LRUCache } from "lru-cache";
import { HostError } from "../../shared/kernel/errors.ts";
import { lazyLru } from "../../shared/kernel/lru-options.ts";
import { networkOf } from "../network.ts";

export interface AuthThrottleOptions {
  /** Failures in one window after which an address is refused until the window ends. */
  readonly most: number;
  readonly windowMs: number;
  readonly clock?: { now(): number };
}

/** Addresses remembered. Whoever has more addresses than this can guess often enough anyway. */
const maxAddresses = 10_000;

export class AuthThrottle {
  readonly #most: number;
  readonly #counts: LRUCache<string, number>;

  constructor({ most, windowMs, clock = performance }: AuthThrottleOptions) {
    this.#most = most;
    // A window begins with its first failure.
    this.#counts = new LRUCache({
      ...lazyLru(maxAddresses),
      ttl: windowMs,
      noUpdateTTL: true,
      perf: clock,
      ttlResolution: 0,
    });
  }

  /** Throws `TOO_MANY_FAILURES` while `address` has failed too often, even for a correct token: otherwise guessing could go on. */
  assertFew(address: string): void {
    const key = networkOf(address);
    if ((this.#counts.get(key) ?? 0) < this.#most) return;
    throw new HostError("TOO_MANY_FAILURES", undefined, {
      retryAfterSeconds: this.#counts.getRemainingTTL(key) / 1_000,
    });
  }

  add(address: string): void {
    const key = networkOf(address);
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }
}
