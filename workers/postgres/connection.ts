/** One connection of a cell to PostgreSQL, with the state that `pg` does not track. */
import { connect as connectSocket } from "node:net";
import pg, { type PoolClient } from "pg";
import { serialize } from "pg-protocol";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost } from "../../src/shared/connect/loss.ts";
import { toHostError } from "../../src/shared/kernel/errors.ts";
import {
  NotSupported,
  Pipeline,
  type PipelineOptions,
  type PipelineResult,
  type Statement,
} from "../../src/shared/postgres/pipeline.ts";
import { backendQuery } from "../../src/shared/postgres/pooler.ts";
import { hasState, isStale } from "../../src/shared/postgres/sqlstate.ts";
import type { Grant } from "../../src/shared/postgres/tenant-shares.ts";
import { transactionOver } from "../../src/shared/postgres/transaction-over.ts";
import { noticeOf, type PgNotice } from "./notice.ts";
import type { Pooler } from "./pooler.ts";
import { Statements } from "./prepared-statements.ts";
import type { Baseline } from "./session-reset.ts";
import type { Setting } from "./settings.ts";

export interface Result extends PipelineResult {
  readonly notices: readonly PgNotice[];
}

/** The tenant that acquired a connection, and whether its functions could leave prepared statements behind. */
export interface Borrower {
  readonly tenant: string;
  readonly prepares: boolean;
}

export interface ConnectionFacts extends Baseline {
  readonly pooler: Pooler;
  /** The connection's number among the cell's connections to that database, in the order of opening. */
  readonly ordinal: number;
  /** Called when a request has returned the connection. */
  readonly onReleased: () => void;
}

const deallocation: Statement = { text: "deallocate all" };

interface Dropping {
  readonly statements: readonly Statement[];
  readonly options: PipelineOptions;
  /** Where the deallocation stands. */
  readonly at: number;
}

/**
 * The group that begins with dropping everything that is prepared, behind `begin` if that comes first: `begin` may name an isolation
 * level, which PostgreSQL refuses behind another statement. All statements are to be sent unnamed: most connections that change
 * tenants do so again after one group.
 */
function droppedBefore(
  statements: readonly Statement[],
  { resultAt = statements.length - 1, standsAt = resultAt, ...options }: PipelineOptions,
): Dropping {
  const at = statements[0]?.text.startsWith("begin") === true ? 1 : 0;
  const moved = (index: number): number => (index < at ? index : index + 1);
  return {
    statements: [...statements.slice(0, at), deallocation, ...statements.slice(at)],
    options: { ...options, resultAt: moved(resultAt), standsAt: moved(standsAt) },
    at,
  };
}

class AnotherBackend extends Error {}

/** Fails with AnotherBackend if another backend answers, so that the rest of the group does not run. */
function sameBackend(backend: number): Statement {
  return {
    text: `select 1 / case when ${backendQuery} = $1 then 1 else 0 end`,
    values: [backend],
    meaning: (error) => (hasState(error, "division_by_zero") ? new AnotherBackend() : error),
  };
}

export class Connection {
  readonly client: PoolClient;
  readonly statements = new Statements();
  /** How often a tenant has acquired it. */
  uses = 0;
  /** Why this connection cannot be used again; if set, the connection is destroyed, not returned. */
  #brokenBy: Error | null = null;
  #resultBytes = 0;
  /** The pipelines on their way, in order. */
  readonly #pipelines: Pipeline[] = [];
  #needsReset = false;
  /** The tenant whose functions ran here last. */
  #tenant: string | null = null;
  /** Whether the connection is at work for that tenant now. */
  #isAcquired = false;
  /** Whether that tenant's functions could have prepared anything since it first acquired the connection. */
  #prepares = false;
  /** Whether another tenant's function may have prepared something here, or the set of prepared statements is unknown. */
  #untrustedStatements = false;
  /** Whether a prepared statement was missing: a tenant's function may have deallocated it, or another backend may be answering. */
  #missed = false;
  #grant: Grant | null = null;
  readonly #seen = new Set<string>();
  readonly #maxResultBytes: number;
  readonly #facts: ConnectionFacts;

