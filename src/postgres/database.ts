/** The front's own few connections to a configured database: for tenants, shapes and revisions, never for requests. */
import pg, { type ClientBase, type PoolClient } from "pg";
import type { Observe } from "../observability/observation.ts";
import { Connector, type ConnectorOptions } from "../shared/connect/connector.ts";
import { NewerSession } from "../shared/connect/newer-session.ts";
import { parseSessionState, sessionStateQuery } from "../shared/connect/session-state.ts";
import { HostError } from "../shared/kernel/errors.ts";
import { type Grant, TenantShares, type TenantSharesOptions } from "../shared/postgres/tenant-shares.ts";
import { isTooManyConnections } from "../shared/postgres/too-many-connections.ts";
import {
  connectError,
  hostsError,
  isConnectionError,
  isDenied,
  isLostStatement,
  lostWith,
} from "./connection-errors.ts";
import { discardAll, type Greeting, greet, leaveBehind } from "./greeting.ts";
import { Group, type GroupedStatement, groupOver } from "./group.ts";

export interface Queryable {
  /** One statement with parameters, sent at once behind those that wait for their answers. Connection trouble is `DATABASE_UNREACHABLE`; errors of PostgreSQL pass as they are. */
  query(text: string, values?: readonly unknown[]): Promise<{ rows: unknown[] }>;
}

export interface Transaction extends Queryable {
  /** Several statements without parameters, as psql would run a file. */
  execute(sqlText: string): Promise<void>;
}

export interface DatabaseOptions {
  /** The name in the configuration: it stands for the database in messages, its URL never does. */
  readonly name: string;
  readonly url: string;
  /** PostgreSQL keeps its first 63 bytes. */
  readonly applicationName: string;
  readonly observe: Observe;
  readonly maxConnections?: number;
  readonly connectTimeoutMs?: number;
  /** For work that takes as long as it takes and may leave settings behind: each piece of it has a connection as good as new. */
  readonly freshConnections?: boolean;
  /** The longest that a statement is waited for; after it the connection is given up. */
  readonly queryTimeoutMs?: number;
  /** For what is asked for a tenant: its share of the connections, which has to leave some for what is asked for none. */
  readonly shares?: TenantSharesOptions;
  /** Called when older connections were given up, as they were to a standby and newer ones are not. */
  readonly onMoved?: () => void;
}

/** How to connect to `database`; throws `CONFIG_INVALID` for a URL that cannot be read, and for a file that it names. */
export function connectorTo(database: string, options: ConnectorOptions): Connector {
  try {
    return new Connector(options);
  } catch (error) {
    if (!(error instanceof HostError)) throw error;
    throw new HostError(error.code, `database ${database}: ${error.message}`, { cause: error });
  }
}

/** How long a standby is taken for all that there is, and how long a connection is not asked whether it is to one. */
const standbyStandsMs = 5_000;
const currentMs = 1_000;

/** The connection was to a standby, and there is a better one. */
class Outdated extends Error {}

