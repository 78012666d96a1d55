/**
 * The front's own few connections to a configured database: for tenants, shapes and revisions, never for
 * requests.
 */
import pg, { type ClientBase, type PoolClient } from "pg";
import type { Observe } from "../observability/observation.ts";
import { Connector, type ConnectorOptions } from "../shared/connect/connector.ts";
import { NewerSession } from "../shared/connect/newer-session.ts";
import { parseSessionState, sessionStateQuery } from "../shared/connect/session-state.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { hasState, isStale } from "../shared/postgres/sqlstate.ts";
import { type Grant, TenantShares, type TenantSharesOptions } from "../shared/postgres/tenant-shares.ts";
import { connectError, hostsError, isConnectionError, isReadTimeout, lostWith } from "./connection-errors.ts";
import { discardAll, type Greeting, greet, leaveBehind } from "./greeting.ts";
import { type GroupedStatement, groupOver, sendTogether } from "./group.ts";

export interface Queryable {
  /**
   * Runs one statement with parameters, pipelined behind those still unanswered. Connection failures become
   * `DATABASE_UNREACHABLE`; PostgreSQL's errors pass unchanged.
   */
  query(text: string, values?: readonly unknown[]): Promise<{ rows: unknown[] }>;
}

export interface QueryOptions {
  /** How long to wait for the answer, if less than for others; after that the connection is abandoned. */
  readonly timeoutMs?: number;
}

export interface Transaction extends Queryable {
  /** Runs several statements without parameters, like psql with a file. */
  execute(sqlText: string): Promise<void>;
}

export interface DatabaseOptions {
  /** The name in the configuration, which messages use instead of the URL. */
  readonly name: string;
  readonly url: string;
  /** PostgreSQL keeps only the first 63 bytes. */
  readonly applicationName: string;
  readonly observe: Observe;
  readonly maxConnections?: number;
  readonly connectTimeoutMs?: number;
  /**
   * For work of any duration that may leave settings behind: each piece gets a connection that is as good as
   * new.
   */
  readonly freshConnections?: boolean;
  /** Maximum time to wait for a statement; after that the connection is abandoned. */
  readonly queryTimeoutMs?: number;
  /** Shares the connections among tenants; must leave some for work that is for no tenant. */
  readonly shares?: TenantSharesOptions;
  /** Called when older connections were abandoned because they go to a standby and newer ones do not. */
  readonly onMoved?: () => void;
}

/** Connects to `database`; throws `CONFIG_INVALID` if its URL, or a file that it names, cannot be read. */
export function connectorTo(database: string, options: ConnectorOptions): Connector {
  try {
    return new Connector(options);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    throw new HostError(error.code, `database ${database}: ${error.message}`, { cause: error });
  }
}

/** Then a connection is replaced: its backend caches something of each tenant that is probed, for as long as it lives. */
const maxUses = 1_000;
/** How long the answer stands that there is only a standby, and how long a connection is not checked again. */
const standbyStandsMs = 5_000;
const currentMs = 1_000;

/** The connection goes to a standby, and a newer one would not. */
class Outdated extends Error {}

/** The connection was lost, because of `reason`; `before`: it had been cut before it was used, so none of the work has run. */
class Lost extends Error {
  readonly reason: unknown;
  readonly before: boolean;

  constructor(reason: unknown, before: boolean) {
    super("connection lost", { cause: reason });
    this.reason = reason;
    this.before = before;
  }
}

export class Database implements Queryable {
  readonly name: string;
  readonly #pool: pg.Pool;
  readonly #fresh: boolean;
  readonly #shares: TenantShares | null;
  /** Number of times that all connections were abandoned at once. */
  #generation = 0;
  /** The connections that have been in use before. */
  readonly #served = new WeakSet<object>();
  /** Those that did not even answer the first question of an attempt. */
  readonly #unanswered = new WeakSet<object>();
  readonly #generations = new WeakMap<object, number>();
  readonly #currentUntilMs = new WeakMap<object, number>();
  readonly #primary: NewerSession;
  readonly #observe: Observe;
  readonly #greetings = new WeakMap<ClientBase, Greeting>();
  /** False if connections are reset, or behind a pooler, which shares them among clients. */
  #prepares: boolean;
  #closed: Promise<void> | undefined;

