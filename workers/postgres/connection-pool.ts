/** A cell's connections to one database. */
import { setTimeout as pause } from "node:timers/promises";
import type pg from "pg";
import type { PoolClient } from "pg";
import { Connector } from "../../src/shared/connect/connector.ts";
import { connectionFault, noConnection } from "../../src/shared/connect/loss.ts";
import { NewerSession } from "../../src/shared/connect/newer-session.ts";
import { unlessAborted } from "../../src/shared/kernel/abortable.ts";
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import { type Grant, hostsOwn, TenantShares } from "../../src/shared/postgres/tenant-shares.ts";
import type { PoolFigures } from "../../src/shared/protocol/messages.ts";
import { type Borrower, Connection, type ConnectionFacts } from "./connection.ts";
import { Pooler } from "./pooler.ts";
import type { ReadOnly } from "./read-only.ts";
import { setBaseline } from "./session-reset.ts";

/** How long a request waits for a free connection, and a new connection for the server. */
const connectTimeoutMs = 10_000;
/** How many attempts there are at a connection whose predecessors were cut off while being opened. */
const maxAttempts = 4;
/** Losses within this time count as one, so that a series of them does not discard everyone's idle connections each time. */
const lossEveryMs = 1_000;
/** The pause before PostgreSQL is asked again after it refused a connection within the pool's size. */
const refusedPauseMs = 250;
const idleTimeoutMs = 30_000;
/** Opening a connection beyond the pool's size takes 10 to 20 ms; a tenant that needs one twice a second should find it still open. */
const reserveIdleTimeoutMs = 5_000;

/** How long the answer stands that a new connection takes no writes either; until then, writes are refused at once. */
const readOnlyStandsMs = 1_000;

export interface TenantPoolOptions {
  readonly url: string;
  readonly poolSize: number;
  /** Connections beyond `poolSize`, each opened for a tenant that holds none. */
  readonly poolReserve: number;
  readonly applicationName: string;
  readonly resultBytes: number;
  readonly statementTimeoutMs: number;
  readonly log: (level: "warn" | "info" | "debug", message: string) => void;
  /** Called when bytes arrive for a tenant, before they are parsed. */
  readonly onData?: (tenant: string) => void;
}

export class TenantPool {
  readonly #options: TenantPoolOptions;
  readonly #connector: Connector;
  readonly #pool: pg.Pool;
  /** Connections beyond the pool's size are kept in a pool of their own, so that they are the first to be closed when idle. */
  readonly #reserve: pg.Pool | null;
  readonly #connections = new WeakMap<PoolClient, Connection>();
  readonly #found = new WeakMap<object, ConnectionFacts>();
  readonly #shares: TenantShares;
  /** Looks for a connection that takes writes. */
  readonly #writing: NewerSession;
  readonly #pooler: Pooler;
  #opened = 0;
  /** Connections with an ordinal up to this one are discarded: one of them refused to write after others accepted writes. */
  #openedReadOnly = 0;
  #lostMs = Number.NEGATIVE_INFINITY;
  #openedAtLoss = 0;

