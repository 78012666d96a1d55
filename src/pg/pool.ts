/** The front's own few connections to a configured database: for tenants, shapes and revisions, never for requests. */
import pg, { type ClientBase, type PoolClient } from "pg";
import { z } from "zod";
import { HostError, messageOf } from "../kernel/errors.ts";
import type { Observe } from "../kernel/observation.ts";
import { type Grant, TenantShares, type TenantSharesOptions } from "../kernel/tenant-shares.ts";
import { isTooManyConnections } from "../kernel/too-many-connections.ts";
import {
  backendQuery,
  isDirect,
  leaveIdentity,
  leaveLocks,
  leaveNothing,
  lifted,
} from "../protocol/pooler.ts";
import { Group, type GroupedStatement, groupOver } from "./group.ts";

declare module "pg" {
  interface ClientBase {
    readonly processID: number | null;
  }
}

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
}

/** What node reports where there is no connection, or no longer one. */
const lostCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  // A Unix socket that is not there.
  "ENOENT",
  // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout; too_many_connections
  "57P01",
  "57P02",
  "57P03",
  "57P05",
  "53300",
]);

/** pg 8.23 gives its own connection errors no code. */
const lostMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client has encountered a connection error|Client was closed|The server does not support SSL)/;

/** Whether `error` says that there is no usable connection, rather than that a statement failed on one. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  return lostCodes.has(code) || code.startsWith("08") || lostMessages.test(error.message);
}

/** What an error says, with its SQLSTATE. */
function told(error: unknown): string {
  const code = codeOf(error);
  return typeof code === "string" ? `${messageOf(error)} (${code})` : messageOf(error);
}

const codeOf = (error: unknown): unknown =>
  error instanceof Error && "code" in error ? error.code : undefined;

/** Whether a pooler between us and PostgreSQL gave one connection's prepared statement to another, or took it away. */
function isLostStatement(error: unknown): boolean {
  const code = codeOf(error);
  return code === "26000" || code === "42P05";
}

