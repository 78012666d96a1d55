/** Authenticates a request: from its token to the role and the settings of its transactions. */
import { hash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { Database } from "../postgres/database.ts";
import { HostError } from "../shared/kernel/errors.ts";
import type { MaybePromise } from "../shared/kernel/eventually.ts";
import { lazyLru } from "../shared/kernel/lru-options.ts";
import { BoundedSemaphore } from "../shared/kernel/semaphore.ts";
import { SingleFlight } from "../shared/kernel/single-flight.ts";
import type { JwtRules } from "../tenants/jwt-config.ts";
import type { RequestFacts } from "../tenants/router.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { bearerToken } from "./bearer-token.ts";
import { type Bearer, bearerSettings } from "./claims.ts";
import type { KeySets } from "./jwks.ts";
import type { VerifyJwt } from "./jwt-verifier.ts";
import { refusedToken } from "./refused-token.ts";
import { tenantSessions } from "./session-databases.ts";
import { askSession } from "./session-function.ts";
import { tokenSigning } from "./token-signing.ts";

export type Settings = Readonly<Record<string, string>>;

export interface AuthenticatorOptions {
  /** Connections reserved for session functions; opened at the first call. */
  readonly sessions: (database: string) => Database;
  readonly keySets?: KeySets;
  readonly clock?: { now(): number };
}

/** The token rules of one version of a tenant's record. */
interface TokenRules {
  /** Unique per record version, so that results found under an older one are not reused. */
  readonly serial: number;
  readonly verify: ((token: string) => Promise<Bearer>) | null;
  readonly signing: string | null;
}

/**
 * From a header to settings takes 85 µs of CPU (HS256) to 150 (Ed25519), or a transaction for a session
 * function; when cached 2 to 5, and without a token 0.1 (Node 24.21, jose 6.2.17). A revoked token is noticed
 * after this time at the latest.
 */
const longestMs = 30_000;
const maxRememberedBytes = 16 * 2 ** 20;
/** Minimum size that an entry counts for: no more than 10,000 are kept. */
const minBytes = Math.ceil(maxRememberedBytes / 10_000);

/**
 * A client that repeats an invalid token does not repeat its lookup; cached separately, so that refusals
 * evict no valid entries.
 */
const refusalMs = 1_000;
const maxRefusals = 1_000;

/** Limits one tenant's concurrent session calls, because all tenants share few connections. */
const asking = { concurrency: tenantSessions, queue: 100 };

export class Authenticator {
  readonly #sessions: AuthenticatorOptions["sessions"];
  #keySets: KeySets | undefined;
  readonly #rules = new WeakMap<Tenant, TokenRules>();
  readonly #found: LRUCache<string, Settings>;
  readonly #refused: LRUCache<string, HostError>;
  readonly #asking = new SingleFlight<string, Settings>();
  #records = 0;

  constructor({ sessions, keySets, clock = performance }: AuthenticatorOptions) {
    this.#sessions = sessions;
    this.#keySets = keySets;
    this.#found = new LRUCache({
      maxSize: maxRememberedBytes,
      sizeCalculation: (settings) => Math.max(bytesOf(settings), minBytes),
      perf: clock,
      ttl: longestMs,
      ttlResolution: 0,
    });
    this.#refused = new LRUCache({
      ...lazyLru(maxRefusals),
      perf: clock,
      ttl: refusalMs,
      ttlResolution: 0,
    });
  }

  /**
   * The settings of a request's transactions, `role` first; empty if the tenant lists no roles. A request
   * without a token gets the anonymous role, at once; throws `TOKEN_REQUIRED` if there is none. One with credentials is never
   * served as anonymous: rejects with `TOKEN_INVALID`, `TOKEN_EXPIRED` or `TOKEN_UNVERIFIABLE`.
   */
  settings(tenant: Tenant, facts: RequestFacts): MaybePromise<Settings> {
    const header = facts.header("authorization");
    return header === null ? anonymousSettings(tenant, facts) : this.#tokenSettings(tenant, header);
  }

  async #tokenSettings(tenant: Tenant, header: string): Promise<Settings> {
    const { serial, verify } = this.#rulesOf(tenant);
    if (verify === null)
      throw refusedToken(
        tenant.id,
        "not-taken",
        "it has neither jwt nor session and therefore accepts no tokens",
      );
    const token = bearerToken(tenant.id, header);
    const key = `${serial}:${hash("sha256", token, "base64url")}`;
    const found = this.#found.get(key);
    if (found !== undefined) return found;
    const refused = this.#refused.get(key);
    if (refused !== undefined) throw refused;
    return this.#asking.run(key, () => this.#ask(tenant, key, () => verify(token)));
  }

  async #ask(tenant: Tenant, key: string, verify: () => Promise<Bearer>): Promise<Settings> {
    try {
      const bearer = await verify();
      const settings = bearerSettings(tenant, bearer);
      const ttl = Math.min(longestMs, Math.floor(bearer.remainingMs));
      if (ttl > 0) this.#found.set(key, settings, { ttl });
      return settings;
    } catch (error) {
      if (error instanceof HostError && error.status === 401) this.#refused.set(key, error);
      throw error;
    }
  }

  /** JSON of the TokenSigning for the tenant's login functions; null if it has no secret. */
  signing(tenant: Tenant): string | null {
    return this.#rulesOf(tenant).signing;
  }

  #rulesOf(tenant: Tenant): TokenRules {
    const known = this.#rules.get(tenant);
    if (known !== undefined) return known;
    this.#records += 1;
    const signing = tokenSigning(tenant);
    const made = {
      serial: this.#records,
      verify: this.#verifier(tenant),
      signing: signing === null ? null : JSON.stringify(signing),
    };
    this.#rules.set(tenant, made);
    return made;
  }

  #verifier(tenant: Tenant): TokenRules["verify"] {
    const { jwt, session } = tenant;
    if (jwt !== null) {
      let verifier: Promise<VerifyJwt> | undefined;
      return async (token) => {
        verifier ??= this.#jwtVerifier(tenant, jwt).catch((error: unknown) => {
          verifier = undefined;
          throw error;
        });
        return (await verifier)(token);
      };
    }
    if (session === null) return null;
    const semaphore = new BoundedSemaphore(asking, () => {
      return new HostError("TOKEN_UNVERIFIABLE", "too many tokens of this tenant are waiting to be verified");
    });
    return (token) =>
      semaphore.run(() => askSession(this.#sessions(tenant.database), tenant, session, token));
  }

  /** Loads jose on demand: a host whose tenants use no JWTs saves 4 MB. */
  async #jwtVerifier(tenant: Tenant, rules: JwtRules): Promise<VerifyJwt> {
    const [{ jwtVerifier }, { KeySets }] = await Promise.all([
      import("./jwt-verifier.ts"),
      import("./jwks.ts"),
    ]);
    this.#keySets ??= new KeySets();
    return jwtVerifier(tenant.id, rules, this.#keySets);
  }

  async close(): Promise<void> {
    await this.#keySets?.close();
  }
}

/** Approximate memory of a cached entry: V8 stores most strings at a byte per character, plus 32 bytes each. */
function bytesOf(settings: Settings): number {
  return Object.entries(settings).reduce((sum, [name, value]) => sum + name.length + value.length + 64, 200);
}

function anonymousSettings({ id, roles }: Tenant, { method }: RequestFacts): Settings {
  if (roles.anonymous !== null) return { role: roles.anonymous };
  // A browser's preflight never carries a token, and needs no role.
  if (method === "OPTIONS" || listedRoles(roles).length === 0) return {};
  throw new HostError("TOKEN_REQUIRED", `tenant ${id} has no anonymous role`);
}
