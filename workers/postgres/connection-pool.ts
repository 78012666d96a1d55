/** A cell's connections to one database. */
import { setTimeout as pause } from "node:timers/promises";
import type pg from "pg";
import type { PoolClient } from "pg";
import { Connector } from "../../src/shared/connect/connector.ts";
import { NewerSession } from "../../src/shared/connect/newer-session.ts";
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError, messageOf } from "../../src/shared/kernel/errors.ts";
import { type Grant, hostsOwn, TenantShares } from "../../src/shared/postgres/tenant-shares.ts";
import { isTooManyConnections } from "../../src/shared/postgres/too-many-connections.ts";
import type { PoolFigures } from "../../src/shared/protocol/messages.ts";
import { type Borrower, Connection, type ConnectionFacts } from "./connection.ts";
import { wasDisconnected } from "./outcome.ts";
import { Pooler } from "./pooler.ts";
import type { ReadOnly } from "./read-only.ts";
import { setBaseline } from "./session-reset.ts";

/** How long a request waits for a free connection, and a new one for the server. */
const connectTimeoutMs = 10_000;
/** How often a connection is asked for whose like was cut off while it was being made. */
const maxAttempts = 4;
/** What is lost one after the other, for whatever reason, does not cost everybody's idle connections each time. */
const lossEveryMs = 1_000;
/** How long after PostgreSQL had no connection within the pool's size for us it is asked again. */
const refusedPauseMs = 250;
const idleTimeoutMs = 30_000;
/** One beyond the pool's size takes 10 to 20 ms to open: whoever asks twice a second is to find the one that it had. */
const reserveIdleTimeoutMs = 5_000;

/** How long a write is refused at once behind another that was, and a connection made for it. */
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
  /** Called when bytes have come for a tenant, before anything is made of them. */
  readonly onData?: (tenant: string) => void;
}

