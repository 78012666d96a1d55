/** The connections that session functions are called on: few, none of them anybody else's, and no tenant takes them from the others. */
import type { DatabaseConfig } from "../config/config.ts";
import { HostError } from "../kernel/errors.ts";
import type { Observe } from "../kernel/observation.ts";
import { type Grant, TenantShares } from "../kernel/tenant-shares.ts";
import { Database, isRefused, type Transaction } from "../pg/pool.ts";

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

/** The connections to one database. */
export class SessionDatabase {
  readonly #database: Database;
  readonly #shares = new TenantShares({
    size: tenantSessions,
    reserve,
    timeoutMs: waitMs,
    code: "TOKEN_UNVERIFIABLE",
  });

  constructor(database: Database) {
    this.#database = database;
  }

  /** What `work` returns, in a transaction of `tenant`'s share. Rejects with `TOKEN_UNVERIFIABLE` where none became free in time. */
  async transaction<Value>(
    tenant: string,
    work: (transaction: Transaction) => Promise<Value>,
  ): Promise<Value> {
    const grant = await this.#shares.acquire(tenant);
    return this.#granted(grant, work);
  }

  async #granted<Value>(grant: Grant, work: (transaction: Transaction) => Promise<Value>): Promise<Value> {
    // What a function raises is its own affair, whatever code it chooses.
    let begun = false;
    try {
      const value = await this.#database.transaction((transaction) => {
        begun = true;
        return work(transaction);
      });
      grant.release();
      return value;
    } catch (error) {
      if (begun || !grant.beyond || !isRefused(error)) {
        grant.release();
        throw error;
      }
    }
    return this.#granted(await this.#shares.refuse(grant, 0), work);
  }

  async close(): Promise<void> {
    this.#shares.close();
    await this.#database.close();
  }
}

export class SessionDatabases {
  readonly #options: SessionDatabasesOptions;
  readonly #open = new Map<string, SessionDatabase>();
  #closed = false;

  constructor(options: SessionDatabasesOptions) {
    this.#options = options;
  }

  /** The database of that name; it connects when it is first asked. */
  get(name: string): SessionDatabase {
    const known = this.#open.get(name);
    if (known !== undefined) return known;
    const { databases, applicationName, observe } = this.#options;
    const config = databases[name];
    if (this.#closed) throw new HostError("SHUTTING_DOWN");
    if (config === undefined) throw new HostError("INTERNAL", `no database is called ${name}`);
    const database = new SessionDatabase(
      new Database({
        name,
        url: config.url,
        applicationName: `${applicationName}:session`,
        observe,
        maxConnections: sessionConnections,
        // What a tenant's function leaves in the session is not for the next tenant's.
        freshConnections: true,
        queryTimeoutMs: 2 * sessionTimeoutMs,
      }),
    );
    this.#open.set(name, database);
    return database;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open.values()].map((database) => database.close()));
  }
}
