/** A cell's connections to one database. */
import { setTimeout as pause } from "node:timers/promises";
import pg, { type PoolClient } from "pg";
import { Connector } from "../../src/shared/connect/connector.ts";
import { connectionFault, noConnection } from "../../src/shared/connect/loss.ts";
import { NewerSession } from "../../src/shared/connect/newer-session.ts";
import { unlessAborted } from "../../src/shared/kernel/abortable.ts";
import type { CancellationToken } from "../../src/shared/kernel/cancellation.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import { type Grant, hostsOwn, TenantShares } from "../../src/shared/postgres/tenant-shares.ts";
import type { PoolFigures, RenewAfter, RenewalCounts } from "../../src/shared/protocol/messages.ts";
import { type Borrower, Connection, type ConnectionFacts } from "./connection.ts";
import { Homes } from "./homes.ts";
import { type Place, Places, type PlacesOptions } from "./places.ts";
import { Pooler } from "./pooler.ts";
import type { ReadOnly } from "./read-only.ts";
import { Renewals } from "./renewals.ts";
import { setBaseline } from "./session-reset.ts";

const defaultConnectTimeoutMs = 10_000;
/** How many attempts there are at a connection whose predecessors were cut off while being opened. */
const maxAttempts = 4;
/** Losses within this time count as one, so that a series of them does not discard everyone's idle connections each time. */
const lossEveryMs = 1_000;
/** The pause before PostgreSQL is asked again after it refused a connection within the pool's size. */
const refusedPauseMs = 250;
const idleTimeoutMs = 30_000;
/** Opening a connection beyond the pool's size takes 10 to 20 ms; a tenant that needs one twice a second should find it still open. */
const reserveIdleTimeoutMs = 5_000;

const noRenewals: RenewAfter = { tenants: 0, ageMs: 0, memoryMb: 0 };

/** How long the answer stands that a new connection takes no writes either; until then, writes are refused at once. */
const readOnlyStandsMs = 1_000;

/** `poolReserve`: connections beyond `poolSize`, each opened for a tenant that holds none. */
export interface TenantPoolOptions extends Omit<PlacesOptions, "overdueMs"> {
  readonly url: string;
  /** How long a request waits for a free connection, and a new connection for the server. */
  readonly connectTimeoutMs?: number;
  /** By default never. `periodMs` is the time between two renewals. */
  readonly renewAfter?: (RenewAfter & { readonly periodMs?: number }) | undefined;
  readonly applicationName: string;
  readonly resultBytes: number;
  readonly statementTimeoutMs: number;
  readonly log: (level: "warn" | "info" | "debug", message: string) => void;
  /** Called when bytes arrive for a tenant, before they are parsed. */
  readonly onData?: (tenant: string) => void;
}