  constructor(
    client: PoolClient,
    maxResultBytes: number,
    facts: ConnectionFacts,
    onData?: (tenant: string) => void,
  ) {
    this.client = client;
    this.#facts = facts;
    this.#maxResultBytes = maxResultBytes;
    // Without our own listener, losing a checked-out connection would be an uncaught exception.
    client.on("error", (error) => this.#lose(error));
    client.on("notice", (message) => {
      this.#pipelines.find((pipeline) => !pipeline.over)?.notice(message);
    });
    const { connection } = client;
    connection.once("end", () => this.#lose(new Error("the connection ended")));
    // Ahead of pg's own listener, because parsing the rows counts as the tenant's work too.
    connection.stream.prependListener("data", (chunk: Uint8Array) => {
      if (this.#isAcquired && this.#tenant !== null) onData?.(this.#tenant);
      this.#count(chunk.length);
    });
    // The limit applies to each result, so the count restarts after each group of statements.
    connection.on("readyForQuery", () => {
      this.#resultBytes = 0;
    });
  }

  get ordinal(): number {
    return this.#facts.ordinal;
  }

  /** Number of tenants that its backend has served and caches something of; 0 behind a pooler, whose backends these are. */
  get tenants(): number {
    return this.#passes ? 0 : this.#seen.size;
  }

  /** A hint only: the server's configuration may have changed since. */
  get readCommitted(): boolean {
    return this.#facts.readCommitted;
  }

  get #passes(): boolean {
    return this.#facts.pooler.isThere;
  }

  /**
   * The name to send for a statement, or undefined to send it unnamed; see `Statements.nameFor`. Behind a pooler every statement
   * is unnamed.
   */
  nameFor(tag: string, name: string): string | undefined {
    return this.#passes ? undefined : this.statements.nameFor(tag, name);
  }

  /** The request's `settings`, preceded behind a pooler by those that otherwise belong to the session. */
  settingsFor(settings: readonly Setting[]): readonly Setting[] {
    return this.#passes ? [...this.#facts.passing.settings, ...settings] : settings;
  }

  get brokenBy(): Error | null {
    return this.#brokenBy;
  }

  /** The loss of the connection, if it ended for another reason than being discarded here. */
  get lost(): ConnectionLost | null {
    return this.#brokenBy instanceof ConnectionLost ? this.#brokenBy : null;
  }

  condemn(error: Error): void {
    this.#brokenBy ??= error;
  }

  #lose(error: Error): void {
    this.condemn(error instanceof NotSupported ? error : new ConnectionLost(error));
  }

  /**
   * Sends `statements` and returns the result of the one at `resultAt`, by default the last; a failure skips all that follow.
   * Clears the session first if a clearing behind an earlier commit failed.
   */
  async send(
    statements: readonly Statement[],
    arrayMode = false,
    resultAt = statements.length - 1,
  ): Promise<Result> {
    if (this.#needsClearing) await this.prepare();
    return this.#send(statements, { arrayMode, resultAt });
  }

  /**
   * Sends `statements` and then `commit`, and returns the result of the statement at `resultAt`, by default the commit. A commit
   * keeps what the tenant's functions set for the session, so the session is cleared in the same group.
   */
  async commit(
    statements: readonly Statement[],
    commit: Statement,
    arrayMode = false,
    resultAt?: number,
  ): Promise<Result> {
    if (this.#passes) {
      const all = [...statements, ...this.#facts.passing.clearing, commit];
      const standsAt = all.length - 1;
      return this.#send(all, { arrayMode, resultAt: resultAt ?? standsAt, standsAt });
    }
    if (this.#needsClearing) await this.prepare();
    this.#needsReset = true;
    const standsAt = statements.length;
    const all = [...statements, commit, ...this.#facts.clearing];
    return this.#send(all, { arrayMode, resultAt: resultAt ?? standsAt, standsAt });
  }

  /**
   * Where names can be listed, a tenant's function could put statements of its own in the place of those that end its transaction
   * and clear the session, and hand something of the session to the next tenant: these are unnamed then.
   */
  async #send(given: readonly Statement[], wanted: PipelineOptions): Promise<Result> {
    if (this.#brokenBy !== null) throw this.#brokenBy;
    const known = this.statements;
    const dropping = this.#dropsFirst ? droppedBefore(given, wanted) : null;
    const { statements, options } = dropping ?? { statements: given, options: wanted };
    if (dropping !== null) known.forgetPrepared();
    const pipeline = new Pipeline(
      statements,
      this.#passes || dropping !== null
        ? { ...options, unnamed: "all" }
        : {
            ...options,
            unnamed: this.#facts.hidden ? undefined : "fixed",
            closed: known.takeForgotten(),
            isPrepared: (name, text) => known.isPrepared(name, text),
            columnsOf: (name) => known.columnsOf(name),
          },
    );
    this.#pipelines.push(pipeline);
    try {
      this.client.query(pipeline);
      const { command, rows, rowCount } = await pipeline.result;
      const { failedBehind } = pipeline;
      if (failedBehind === null) {
        for (const { name, text } of pipeline.parsed) if (name !== undefined) known.prepared(name, text);
        const { name: described } = statements[options.resultAt ?? statements.length - 1] ?? {};
        if (described !== undefined && pipeline.described !== null)
          known.described(described, pipeline.described);
        if (statements.at(-1) === this.#facts.clearing.at(-1)) this.#needsReset = false;
      } else if (isStale(failedBehind)) {
        this.#distrust();
      }
      return { command, rows, rowCount, notices: pipeline.notices.map(noticeOf) };
    } catch (error) {
      if (isStale(error)) this.#distrust();
      // If PostgreSQL ended the session, its last error is the reason.
      if (this.lost !== null && error instanceof pg.DatabaseError) throw new ConnectionLost(error);
      // An oversized result ends the connection; report that reason, not the loss.
      throw this.#brokenBy ?? error;
    } finally {
      // Whatever failed behind it, and whether it is rolled back.
      if (dropping !== null && pipeline.completed > dropping.at) this.#untrustedStatements = false;
      this.#pipelines.splice(this.#pipelines.indexOf(pipeline), 1);
    }
  }

  /**
   * Prepared statements on the server are not the ones expected. Forgets them all, and has the server's deallocated before the
   * next use: nothing else would ever close them.
   */
  #distrust(): void {
    this.statements.forgetAll();
    this.#untrustedStatements = true;
    this.#missed = true;
  }

  /**
   * Whether the next group of statements begins with dropping all that is prepared: in a group of its own that would cost a round
   * trip. A statement that was missing has to be looked into first.
   */
  get #dropsFirst(): boolean {
    if (this.#passes || this.#missed) return false;
    return this.#untrustedStatements && this.client.getTransactionStatus() === "I";
  }

  /**
   * Whether the session needs to be cleared before it is used. Never inside a transaction, which a failed commit may have left
   * open; never behind a pooler, where another backend's prepared statements belong to other clients.
   */
  get #needsClearing(): boolean {
    if (this.#passes) return false;
    return (this.#needsReset || this.#missed) && this.client.getTransactionStatus() === "I";
  }

  /** Makes the session fit for a transaction; if that fails, the connection is condemned. */
  async prepare(): Promise<void> {
    try {
      if (this.#missed) await this.#deallocate();
      if (this.#needsReset && !this.#passes) await this.#send(this.#facts.clearing, {});
    } catch (error) {
      this.condemn(toHostError(error));
      throw error;
    }
  }

  /**
   * Deallocates everything after a statement was missing, but only if it is proved to be the same backend: what another has
   * prepared belongs to other clients.
   */
  async #deallocate(): Promise<void> {
    this.statements.forgetAll();
    const { backend, pooler } = this.#facts;
    try {
      await this.#send([sameBackend(backend), deallocation], {});
    } catch (error) {
      if (!(error instanceof AnotherBackend)) throw error;
      pooler.notice("another backend answered on the same connection");
    }
    this.#untrustedStatements = false;
    this.#missed = false;
  }

  /** Rolls back and releases locks, as far as there is anything; if that fails, the connection is condemned. */
  async endTransaction(): Promise<void> {
    if (this.#brokenBy !== null) return;
    await this.send(transactionOver).catch((error: unknown) => this.condemn(toHostError(error)));
  }

  /** Counts bytes on the socket, not in rows: a value of one gigabyte must not be assembled before it is refused. */
  #count(bytes: number): void {
    this.#resultBytes += bytes;
    if (this.#resultBytes <= this.#maxResultBytes || this.#brokenBy !== null) return;
    this.condemn(
      new SafeError(`The result is larger than ${this.#maxResultBytes} bytes.`, {
        code: "RESULT_TOO_LARGE",
      }),
    );
    this.cancel();
  }

  /** Stops the running statement and discards the connection. The server is told first, so that the statement does not run on. */
  cancel(): void {
    this.condemn(new Error("the query was cancelled"));
    const { client } = this;
    const { processID, secretKey, host, port } = client;
    if (processID !== null && secretKey !== null) {
      const socket = host.startsWith("/")
        ? connectSocket(`${host}/.s.PGSQL.${port}`)
        : connectSocket(port, host);
      socket.setTimeout(2_000, () => socket.destroy());
      socket.on("error", () => socket.destroy());
      socket.end(serialize.cancel(processID, secretKey));
    }
    client.connection.stream.destroy();
  }

  /** The grant that the connection was acquired under; null while nobody has it. */
  get grant(): Grant | null {
    return this.#grant;
  }

  /** Sets the grant, which is released together with the connection. */
  grantedBy(grant: Grant): void {
    this.#grant = grant;
  }

  /**
   * Takes the connection into a tenant's use. Statements that a tenant's functions prepared matter only once another tenant
   * follows. Both tenants' `prepares` are considered, because either's functions could tell such statements, and the answer for
   * one may have changed a moment ago.
   */
  acquire({ tenant, prepares }: Borrower): void {
    const another = this.#tenant !== tenant;
    if (another && this.#tenant !== null && (!this.#facts.hidden || prepares || this.#prepares))
      this.#untrustedStatements = true;
    this.#prepares = prepares || (this.#prepares && !another);
    if (another) this.#seen.add(tenant);
    this.uses += 1;
    this.#tenant = tenant;
    this.#isAcquired = true;
  }

  /** Returns the connection to its pool, or destroys it if its state is in doubt. */
  release(): void {
    // "I" is idle. In any other state, one tenant's transaction would be handed to the next.
    if (this.#pipelines.length > 0 || this.client.getTransactionStatus() !== "I") {
      this.condemn(new Error("the connection was released in an unfinished transaction"));
    }
    this.#isAcquired = false;
    this.client.release(this.#brokenBy ?? undefined);
    const grant = this.#grant;
    if (grant === null) return;
    this.#grant = null;
    // Only now, so that the next holder finds the connection in the pool.
    this.#facts.onReleased();
    grant.release();
  }
}