/** `error` as `DATABASE_UNREACHABLE` where it is about the connection; anything else unchanged. */
export function databaseError(database: string, error: unknown): unknown {
  if (!isConnectionError(error) || !(error instanceof Error)) return error;
  // An AggregateError (one name, several addresses) has no message of its own.
  const reason = error.message || ("code" in error ? String(error.code) : error.name);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} cannot be reached: ${reason}`, {
    cause: error,
  });
}

/** Why there is no connection: whatever stands in the way of one, such as a password that was changed, nothing can be asked. */
export function connectError(database: string, error: unknown): unknown {
  if (error instanceof HostError) return error;
  const known = databaseError(database, error);
  if (known instanceof HostError) return known;
  return new HostError("DATABASE_UNREACHABLE", `database ${database} gives no connection: ${told(error)}`, {
    cause: error,
  });
}

/** Throws `CONFIG_INVALID` for a URL that pg cannot read; node's own error would carry the URL, password included. */
export function checkUrl(database: string, url: string): void {
  try {
    new pg.Client({ connectionString: url });
  } catch {
    throw new HostError("CONFIG_INVALID", `database ${database}: the connection string cannot be read`);
  }
}

/** What a connection was when it was made. */
interface Greeting {
  readonly direct: boolean;
  /** As whom, and in which encoding. */
  readonly application: string;
  readonly encoding: string;
}

const greetingRow = z.object({ backend: z.int(), application: z.string(), encoding: z.string() });

/** $1: the id of the backend, as far as the client was told. What ends a session of the role's is lifted in one of our own only. */
function greetingQuery(timeouts: readonly Parameters<typeof lifted>[0][]): string {
  const calls = timeouts.map((each) => lifted(each, "session", `${backendQuery} = $1`));
  return `select ${backendQuery} as backend, pg_catalog.current_setting('application_name') as application,
    pg_catalog.current_setting('client_encoding') as encoding, ${calls.join(", ")}`;
}

/** The client bounds its own statements; those of others have whatever bounds their role was given. */
const hostsGreeting = greetingQuery([
  "statement_timeout",
  "transaction_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
]);
const freshGreeting = greetingQuery(["idle_session_timeout"]);

export class Database implements Queryable {
  readonly name: string;
  readonly #pool: pg.Pool;
  readonly #fresh: boolean;
  readonly #shares: TenantShares | null;
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
    checkUrl(options.name, options.url);
    this.#pool = new pg.Pool({
      connectionString: options.url,
      application_name: options.applicationName,
      max: options.maxConnections ?? 2,
      connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
      // Everything else that the front asks is short; a peer that has vanished is noticed by this, not by TCP after minutes.
      ...(this.#fresh && options.queryTimeoutMs === undefined
        ? {}
        : { query_timeout: options.queryTimeoutMs ?? 60_000 }),
      idleTimeoutMillis: 30_000,
      // One stays, with the plans that it has: making the shape's takes three times what a probe takes with it.
      min: this.#fresh ? 0 : 1,
      keepAlive: true,
      // What is asked together is sent together, where the server is 0.5 ms away as well as here.
      pipeline: !this.#fresh,
      onConnect: (client) => this.#greet(client),
    });
    // An idle connection that the server cut: without a listener it would end the process.
    this.#pool.on("error", (error) => {
      options.observe({ kind: "database.lost", database: options.name, error });
    });
  }

  query(text: string, values: readonly unknown[] = []): Promise<{ rows: unknown[] }> {
    return this.#withClient((client) => send(client, text, values));
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
    return this.#withClient(async (client) => {
      const group = new Group(
        this.#prepares ? statements : statements.map((each) => ({ ...each, prepared: false })),
      );
      client.query(group);
      try {
        return await group.answers;
      } catch (error) {
        if (!isConnectionError(error)) await client.query(groupOver);
        throw error;
      }
    }, tenant);
  }

  /** What `work` returns, once its statements are committed; where it throws they are rolled back. `tenant` as above. */
  transaction<Value>(work: (transaction: Transaction) => Promise<Value>, tenant?: string): Promise<Value> {
    return this.#withClient(async (client) => {
      await client.query("begin");
      try {
        const value = await work({
          query: (text, values = []) => send(client, text, values),
          execute: async (sqlText) => {
            await client.query(sqlText);
          },
        });
        if (this.#fresh) await this.#leaveNothing(client);
        await client.query("commit");
        return value;
      } catch (error) {
        if (!isConnectionError(error)) await this.#rollback(client);
        throw error;
      }
    }, tenant);
  }

  /** Waits for what is under way, then ends the connections. */
  close(): Promise<void> {
    this.#shares?.close();
    this.#closed ??= this.#pool.end();
    return this.#closed;
  }

  async #greet(client: ClientBase): Promise<void> {
    const { rows } = await client.query(this.#fresh ? freshGreeting : hostsGreeting, [client.processID]);
    const { backend, application, encoding } = greetingRow.parse(rows[0]);
    const direct = isDirect(client.processID, backend);
    this.#greetings.set(client, { direct, application, encoding });
    if (direct || !this.#prepares) return;
    this.#prepares = false;
    this.#observe({ kind: "database.pooled", database: this.name });
  }

  /** Behind a pooler, locks of the session go with the transaction. */
  async #rollback(client: PoolClient): Promise<void> {
    if (!this.#fresh || this.#greetings.get(client)?.direct === true) await client.query("rollback");
    // A role that may not unlock could not lock either.
    else await client.query(groupOver).catch(() => undefined);
  }

  /** Behind a pooler what the transaction left in its session would be other clients' once it has committed. */
  async #leaveNothing(client: PoolClient): Promise<void> {
    const greeting = this.#greetings.get(client);
    if (greeting === undefined || greeting.direct) return;
    await client.query(leaveNothing.join("; "));
    await client.query(leaveIdentity, [greeting.application, greeting.encoding]);
    await client.query(leaveLocks);
  }

  async #withClient<Value>(work: (client: PoolClient) => Promise<Value>, tenant?: string): Promise<Value> {
    const { client, grant } = await this.#connected(tenant);
    let doubtful = false;
    // Between checkout and release a cut connection is an event of the client, and its query's rejection besides.
    const ignore = (): void => {};
    client.on("error", ignore);
    try {
      return await work(client);
    } catch (error) {
      doubtful = isConnectionError(error);
      throw this.#fresh ? databaseError(this.name, error) : hostsError(this.name, error);
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
        return { client: await this.#pool.connect(), grant };
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

/** `error` of a statement of the host's own. One that PostgreSQL ended for its time says nothing of whoever it was asked for. */
function hostsError(database: string, error: unknown): unknown {
  if (codeOf(error) !== "57014") return databaseError(database, error);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} ended a statement: ${told(error)}`, {
    cause: error,
  });
}

/** Whether the connection is as it was when it was opened. */
async function discardAll(client: PoolClient): Promise<boolean> {
  try {
    await client.query("discard all");
    // What a role's sessions that rest are ended by is reset with the rest.
    await client.query(`select ${lifted("idle_session_timeout", "session")}`);
    return true;
  } catch {
    return false;
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
