/** Limits how often something is logged: a token bucket per kind, and a count of what was suppressed. */
import { LRUCache } from "lru-cache";
import { lazyLru } from "./lru-options.ts";

export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

/** A bucket as it was at `atMs`. */
export interface Bucket {
  readonly tokens: number;
  readonly atMs: number;
}

/**
 * The tokens of `bucket` at `nowMs`, refilled since `atMs`; a new bucket is full. One can be taken if there
 * is 1 or more.
 */
export function tokensAt(bucket: Bucket | undefined, nowMs: number, { burst, perSecond }: Rate): number {
  if (bucket === undefined) return burst;
  // A clock that goes backwards neither adds nor removes tokens.
  const passedMs = Math.max(0, nowMs - bucket.atMs);
  return Math.min(burst, bucket.tokens + (passedMs * perSecond) / 1_000);
}

interface Limited {
  tokens: number;
  atMs: number;
  leftOut: number;
}

export interface RateLimitOptions extends Rate {
  /**
   * Maximum number of kinds tracked at a time; the least recently used is dropped, and has a full bucket when
   * it comes again.
   */
  readonly maxKeys: number;
  readonly clock?: { now(): number };
}

export class RateLimit {
  readonly #rate: Rate;
  readonly #clock: { now(): number };
  readonly #buckets: LRUCache<string, Limited>;
  /** Suppressed messages of kinds that were dropped. */
  #forgotten = 0;
  #untold = false;

  constructor({ burst, perSecond, maxKeys, clock = performance }: RateLimitOptions) {
    this.#rate = { burst, perSecond };
    this.#clock = clock;
    this.#buckets = new LRUCache({
      ...lazyLru(maxKeys),
      dispose: ({ leftOut }, _key, reason) => {
        if (reason === "evict") this.#forgotten += leftOut;
      },
    });
  }

  /**
   * How many of `key` were suppressed since the last one admitted, plus the `kept` counted elsewhere;
   * undefined if this one is suppressed as well.
   */
  admit(key: string, kept = 0): number | undefined {
    const nowMs = this.#clock.now();
    let bucket = this.#buckets.get(key);
    const tokens = tokensAt(bucket, nowMs, this.#rate);
    if (bucket === undefined) {
      bucket = { tokens, atMs: nowMs, leftOut: 0 };
      this.#buckets.set(key, bucket);
    }
    bucket.atMs = nowMs;
    if (tokens < 1) {
      bucket.tokens = tokens;
      bucket.leftOut += 1 + kept;
      this.#untold = true;
      return undefined;
    }
    bucket.tokens = tokens - 1;
    const leftOut = bucket.leftOut + kept;
    bucket.leftOut = 0;
    return leftOut;
  }

  /** Counts of suppressed messages by key, highest first, and one total for dropped keys; resets the counts. */
  takeLeftOut(): {
    readonly byKey: readonly (readonly [key: string, count: number])[];
    readonly other: number;
  } {
    const other = this.#forgotten;
    this.#forgotten = 0;
    const byKey: [string, number][] = [];
    if (this.#untold) {
      for (const [key, bucket] of this.#buckets.entries()) {
        if (bucket.leftOut > 0) byKey.push([key, bucket.leftOut]);
        bucket.leftOut = 0;
      }
    }
    this.#untold = false;
    return { byKey: byKey.sort(([, one], [, next]) => next - one), other };
  }
}