  constructor(options: DatabaseOptions) {
    this.name = options.name;
    this.#fresh = options.freshConnections === true;
    this.#prepares = !this.#fresh;
    this.#shares = options.shares === undefined ? null : new TenantShares(options.shares);
    this.#observe = options.observe;
    const connector = connectorTo(options.name, { url: options.url });
    const client = {
      application_name: options.applicationName,
      connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
      keepAlive: true,
    };
    this.#primary = new NewerSession({
      connect: () =>
        connector.connect({ ...client, query_timeout: 10_000 }, (made) => made.on("error", ignore)),
      serves: ({ standby }) => !standby,
      onServes: () => {
        this.#generation += 1;
        options.onMoved?.();
      },
      standsMs: standbyStandsMs,
    });
    this.#pool = connector.pool({
      ...client,
      max: options.maxConnections ?? 2,
      maxUses,
      // All other work of the front is short; this timeout notices a vanished peer, for which TCP would take
      // minutes.
      ...(this.#fresh && options.queryTimeoutMs === undefined
        ? {}
        : { query_timeout: options.queryTimeoutMs ?? 60_000 }),
      idleTimeoutMillis: 30_000,
      // Keeps one connection with its plans: planning the shape query takes three times as long as a probe
      // with a plan.
      min: this.#fresh ? 0 : 1,
      // Concurrent statements are pipelined, also when the server is 0.5 ms away.
      pipeline: !this.#fresh,
      onConnect: (made) => this.#greet(made),
    });
    this.#pool.on("connect", (made) => void this.#generations.set(made, this.#generation));
    // Without a listener, an idle connection cut by the server would end the process.
    this.#pool.on("error", (error) => {
      options.observe({ kind: "database.lost", database: options.name, error });
    });
  }

  query(
    text: string,
    values: readonly unknown[] = [],
    options: QueryOptions = {},
  ): Promise<{ rows: unknown[] }> {
    return this.#newest((client) => send(client, text, values, options), { after: "" });
  }

  /**
   * Runs `statements` in one write and one transaction, which is rolled back; returns the rows of each. If
   * one fails, none after it runs. They are run again unprepared if a prepared statement was missing.
   * `tenant`: whose share they use, if any.
   */
  async together(
    statements: readonly GroupedStatement[],
    tenant?: string,
  ): Promise<readonly (readonly unknown[])[]> {
    try {
      return await this.#together(statements, tenant, this.#prepares);
    } catch (error) {
      // A concurrent statement may have failed for the same reason before.
      if (!isStale(error)) throw error;
      // What changed a result type only does so once; what takes statements away is a pooler.
      if (!hasState(error, "feature_not_supported", "internal_error")) this.#prepares = false;
      return this.#together(statements, tenant, false);
    }
  }

  #together(
    statements: readonly GroupedStatement[],
    tenant: string | undefined,
    prepares: boolean,
  ): Promise<readonly (readonly unknown[])[]> {
    const sent = prepares ? statements : statements.map((each) => ({ ...each, prepared: false }));
    return this.#newest(
      (client) => sendTogether(client, sent, this.#greetings.get(client)?.hidden === true),
      { after: groupOver, tenant },
    );
  }

  /**
   * Runs `work` in a transaction; returns its result after COMMIT, or rolls back if it throws. `tenant` as
   * above.
   */
  transaction<Value>(work: (transaction: Transaction) => Promise<Value>, tenant?: string): Promise<Value> {
    const once = { begun: false };
    const run = async (client: PoolClient): Promise<Value> => {
      await client.query("begin");
      once.begun = true;
      const value = await work({
        query: (text, values = []) => send(client, text, values),
        execute: async (sqlText) => {
          await client.query(sqlText);
        },
      });
      const greeting = this.#greetings.get(client);
      if (this.#fresh && greeting !== undefined) await leaveBehind(client, greeting);
      await client.query("commit");
      return value;
    };
    // Behind a pooler, session locks must end with the transaction.
    return this.#newest(run, { after: this.#fresh ? groupOver : "rollback", tenant, once });
  }

  /** Waits for work in progress, then closes the connections. */
  close(): Promise<void> {
    this.#shares?.close();
    this.#closed ??= Promise.all([this.#pool.end(), this.#primary.close()]).then(ignore);
    return this.#closed;
  }

  async #greet(client: ClientBase): Promise<void> {
    const greeting = await greet(client, this.#fresh ? "others" : "hosts");
    this.#greetings.set(client, greeting);
    if (!greeting.standby) this.#isCurrent(client);
    if (greeting.direct || !this.#prepares) return;
    this.#prepares = false;
    this.#observe({ kind: "database.pooled", database: this.name });
  }

  #isCurrent(client: ClientBase): void {
    this.#currentUntilMs.set(client, performance.now() + currentMs);
  }

  /**
   * Runs `work` on a connection that is alive and not to a standby, if there is one: if the pool's was neither, the
   * second attempt gets a new one.
   */
  async #newest<Value>(work: (client: PoolClient) => Promise<Value>, use: Use): Promise<Value> {
    try {
      return await this.#attempt(work, use);
    } catch (error) {
      if (error instanceof Lost && !error.before) throw error.reason;
      if (!(error instanceof Outdated) && !(error instanceof Lost)) throw error;
    }
    try {
      return await this.#attempt(work, use);
    } catch (error) {
      if (error instanceof Lost) throw error.reason;
      if (error instanceof Outdated) {
        throw new HostError(
          "DATABASE_UNREACHABLE",
          `database ${this.name} cannot be reached: a failover is in progress`,
        );
      }
      throw error;
    }
  }

  /**
   * Runs `work` on a connection of the pool. Throws `Outdated` if it goes to a standby and a newer one would
   * not: after a failover the old connections may stay up with outdated data. The check is sent along with
   * the work, unless that may run only once.
   */
  #attempt<Value>(work: (client: PoolClient) => Promise<Value>, use: Use): Promise<Value> {
    return this.#withClient(async (client) => {
      const outdated = this.#isOutdated(client, use.once !== undefined);
      if ((use.once !== undefined || this.#fresh) && (await outdated)) throw new Outdated();
      const [answer] = await Promise.allSettled([work(client)]);
      if (await outdated) throw new Outdated();
      if (answer.status === "rejected") throw answer.reason;
      return answer.value;
    }, use);
  }

  /**
   * Whether a newer connection would be better; never rejects. `remembers`: skip the check if the connection
   * was current a moment ago.
   */
  async #isOutdated(client: PoolClient, remembers: boolean): Promise<boolean> {
    if (remembers && (this.#currentUntilMs.get(client) ?? 0) > performance.now()) return false;
    try {
      const { standby } = parseSessionState((await client.query(sessionStateQuery)).rows);
      if (standby) return (await this.#primary.ask()) && this.#isOld(client);
      this.#isCurrent(client);
      return false;
    } catch (error) {
      if (!isReadTimeout(error)) this.#unanswered.add(client);
      return false;
    }
  }

  #isOld(client: PoolClient): boolean {
    return (this.#generations.get(client) ?? 0) < this.#generation;
  }

  async #withClient<Value>(work: (client: PoolClient) => Promise<Value>, use: Use): Promise<Value> {
    const { client, grant } = await this.#connected(use.tenant);
    let doubtful = false;
    // Between checkout and release, a cut connection emits an error on the client in addition to rejecting
    // its query.
    client.on("error", ignore);
    try {
      return await work(client);
    } catch (error) {
      doubtful = !(await outlives(client, error, use.after));
      if (doubtful) throw this.#lost(client, error, use);
      throw this.#fresh ? error : hostsError(this.name, error);
    } finally {
      // Resetting is cheaper than a new connection, whose empty caches cost each migration 70 ms (PostgreSQL
      // 18.4).
      if (this.#fresh && !doubtful && this.#greetings.get(client)?.direct === true) {
        doubtful = !(await discardAll(client));
      }
      client.off("error", ignore);
      this.#served.add(client);
      client.release(doubtful);
      grant?.release();
    }
  }

  /**
   * Tells a connection that had been cut before the work reached PostgreSQL from one that was lost under it. What ends its
   * own connection, as a tenant's function can, is not sent again.
   */
  #lost(client: PoolClient, error: unknown, { once }: Use): Lost {
    const unanswered =
      once === undefined ? this.#unanswered.has(client) : !once.begun && !isReadTimeout(error);
    const before = unanswered && this.#served.has(client);
    // What cut it, a failover or a restart, has probably cut the others of the pool.
    if (before && !this.#isOld(client)) this.#generation += 1;
    return new Lost(lostWith(this.name, error), before);
  }

  /**
   * A connection, and its grant if it is for a tenant. If PostgreSQL refuses one beyond the pool's size,
   * waits for another to become free.
   */
  async #connected(tenant?: string): Promise<{ client: PoolClient; grant: Grant | null }> {
    if (this.#closed !== undefined) throw new HostError("SHUTTING_DOWN");
    const shares = tenant === undefined ? null : this.#shares;
    let grant = shares === null ? null : await shares.acquire(tenant ?? "");
    for (;;) {
      try {
        const client = await this.#pool.connect();
        if (!this.#isOld(client)) return { client, grant };
        client.release(true);
      } catch (error) {
        if (shares === null || grant?.beyond !== true || !hasState(error, "too_many_connections")) {
          grant?.release();
          throw connectError(this.name, error);
        }
        grant = await shares.refuse(grant, 0);
      }
    }
  }
}

function ignore(): void {}

interface Use {
  /** Statements that restore the connection if the work on it failed. */
  readonly after: string;
  readonly tenant?: string | undefined;
  /** The work must not be run twice once it has `begun`. */
  readonly once?: { readonly begun: boolean };
}

/**
 * Whether the connection survived `error` in its former state, found out by a query: any function may raise
 * the codes with which PostgreSQL ends sessions.
 */
async function outlives(client: PoolClient, error: unknown, after: string): Promise<boolean> {
  if (!(error instanceof pg.DatabaseError) && isConnectionError(error)) return false;
  try {
    await client.query(after);
    return true;
  } catch (fault) {
    // A role without the privilege to unlock could not have locked either.
    return hasState(fault, "insufficient_privilege");
  }
}

async function send(
  client: PoolClient,
  text: string,
  values: readonly unknown[],
  { timeoutMs }: QueryOptions = {},
): Promise<{ rows: unknown[] }> {
  const { rows } = await client.query<Record<string, unknown>>({
    text,
    values: [...values],
    ...(timeoutMs === undefined ? {} : { query_timeout: timeoutMs }),
  });
  return { rows };
}