export class TenantPool {
  readonly #options: TenantPoolOptions;
  readonly #connector: Connector;
  readonly #pool: pg.Pool;
  /** What is beyond the pool's size stands in a pool of its own, so that what is given back is closed first. */
  readonly #reserve: pg.Pool | null;
  readonly #connections = new WeakMap<PoolClient, Connection>();
  readonly #found = new WeakMap<object, ConnectionFacts>();
  readonly #shares: TenantShares;
  /** One that takes writes. */
  readonly #writing: NewerSession;
  readonly #pooler: Pooler;
  #opened = 0;
  /** Connections that are not younger are given up: of those, one refused to write when others did not. */
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
        if (reason === null) options.log("info", "writes are taken again");
        else options.log("warn", `writes are refused: ${reason}`);
      },
      standsMs: readOnlyStandsMs,
    });
    this.#pooler = new Pooler((sign) =>
      options.log("debug", `statements are sent unnamed, as behind a pooler: ${sign}`),
    );
    this.#shares = new TenantShares({
      size: poolSize,
      reserve: poolReserve,
      timeoutMs: connectTimeoutMs,
      code: "NO_CAPACITY",
    });
    this.#pool = this.#newPool(poolSize, idleTimeoutMs);
    // pg-pool takes 0 for its default.
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
        if (!baseline.direct) this.#pooler.notice("it is not PostgreSQL itself that was connected to");
        this.#opened += 1;
        this.#found.set(client, { ...baseline, pooler: this.#pooler, ordinal: this.#opened });
      },
    });
    pool.on("connect", (client) => {
      const found = this.#found.get(client);
      if (found === undefined) return;
      this.#connections.set(client, new Connection(client, resultBytes, found, onData));
    });
    // An idle connection that the server closed: the pool has dropped it already.
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
   * A connection that is idle, outside any transaction, of the share of the tenant that it is for, or of the host's own; throws
   * `DATABASE_UNREACHABLE` or `NO_CAPACITY` where there is none to be had, and `CANCELLED` as soon as `signal` aborts. Connections
   * that are not `younger` than that are given up: what ended one of them may be on its way to the others. `parent` is what the
   * request holds until it has this one.
   */
  async connect(
    signal?: CancellationToken,
    borrower?: Borrower,
    younger = 0,
    parent?: Connection,
  ): Promise<Connection> {
    const turn = this.#shares.acquire(borrower?.tenant ?? hostsOwn, signal, parent?.grant);
    const grant = turn instanceof Promise ? await turn : turn;
    const connecting = this.#granted(grant, younger, signal);
    if (signal === undefined) return lent(await connecting, borrower);
    const { promise: cancelled, reject } = Promise.withResolvers<never>();
    const abort = (): void => reject(new HostError("CANCELLED"));
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    try {
      return lent(await Promise.race([connecting, cancelled]), borrower);
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

  /** The connection that `grant` is for, or another grant after it. Where there is none to be had, all are given back. */
  async #granted(grant: Grant, younger: number, signal?: CancellationToken): Promise<Connection> {
    try {
      const connection = await this.#idle(grant.beyond, younger, signal);
      connection.grantedBy(grant);
      return connection;
    } catch (error) {
      if (!grant.beyond || !isTooManyConnections(error) || signal?.aborted === true) {
        grant.release();
        throw unreachable(error);
      }
    }
    const open = this.#reserve?.totalCount ?? 0;
    this.#options.log(
      "warn",
      `PostgreSQL has no connection beyond poolSize; ${open} of the reserve are open`,
    );
    return this.#granted(await this.#shares.refuse(grant, open, signal), younger, signal);
  }

  async #idle(beyond: boolean, younger: number, signal?: CancellationToken): Promise<Connection> {
    for (;;) {
      const client = await this.#connectedClient(beyond, signal);
      const connection = this.#connections.get(client);
      if (connection === undefined)
        throw new HostError("INTERNAL", "a connection that the pool never announced");
      const fit = connection.doubt === null && client.getTransactionStatus() === "I";
      // Whoever has given up takes what comes, and gives it back.
      const oldest = Math.max(younger, this.#openedReadOnly);
      if (fit && (connection.ordinal > oldest || signal?.aborted === true)) return connection;
      connection.condemn(
        new Error(fit ? "another of its age was lost, or takes no writes" : "the connection was not idle"),
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
        // Others of this server's hosts and cells may have taken what is ours, and for no longer than they need it.
        if (isTooManyConnections(error) && !beyond) await pause(refusedPauseMs);
        // Nothing was asked of it yet.
        else if (!wasDisconnected(error) || attempt === maxAttempts) throw error;
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

  /**
   * To be called when a connection refused to write: what is asked for as younger than what this gives takes writes. Throws
   * `DATABASE_READ_ONLY` where none does; reads go on then by those that there are.
   */
  async writable(refused: ReadOnly): Promise<number> {
    const isOlder = refused.ordinal <= this.#openedReadOnly;
    if (!isOlder && !(await this.#writing.ask())) {
      throw new HostError("DATABASE_READ_ONLY", undefined, { cause: refused.cause });
    }
    return this.#openedReadOnly;
  }

  /** Whether writes were refused, and still are as far as is known. */
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

/** What is lost while nothing is asked of it is of no interest. */
function silently(client: pg.Client): void {
  client.on("error", () => undefined);
}

function lent(connection: Connection, borrower: Borrower | undefined): Connection {
  if (borrower !== undefined) connection.lend(borrower);
  return connection;
}

/** Why there is no connection, as an error of the host. */
function unreachable(error: unknown): HostError {
  if (error instanceof HostError) return error;
  if (isTooManyConnections(error))
    return new HostError("NO_CAPACITY", `PostgreSQL has no connection: ${messageOf(error)} (53300)`);
  const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : "";
  return new HostError("DATABASE_UNREACHABLE", `no connection: ${messageOf(error)}${code}`, { cause: error });
}
