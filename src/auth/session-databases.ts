/** The connections that session functions are called on: few, none of them anybody else's, and no tenant takes them from the others. */
import type { DatabaseConfig } from "../config/config.ts";
import type { Observe } from "../observability/observation.ts";
import { Database } from "../postgres/database.ts";
import { HostError } from "../shared/kernel/errors.ts";

/** A function that looks a token up takes a millisecond; one that does not end must not hold the connection. */
export const sessionTimeoutMs = 5_000;

/** What one tenant may have at a time, of each database. */
export const tenantSessions = 2;
/** For tenants that call no function yet: six whose functions hang leave room for the others', once they are known to. */
const reserve = 6;
/** Most to each database. */
export const sessionConnections = tenantSessions + reserve;

/** Whoever waits longer than that for connections that hanging functions have would rather be told. */
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

  /** The database of that name; it connects when it is first asked. */
  get(name: string): Database {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const { databases, applicationName, observe } = this.#options;
    const config = databases[name];
    if (this.#closed) throw new HostError("SHUTTING_DOWN");
    if (config === undefined) throw new HostError("INTERNAL", `no database is called ${name}`);
    const database = new Database({
      name,
      url: config.url,
      applicationName: `${applicationName}:session`,
      observe,
      maxConnections: sessionConnections,
      shares: { size: tenantSessions, reserve, timeoutMs: waitMs, code: "TOKEN_UNVERIFIABLE" },
      // What a tenant's function leaves in the session is not for the next tenant's.
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
