/** A cell's connections to one database. */
import pg, { type PoolClient } from "pg";
import { HostError, messageOf } from "../src/kernel/errors.ts";
import type { StopSignal } from "../src/kernel/stop.ts";
import { hidesStatementsQuery } from "../src/protocol/hidden-statements.ts";
import { type Borrower, Connection, type SessionFacts } from "./connection.ts";
import { setBaseline } from "./hygiene.ts";
import { isCutOff } from "./losses.ts";
import { Shares } from "./shares.ts";

/** How long a request waits for a free connection, and a new one for the server. */
const connectTimeoutMs = 10_000;
/** How often a connection is asked for whose like was cut off while it was being made. */
const mostAttempts = 4;
/** What is lost one after the other, for whatever reason, does not cost everybody's idle connections each time. */
const lossEveryMs = 1_000;

export interface SessionsOptions {
  readonly url: string;
  readonly poolSize: number;
  readonly applicationName: string;
  readonly resultBytes: number;
  readonly statementTimeoutMs: number;
  readonly log: (level: "warn" | "debug", message: string) => void;
  /** Called when bytes have come for a tenant, before anything is made of them. */
  readonly onData?: (tenant: string) => void;
}

export class Sessions {
  readonly #pool: pg.Pool;
  readonly #connections = new WeakMap<PoolClient, Connection>();
  readonly #found = new WeakMap<object, SessionFacts>();
  readonly #shares: Shares;
  #opened = 0;
  #lostMs = Number.NEGATIVE_INFINITY;
  #openedAtLoss = 0;

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
        this.#opened += 1;
        this.#found.set(client, { ...baseline, hidden: rows[0]?.hidden === true, ordinal: this.#opened });
      },
    });
    this.#pool.on("connect", (client) => {
      const found = this.#found.get(client);
      if (found !== undefined)
        this.#connections.set(client, new Connection(client, options.resultBytes, found, options.onData));
    });
    // An idle connection that the server closed: the pool has dropped it already.
    this.#pool.on("error", (error) => options.log("debug", `idle connection lost: ${error.message}`));
  }

  /**
   * A connection that is idle, outside any transaction, of the share of the tenant that it is for, if any; throws
   * `DATABASE_UNREACHABLE` or `NO_CAPACITY` where there is none to be had, and `CANCELLED` as soon as `signal` aborts. Connections
   * that are not `younger` than that are given up: what ended one of them may be on its way to the others.
   */
  async connect(signal?: StopSignal, borrower?: Borrower, younger = 0): Promise<Connection> {
    const turn = borrower === undefined ? null : this.#shares.take(borrower.tenant, signal);
    if (turn !== null) await turn;
    const connecting =
      borrower === undefined ? this.#idle(younger, signal) : this.#idleFor(borrower, younger, signal);
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

  async #idleFor(borrower: Borrower, younger: number, signal?: StopSignal): Promise<Connection> {
    const give = (): void => this.#shares.give(borrower.tenant);
    try {
      const connection = await this.#idle(younger, signal);
      connection.lend(borrower, give);
      return connection;
    } catch (error) {
      give();
      throw error;
    }
  }

  async #idle(younger: number, signal?: StopSignal): Promise<Connection> {
    for (;;) {
      const client = await this.#connectedClient(signal);
      const connection = this.#connections.get(client);
      if (connection === undefined)
        throw new HostError("INTERNAL", "a connection that the pool never announced");
      const fit = connection.doubt === null && client.getTransactionStatus() === "I";
      // Whoever has given up takes what comes, and gives it back.
      if (fit && (connection.ordinal > younger || signal?.aborted === true)) return connection;
      connection.condemn(new Error(fit ? "another of its age was lost" : "the connection was not idle"));
      connection.release();
    }
  }

  async #connectedClient(signal?: StopSignal): Promise<PoolClient> {
    const untilMs = performance.now() + connectTimeoutMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#pool.connect();
      } catch (error) {
        const isLast = attempt === mostAttempts || signal?.aborted === true || performance.now() >= untilMs;
        // Nothing was asked of it yet.
        if (isCutOff(error) && !isLast) continue;
        // pg-pool says the same of a server that is silent and of a pool that is busy.
        const { totalCount, options } = this.#pool;
        const busy =
          /^timeout exceeded when trying to connect/.test(messageOf(error)) && totalCount >= options.max;
        throw busy
          ? new HostError("NO_CAPACITY", `no connection became free in ${connectTimeoutMs} ms`)
          : new HostError("DATABASE_UNREACHABLE", `no connection: ${messageOf(error)}`, { cause: error });
      }
    }
  }

  /** To be called when a connection was lost; what is asked for as younger than what this gives was made since, or since a loss a moment ago. */
  lost(): number {
    const nowMs = performance.now();
    if (nowMs - this.#lostMs >= lossEveryMs) {
      this.#lostMs = nowMs;
      this.#openedAtLoss = this.#opened;
    }
    return this.#openedAtLoss;
  }

  get stats(): { total: number; idle: number; waiting: number } {
    const { totalCount, idleCount, waitingCount } = this.#pool;
    return { total: totalCount, idle: idleCount, waiting: waitingCount + this.#shares.waiting };
  }

  close(): Promise<void> {
    return this.#pool.end();
  }
}