export class TenantPool {
  readonly #options: TenantPoolOptions;
  readonly #connectTimeoutMs: number;
  readonly #connector: Connector;
  readonly #places: Places;
  readonly #homes: Homes;
  readonly #renewals: Renewals;
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
    const { poolSize, poolReserve, connectTimeoutMs = defaultConnectTimeoutMs } = options;
    this.#options = options;
    this.#connectTimeoutMs = connectTimeoutMs;
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
    this.#homes = new Homes(poolSize);
    this.#places = new Places({ ...options, overdueMs: connectTimeoutMs }, (place) => this.#newPool(place));
    this.#renewals = new Renewals(this.#places, options.renewAfter ?? noRenewals, (message) =>
      options.log("info", message),
    );
  }

  /** A pool of one connection: which of several pg-pool returns cannot be chosen. */
  #newPool(place: Place): pg.Pool {
    const { statementTimeoutMs, resultBytes, log, onData } = this.#options;
    const pool = this.#connector.pool({
      ...this.#clientOptions,
      max: 1,
      pipeline: true,
      idleTimeoutMillis: place.isReserve ? reserveIdleTimeoutMs : idleTimeoutMs,
      onConnect: async (client) => {
        const baseline = await this.#unlessSilent(client, setBaseline(client, statementTimeoutMs));
        if (!baseline.direct) this.#pooler.notice("the connection is not directly to PostgreSQL");
        this.#opened += 1;
        const facts = { ...baseline, pooler: this.#pooler, ordinal: this.#opened };
        this.#found.set(client, { ...facts, onReleased: () => this.#places.release(place) });
      },
    });
    pool.on("connect", (client) => {
      const found = this.#found.get(client);
      if (found === undefined) return;
      place.connection = new Connection(client, resultBytes, found, onData);
      this.#connections.set(client, place.connection);
    });
    pool.on("remove", (client) => {
      if (place.connection?.client === client) place.connection = null;
    });
    // The server closed an idle connection; the pool has already removed it.
    pool.on("error", (error) => log("debug", `idle connection lost: ${error.message}`));
    return pool;
  }

  get #clientOptions(): pg.ClientConfig {
    return {
      application_name: this.#options.applicationName,
      keepAlive: true,
      connectionTimeoutMillis: this.#connectTimeoutMs,
    };
  }

  /** The result of `work` on a new connection, which is ended if that takes as long as none may take to open. */
  async #unlessSilent<Value>(client: pg.ClientBase, work: Promise<Value>): Promise<Value> {
    let isSilent = false;
    const timer = setTimeout(() => {
      isSilent = true;
      if (client instanceof pg.Client) client.connection.stream.destroy();
    }, this.#connectTimeoutMs);
    try {
      return await work;
    } catch (error) {
      throw isSilent ? new Error("timeout exceeded when trying to connect", { cause: error }) : error;
    } finally {
      clearTimeout(timer);
    }
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
    const connecting = this.#granted(grant, { borrower, younger, signal });
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
  async #granted(grant: Grant, use: Use): Promise<Connection> {
    const untilMs = performance.now() + this.#connectTimeoutMs;
    for (let attempt = 1; ; attempt += 1) {
      let place: Place | null = null;
      try {
        const taken = this.#placeFor(grant, use);
        place = taken instanceof Promise ? await taken : taken;
        const connection = await this.#idle(place, use);
        connection.grantedBy(grant);
        return connection;
      } catch (error) {
        if (place !== null) this.#places.release(place);
        const refused = hasState(error, "too_many_connections");
        if (refused && place?.isReserve === true && use.signal?.aborted !== true)
          return this.#refused(grant, use);
        const over = use.signal?.aborted === true || performance.now() >= untilMs;
        // Nothing has been sent on it yet, so trying again is safe.
        if (over || (!refused && (connectionFault(error) !== "ended" || attempt === maxAttempts))) {
          grant.release();
          throw noConnection("PostgreSQL", error);
        }
        // Other hosts or cells of this server may be using our connections, for no longer than they need them.
        if (refused) await pause(refusedPauseMs);
      }
    }
  }

  async #refused(grant: Grant, use: Use): Promise<Connection> {
    const open = this.#reserveOpen;
    this.#options.log(
      "warn",
      `PostgreSQL refused a connection beyond poolSize; ${open} reserve connections are open`,
    );
    return this.#granted(await this.#shares.refuse(grant, open, use.signal), use);
  }

  /** A request that holds a connection does not wait for its home: it may be the one that it holds. */
  #placeFor(grant: Grant, { borrower, signal }: Use): Place | Promise<Place> {
    if (borrower === undefined) return this.#places.take(hostsOwn, [], false, signal);
    const waits = grant.parent === null && !this.#pooler.isThere;
    return this.#places.take(borrower.tenant, this.#homes.of(borrower), waits, signal);
  }

  async #idle(place: Place, { younger, signal }: Use): Promise<Connection> {
    for (;;) {
      const client = await place.pool.connect();
      const connection = this.#connections.get(client);
      if (connection === undefined) {
        client.release(true);
        throw new HostError("INTERNAL", "the pool returned an unknown connection");
      }
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
    const sum = { total: 0, idle: 0, waiting: this.#shares.waiting, reserve: this.#reserveOpen };
    for (const { pool } of this.#places.all) {
      sum.total += pool.totalCount;
      sum.idle += pool.idleCount;
    }
    return sum;
  }

  /** The connections that were renewed since the last call. */
  takeRenewals(): RenewalCounts {
    return this.#renewals.take();
  }

  get #reserveOpen(): number {
    return this.#places.all.reduce((sum, { isReserve, pool }) => sum + (isReserve ? pool.totalCount : 0), 0);
  }

  async close(): Promise<void> {
    this.#renewals.close();
    this.#shares.close();
    this.#places.close();
    await Promise.all([...this.#places.all.map(({ pool }) => pool.end()), this.#writing.close()]);
  }
}

/** What a request needs of a connection. */
interface Use {
  readonly borrower: Borrower | undefined;
  readonly younger: number;
  readonly signal: CancellationToken | undefined;
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
