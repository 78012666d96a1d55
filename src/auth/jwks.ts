/** The key sets of identity providers: fetched when they are needed, kept for a while, bounded in every way. */
import { createLocalJWKSet, createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from "jose";
import { LRUCache } from "lru-cache";
import type { Agent } from "undici";
import { HostError, messageOf } from "../shared/kernel/errors.ts";

export interface KeySetsOptions {
  /** How long a set is used before it is fetched again. */
  readonly maxAgeMs?: number;
  /** The least time between two fetches because of a key id that the set does not have. */
  readonly cooldownMs?: number;
  readonly timeoutMs?: number;
  readonly mostBytes?: number;
  /** How long a failure stands: a provider that hangs must not hold up every request for the whole timeout. */
  readonly failureMs?: number;
}

/** More providers than that are fetched again when it is their turn. */
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
      mostBytes: 65_536,
      failureMs: 1_000,
      ...options,
    };
  }

  /** What finds a token's key in the set at `url`; it rejects with `TOKEN_UNVERIFIABLE` where the set cannot be had. */
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

  /** undici's `request` follows no redirect: a set is where the tenant says that it is, and nowhere else. */
  async #fetch(url: string, headers: Headers, signal: AbortSignal): Promise<Response> {
    // Loaded for the first set: 10 MB that no host needs whose tenants have none.
    const { Agent, request } = await import("undici");
    this.#agent ??= new Agent({ connections: 2, maxResponseSize: this.#options.mostBytes });
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
      throw new Error("not a key set");
    }
    // Throws where jose would afterwards: a set that it refuses is a failure like others, and not fetched again at once.
    createLocalJWKSet({ keys: set.keys });
    return Response.json(set);
  }

  async close(): Promise<void> {
    await this.#agent?.destroy();
  }
}
