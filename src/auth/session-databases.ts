/**
 * The connections on which session functions are called: few, separate from all others, and shared fairly
 * among tenants.
 */
import type { DatabaseConfig } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";
import { Database } from "../postgres/database.ts";
import { HostError } from "../shared/kernel/errors.ts";

/** A token lookup takes about a millisecond; a function that never returns must not keep its connection. */
export const sessionTimeoutMs = 5_000;

/** Maximum concurrent session calls per tenant and database. */
export const tenantSessions = 2;
/**
 * For tenants that hold no connection yet: with six tenants whose functions hang, there is still room for the
 * others once those are known to be slow.
 */
const reserve = 6;
/** Maximum connections to each database. */
export const sessionConnections = tenantSessions + reserve;

/** A request that waits longer for connections held by hanging functions is better failed. */
const waitMs = 2 * sessionTimeoutMs;

interface SessionDatabasesOptions {
  readonly databases: Readonly<Record<string, DatabaseConfig>>;
  readonly applicationName: string;
  readonly observe: Observe;
}

export class SessionDatabases {
  readonly #options: SessionDatabasesOptions;
  readonly #open = new Map<string, Database>();
  #closed = false;

  constructor(options: SessionDatabasesOptions) {
    this.#options = options;
  }

  /** The database of that name; it connects on first use. */
  get(name: string): Database {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const { databases, applicationName, observe } = this.#options;
    const config = databases[name];
    if (this.#closed) throw new HostError("SHUTTING_DOWN");
    if (config === undefined) throw new HostError("INTERNAL", `there is no database named ${name}`);
    const database = new Database({
      name,
      url: config.url,
      applicationName: `${applicationName}:session`,
      observe,
      maxConnections: sessionConnections,
      shares: { size: tenantSessions, reserve, timeoutMs: waitMs, code: "TOKEN_UNVERIFIABLE" },
      // Session state left by one tenant's function must not reach another's.
      freshConnections: true,
      queryTimeoutMs: 2 * sessionTimeoutMs,
    });
    this.#open.set(name, database);
    return database;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open.values()].map((database) => database.close()));
  }
}
