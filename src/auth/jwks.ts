/** Key sets (JWKS) of identity providers: fetched on demand, cached for a while, bounded in every way. */
import { createLocalJWKSet, createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from "jose";
import { LRUCache } from "lru-cache";
import type { Agent } from "undici";
import { HostError, messageOf } from "../shared/kernel/errors.ts";

export interface KeySetsOptions {
  /** How long a set is used before it is fetched again. */
  readonly maxAgeMs?: number;
  /** Minimum time between two fetches caused by a key id that the set does not contain. */
  readonly cooldownMs?: number;
  readonly timeoutMs?: number;
  readonly maxBytes?: number;
  /** How long a failure is cached: a provider that hangs must not delay every request for the whole timeout. */
  readonly failureMs?: number;
}

/** Maximum number of cached sets; beyond it, the least recently used is fetched again when needed. */
const maxSets = 1_000;

export class KeySets {
  readonly #sets = new LRUCache<string, JWTVerifyGetKey>({ max: maxSets });
  #agent: Agent | undefined;
  readonly #options: Required<KeySetsOptions>;

  constructor(options: KeySetsOptions = {}) {
    this.#options = {
      maxAgeMs: 600_000,
      cooldownMs: 10_000,
      timeoutMs: 5_000,
      maxBytes: 65_536,
      failureMs: 1_000,
      ...options,
    };
  }

  /**
   * Returns the function that finds a token's key in the set at `url`; it rejects with `TOKEN_UNVERIFIABLE`
   * if the set is unavailable.
   */
  at(url: string): JWTVerifyGetKey {
    const known = this.#sets.get(url);
    if (known !== undefined) return known;
    const { maxAgeMs, cooldownMs, timeoutMs, failureMs } = this.#options;
    let failed: { readonly error: HostError; readonly untilMs: number } | null = null;
    const set = createRemoteJWKSet(new URL(url), {
      cacheMaxAge: maxAgeMs,
      cooldownDuration: cooldownMs,
      timeoutDuration: timeoutMs,
      [customFetch]: async (_, { headers, signal }) => {
        if (failed !== null && performance.now() < failed.untilMs) throw failed.error;
        try {
          return await this.#fetch(url, headers, signal);
        } catch (thrown) {
          const error = new HostError("TOKEN_UNVERIFIABLE", `the JWKS ${url}: ${messageOf(thrown)}`);
          failed = { error, untilMs: performance.now() + failureMs };
          throw error;
        }
      },
    });
    this.#sets.set(url, set);
    return set;
  }

  /** undici's `request` follows no redirects: a set is read only from the URL that the tenant configured. */
  async #fetch(url: string, headers: Headers, signal: AbortSignal): Promise<Response> {
    // Loaded with the first set: a host whose tenants use no JWKS saves 10 MB.
    const { Agent, request } = await import("undici");
    this.#agent ??= new Agent({ connections: 2, maxResponseSize: this.#options.maxBytes });
    const answer = await request(url, {
      headers: Object.fromEntries(headers),
      signal,
      dispatcher: this.#agent,
    });
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      throw new Error(`status ${answer.statusCode}`);
    }
    const set: unknown = await answer.body.json();
    if (typeof set !== "object" || set === null || !("keys" in set) || !Array.isArray(set.keys)) {
      throw new Error("the response is not a key set");
    }
    // Throws where jose would throw later, so that a rejected set counts as a failure and is not fetched
    // again at once.
    createLocalJWKSet({ keys: set.keys });
    return Response.json(set);
  }

  async close(): Promise<void> {
    await this.#agent?.destroy();
  }
}
