/** A cell's connections to one database. */
import pg, { type PoolClient } from "pg";
import { HostError, messageOf } from "../src/kernel/errors.ts";
import type { StopSignal } from "../src/kernel/stop.ts";
import { hidesStatementsQuery } from "../src/protocol/hidden-statements.ts";
import { type Borrower, Connection, type SessionFacts } from "./connection.ts";
import { setBaseline } from "./hygiene.ts";
import { Shares } from "./shares.ts";

/** How long a request waits for a free connection, and a new one for the server. */
const connectTimeoutMs = 10_000;

export interface SessionsOptions {
  readonly url: string;
  readonly poolSize: number;
  readonly applicationName: string;
  readonly resultBytes: number;
  readonly statementTimeoutMs: number;
  readonly log: (level: "warn" | "debug", message: string) => void;
}

export class Sessions {
  readonly #pool: pg.Pool;
  readonly #connections = new WeakMap<PoolClient, Connection>();
  readonly #found = new WeakMap<object, SessionFacts>();
  readonly #shares: Shares;

  constructor(options: SessionsOptions) {
    const { statementTimeoutMs } = options;
    this.#shares = new Shares(options.poolSize, connectTimeoutMs);
    this.#pool = new pg.Pool({
      connectionString: options.url,
      application_name: options.applicationName,
      max: options.poolSize,
      pipeline: true,
      keepAlive: true,
      connectionTimeoutMillis: connectTimeoutMs,
      idleTimeoutMillis: 30_000,
      onConnect: async (client) => {
        const baseline = await setBaseline(client, statementTimeoutMs);
        const { rows } = await client.query(hidesStatementsQuery);
        this.#found.set(client, { ...baseline, hidden: rows[0]?.hidden === true });
      },
    });
    this.#pool.on("connect", (client) => {
      const found = this.#found.get(client);
      if (found !== undefined)
        this.#connections.set(client, new Connection(client, options.resultBytes, found));
    });
    // An idle connection that the server closed: the pool has dropped it already.
    this.#pool.on("error", (error) => options.log("debug", `idle connection lost: ${error.message}`));
  }

  /**
   * A connection that is idle, outside any transaction, of the share of the tenant that it is for, if any; throws
   * `DATABASE_UNREACHABLE` or `NO_CAPACITY` where there is none to be had, and `CANCELLED` as soon as `signal` aborts.
   */
  async connect(signal?: StopSignal, borrower?: Borrower): Promise<Connection> {
    const turn = borrower === undefined ? null : this.#shares.take(borrower.tenant, signal);
    if (turn !== null) await turn;
    const connecting = borrower === undefined ? this.#idle() : this.#idleFor(borrower);
    if (signal === undefined) return connecting;
    const { promise: cancelled, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(new HostError("CANCELLED"));
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      return await Promise.race([connecting, cancelled]);
    } catch (error) {
      // The pool takes no waiter back: a connection that comes too late returns at once.
      connecting.then(
        (connection) => connection.release(),
        () => undefined,
      );
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #idleFor(borrower: Borrower): Promise<Connection> {
    const give = (): void => this.#shares.give(borrower.tenant);
    try {
      const connection = await this.#idle();
      connection.lend(borrower, give);
      return connection;
    } catch (error) {
      give();
      throw error;
    }
  }

  async #idle(): Promise<Connection> {
    for (;;) {
      let client: PoolClient;
      try {
        client = await this.#pool.connect();
      } catch (error) {
        // pg-pool says the same of a server that is silent and of a pool that is busy.
        const { totalCount, options } = this.#pool;
        const busy =
          /^timeout exceeded when trying to connect/.test(messageOf(error)) && totalCount >= options.max;
        throw busy
          ? new HostError("NO_CAPACITY", `no connection became free in ${connectTimeoutMs} ms`)
          : new HostError("DATABASE_UNREACHABLE", `no connection: ${messageOf(error)}`, { cause: error });
      }
      const connection = this.#connections.get(client);
      if (connection === undefined)
        throw new HostError("INTERNAL", "a connection that the pool never announced");
      if (connection.doubt === null && client.getTransactionStatus() === "I") return connection;
      connection.condemn(new Error("the connection was not idle"));
      connection.release();
    }
  }

  get stats(): { total: number; idle: number; waiting: number } {
    const { totalCount, idleCount, waitingCount } = this.#pool;
    return { total: totalCount, idle: idleCount, waiting: waitingCount + this.#shares.waiting };
  }

  close(): Promise<void> {
    return this.#pool.end();
  }
}

/** Of class 08 connection exceptions; server shut down, crashed, starting, session or transaction ended by a timeout; sockets. */
const lossCodes =
  /^(08...|57P0[1235]|25P0[34]|ECONN(REFUSED|RESET|ABORTED)|EPIPE|ETIMEDOUT|ENOTFOUND|ENOENT|EHOSTUNREACH|ENETUNREACH)$/;

/** Whether `error` says that the connection is gone, as opposed to a statement that failed. */
export function isConnectionLoss(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (lossCodes.test(code)) return true;
  return /^(Connection terminated|Client has encountered a connection error|Client was closed)/.test(
    error.message,
  );
}