  constructor(options: TenantPoolOptions) {
    const { poolSize, poolReserve } = options;
    this.#options = options;
    this.#connector = new Connector({ url: options.url });
    this.#writing = new NewerSession({
      connect: () => this.#connector.connect(this.#clientOptions, silently),
      serves: ({ readOnly }) => !readOnly,
      onServes: () => {
        this.#openedReadOnly = this.#opened;
      },
      onChange: (reason) => {
        if (reason === null) options.log("info", "writes are accepted again");
        else options.log("warn", `writes are refused: ${reason}`);
      },
      standsMs: readOnlyStandsMs,
    });
    this.#pooler = new Pooler((sign) =>
      options.log("debug", `a pooler was detected, so statements are sent unnamed: ${sign}`),
    );
    this.#shares = new TenantShares({
      size: poolSize,
      reserve: poolReserve,
      timeoutMs: connectTimeoutMs,
      code: "NO_CAPACITY",
    });
    this.#pool = this.#newPool(poolSize, idleTimeoutMs);
    // pg-pool would take a `max` of 0 for its default.
    this.#reserve = poolReserve === 0 ? null : this.#newPool(poolReserve, reserveIdleTimeoutMs);
  }

  #newPool(max: number, idleTimeoutMillis: number): pg.Pool {
    const { statementTimeoutMs, resultBytes, log, onData } = this.#options;
    const pool = this.#connector.pool({
      ...this.#clientOptions,
      max,
      pipeline: true,
      idleTimeoutMillis,
      onConnect: async (client) => {
        const baseline = await setBaseline(client, statementTimeoutMs);
        if (!baseline.direct) this.#pooler.notice("the connection is not directly to PostgreSQL");
        this.#opened += 1;
        this.#found.set(client, { ...baseline, pooler: this.#pooler, ordinal: this.#opened });
      },
    });
    pool.on("connect", (client) => {
      const found = this.#found.get(client);
      if (found === undefined) return;
      this.#connections.set(client, new Connection(client, resultBytes, found, onData));
    });
    // The server closed an idle connection; the pool has already removed it.
    pool.on("error", (error) => log("debug", `idle connection lost: ${error.message}`));
    return pool;
  }

  get #clientOptions(): pg.ClientConfig {
    return {
      application_name: this.#options.applicationName,
      keepAlive: true,
      connectionTimeoutMillis: connectTimeoutMs,
    };
  }

  /**
   * An idle connection, outside any transaction, from the share of the borrowing tenant or from the host's own. Connections whose
   * ordinal is not above `younger` are discarded: what ended one of them may be about to end the others. `parent` is the
   * connection that the request keeps holding while it waits for this one. Throws `DATABASE_UNREACHABLE` or `NO_CAPACITY` if
   * there is none to be had, and `CANCELLED` as soon as `signal` aborts.
   */
  async acquire(
    signal?: CancellationToken,
    borrower?: Borrower,
    younger = 0,
    parent?: Connection,
  ): Promise<Connection> {
    const turn = this.#shares.acquire(borrower?.tenant ?? hostsOwn, signal, parent?.grant);
    const grant = turn instanceof Promise ? await turn : turn;
    const connecting = this.#granted(grant, younger, signal);
    if (signal === undefined) return acquired(await connecting, borrower);
    try {
      return acquired(await unlessAborted(signal, cancelled, () => connecting), borrower);
    } catch (error) {
      // The pool cannot withdraw a waiter, so a connection that comes too late is returned at once.
      connecting.then(
        (connection) => connection.release(),
        () => undefined,
      );
      throw error;
    }
  }

  /**
   * The connection that `grant` allows, or that of a later grant if PostgreSQL refuses one beyond the pool's size. Releases the
   * grant if there is no connection to be had.
   */
  async #granted(grant: Grant, younger: number, signal?: CancellationToken): Promise<Connection> {
    try {
      const connection = await this.#idle(grant.beyond, younger, signal);
      connection.grantedBy(grant);
      return connection;
    } catch (error) {
      if (!grant.beyond || !hasState(error, "too_many_connections") || signal?.aborted === true) {
        grant.release();
        throw noConnection("PostgreSQL", error);
      }
    }
    const open = this.#reserve?.totalCount ?? 0;
    this.#options.log(
      "warn",
      `PostgreSQL refused a connection beyond poolSize; ${open} reserve connections are open`,
    );
    return this.#granted(await this.#shares.refuse(grant, open, signal), younger, signal);
  }

  async #idle(beyond: boolean, younger: number, signal?: CancellationToken): Promise<Connection> {
    for (;;) {
      const client = await this.#connectedClient(beyond, signal);
      const connection = this.#connections.get(client);
      if (connection === undefined)
        throw new HostError("INTERNAL", "the pool returned an unknown connection");
      const fit = connection.brokenBy === null && client.getTransactionStatus() === "I";
      // A cancelled caller takes any connection, because it returns it at once.
      const oldest = Math.max(younger, this.#openedReadOnly);
      if (fit && (connection.ordinal > oldest || signal?.aborted === true)) return connection;
      connection.condemn(
        new Error(
          fit ? "a connection of the same age was lost or is read-only" : "the connection was not idle",
        ),
      );
      connection.release();
    }
  }

  async #connectedClient(beyond: boolean, signal?: CancellationToken): Promise<PoolClient> {
    const pool = beyond ? (this.#reserve ?? this.#pool) : this.#pool;
    const untilMs = performance.now() + connectTimeoutMs;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await pool.connect();
      } catch (error) {
        if (signal?.aborted === true || performance.now() >= untilMs) throw error;
        // Other hosts or cells of this server may be using our connections, for no longer than they need them.
        if (hasState(error, "too_many_connections") && !beyond) await pause(refusedPauseMs);
        // Nothing has been sent on it yet, so trying again is safe.
        else if (connectionFault(error) !== "ended" || attempt === maxAttempts) throw error;
      }
    }
  }

  /**
   * To be called when a connection was lost. Connections with an ordinal above the returned one were opened after this loss, or
   * after one within the last second.
   */
  lost(): number {
    const nowMs = performance.now();
    if (nowMs - this.#lostMs >= lossEveryMs) {
      this.#lostMs = nowMs;
      this.#openedAtLoss = this.#opened;
    }
    return this.#openedAtLoss;
  }

  /**
   * To be called when a connection refused to write. Connections with an ordinal above the returned one take writes. Throws
   * `DATABASE_READ_ONLY` if none does; reads then go on with the existing connections.
   */
  async writable(refused: ReadOnly): Promise<number> {
    const isOlder = refused.ordinal <= this.#openedReadOnly;
    if (!isOlder && !(await this.#writing.ask())) {
      throw new HostError("DATABASE_READ_ONLY", undefined, { cause: refused.cause });
    }
    return this.#openedReadOnly;
  }

  /** Whether writes were refused, and as far as is known still are. */
  get readOnly(): boolean {
    return this.#writing.lacking;
  }

  get stats(): PoolFigures {
    const reserve = this.#reserve?.totalCount ?? 0;
    return {
      total: this.#pool.totalCount + reserve,
      idle: this.#pool.idleCount + (this.#reserve?.idleCount ?? 0),
      waiting: this.#shares.waiting,
      reserve,
    };
  }

  async close(): Promise<void> {
    this.#shares.close();
    await Promise.all([this.#pool.end(), this.#reserve?.end(), this.#writing.close()]);
  }
}

/** Ignores losses of a connection that nothing is waiting on. */
function silently(client: pg.Client): void {
  client.on("error", () => undefined);
}

const cancelled = (): HostError => new HostError("CANCELLED");

function acquired(connection: Connection, borrower: Borrower | undefined): Connection {
  if (borrower !== undefined) connection.acquire(borrower);
  return connection;
}