export class Database implements Queryable {
  readonly name: string;
  readonly #pool: pg.Pool;
  readonly #fresh: boolean;
  readonly #shares: TenantShares | null;
  /** Counts how often all connections were given up at once. */
  #generation = 0;
  readonly #generations = new WeakMap<object, number>();
  readonly #currentUntilMs = new WeakMap<object, number>();
  readonly #primary: NewerSession;
  readonly #observe: Observe;
  readonly #greetings = new WeakMap<ClientBase, Greeting>();
  /** Not where connections are cleared, nor behind a pooler, which hands them around. */
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
      // Everything else that the front asks is short; a peer that has vanished is noticed by this, not by TCP after minutes.
      ...(this.#fresh && options.queryTimeoutMs === undefined
        ? {}
        : { query_timeout: options.queryTimeoutMs ?? 60_000 }),
      idleTimeoutMillis: 30_000,
      // One stays, with the plans that it has: making the shape's takes three times what a probe takes with it.
      min: this.#fresh ? 0 : 1,
      // What is asked together is sent together, where the server is 0.5 ms away as well as here.
      pipeline: !this.#fresh,
      onConnect: (made) => this.#greet(made),
    });
    this.#pool.on("connect", (made) => void this.#generations.set(made, this.#generation));
    // An idle connection that the server cut: without a listener it would end the process.
    this.#pool.on("error", (error) => {
      options.observe({ kind: "database.lost", database: options.name, error });
    });
  }

  query(text: string, values: readonly unknown[] = []): Promise<{ rows: unknown[] }> {
    return this.#newest((client) => send(client, text, values), { after: "" });
  }

  /**
   * The rows of each of `statements`, sent in one write and run in one transaction, which is rolled back; where one fails none behind
   * it runs. They are asked again, unprepared, where a prepared statement was not there. `tenant` is whose share they are of, if anybody's.
   */
  async together(
    statements: readonly GroupedStatement[],
    tenant?: string,
  ): Promise<readonly (readonly unknown[])[]> {
    try {
      return await this.#together(statements, tenant);
    } catch (error) {
      // The error of another statement that ran beside it may have told the same before.
      if (!isLostStatement(error)) throw error;
      this.#prepares = false;
      return this.#together(statements, tenant);
    }
  }

  #together(
    statements: readonly GroupedStatement[],
    tenant?: string,
  ): Promise<readonly (readonly unknown[])[]> {
    const ask = async (client: PoolClient): Promise<readonly (readonly unknown[])[]> => {
      const group = new Group(
        this.#prepares ? statements : statements.map((each) => ({ ...each, prepared: false })),
      );
      client.query(group);
      return await group.answers;
    };
    return this.#newest(ask, { after: groupOver, tenant });
  }

  /** What `work` returns, once its statements are committed; where it throws they are rolled back. `tenant` as above. */
  transaction<Value>(work: (transaction: Transaction) => Promise<Value>, tenant?: string): Promise<Value> {
    const run = async (client: PoolClient): Promise<Value> => {
      await client.query("begin");
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
    // Behind a pooler, locks of the session go with the transaction.
    return this.#newest(run, { after: this.#fresh ? groupOver : "rollback", tenant, once: true });
  }

  /** Waits for what is under way, then ends the connections. */
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
   * What `work` gives, on a connection that is no standby's where there is another: behind a failover the old ones may stay up, and what they
   * tell is of a while ago. Unless it is to run `once`, it is asked along with the question.
   */
  async #newest<Value>(work: (client: PoolClient) => Promise<Value>, use: Use): Promise<Value> {
    const attempt = (): Promise<Value> =>
      this.#withClient(async (client) => {
        const outdated = this.#isOutdated(client, use.once === true);
        if ((use.once === true || this.#fresh) && (await outdated)) throw new Outdated();
        const [answer] = await Promise.allSettled([work(client)]);
        if (await outdated) throw new Outdated();
        if (answer.status === "rejected") throw answer.reason;
        return answer.value;
      }, use);
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Outdated)) throw error;
      return await attempt();
    }
  }

  /** Whether there is a better connection; never rejects. `remembers`: it need not be asked of one that was found current a moment ago. */
  async #isOutdated(client: PoolClient, remembers: boolean): Promise<boolean> {
    if (remembers && (this.#currentUntilMs.get(client) ?? 0) > performance.now()) return false;
    try {
      const { standby } = parseSessionState((await client.query(sessionStateQuery)).rows);
      if (standby) return (await this.#primary.ask()) && this.#isOld(client);
      this.#isCurrent(client);
      return false;
    } catch {
      return false;
    }
  }

  #isOld(client: PoolClient): boolean {
    return (this.#generations.get(client) ?? 0) < this.#generation;
  }

  async #withClient<Value>(
    work: (client: PoolClient) => Promise<Value>,
    { after, tenant }: Use,
  ): Promise<Value> {
    const { client, grant } = await this.#connected(tenant);
    let doubtful = false;
    // Between checkout and release a cut connection is an event of the client, and its query's rejection besides.
    client.on("error", ignore);
    try {
      return await work(client);
    } catch (error) {
      doubtful = !(await outlives(client, error, after));
      if (doubtful) throw lostWith(this.name, error);
      throw this.#fresh ? error : hostsError(this.name, error);
    } finally {
      // Cheaper than another connection, whose empty caches cost each migration 70 ms (PostgreSQL 18.4).
      if (this.#fresh && !doubtful && this.#greetings.get(client)?.direct === true) {
        doubtful = !(await discardAll(client));
      }
      client.off("error", ignore);
      client.release(doubtful);
      grant?.release();
    }
  }

  /** A connection, and the right to it where it is for a tenant; where PostgreSQL has none beyond the size, when one is free. */
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
        if (shares === null || grant?.beyond !== true || !isTooManyConnections(error)) {
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
  /** Leaves the connection as it was, where the work on it failed. */
  readonly after: string;
  readonly tenant?: string | undefined;
  /** It may not be run twice. */
  readonly once?: boolean;
}

/**
 * Whether the connection is still there behind `error`, and as it was before: it is asked. PostgreSQL ends sessions by codes that any function
 * may raise.
 */
async function outlives(client: PoolClient, error: unknown, after: string): Promise<boolean> {
  if (!(error instanceof pg.DatabaseError) && isConnectionError(error)) return false;
  try {
    await client.query(after);
    return true;
  } catch (fault) {
    // A role that may not unlock could not lock either.
    return isDenied(fault);
  }
}

async function send(
  client: PoolClient,
  text: string,
  values: readonly unknown[],
): Promise<{ rows: unknown[] }> {
  const { rows } = await client.query<Record<string, unknown>>({ text, values: [...values] });
  return { rows };
}

/**
 * Ends every backend of `applicationName` that belongs to our role, and returns how many there were. For a cell whose
 * thread was terminated: its backends would run their statements to the end, and hold their locks until then.
 */
export async function cancelBackends(database: Queryable, applicationName: string): Promise<number> {
  const { rows } = await database.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = left($1, 63) and usename = current_user and pid <> pg_backend_pid()
        and datname = current_database()`,
    [applicationName],
  );
  return rows.length;
}
