/** One connection of a cell to PostgreSQL, with what must be known of it beyond what `pg` knows. */
import { connect as connectSocket } from "node:net";
import pg, { type PoolClient } from "pg";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost } from "../../src/shared/connect/loss.ts";
import { toHostError } from "../../src/shared/kernel/errors.ts";
import { backendQuery } from "../../src/shared/postgres/pooler.ts";
import type { Grant } from "../../src/shared/postgres/tenant-shares.ts";
import { noticeOf, type PgNotice } from "./notice.ts";
import {
  NotSupported,
  Pipeline,
  type PipelineOptions,
  type PipelineResult,
  type Statement,
} from "./pipeline.ts";
import type { Pooler } from "./pooler.ts";
import { Statements } from "./prepared-statements.ts";
import type { Baseline } from "./session-reset.ts";
import type { Setting } from "./settings.ts";

declare module "pg" {
  interface Client {
    readonly processID: number | null;
    readonly secretKey: number | null;
  }
}

export interface Result extends PipelineResult {
  readonly notices: readonly PgNotice[];
}

/** Whom a connection is lent to, and whether functions of theirs could leave statements of their own prepared there. */
export interface Borrower {
  readonly tenant: string;
  readonly prepares: boolean;
}

export interface ConnectionFacts extends Baseline {
  readonly pooler: Pooler;
  /** Counts the connections of its cell to that database. */
  readonly ordinal: number;
}

const deallocation: Statement = { text: "deallocate all" };

class AnotherBackend extends Error {}

/** Fails with AnotherBackend, and what follows in its group does not run, where another backend answers. */
function sameBackend(backend: number): Statement {
  return {
    text: `select 1 / case when ${backendQuery} = $1 then 1 else 0 end`,
    values: [backend],
    meaning: (error) => (error.code === "22012" ? new AnotherBackend() : error),
  };
}

export class Connection {
  readonly client: PoolClient;
  readonly statements = new Statements();
  /** Why this connection cannot be used again; a connection in doubt is destroyed, not returned. */
  #doubt: Error | null = null;
  #resultBytes = 0;
  /** Those on their way, in order. */
  readonly #bursts: Pipeline[] = [];
  #soiled = false;
  /** Whose functions ran here last. */
  #tenant: string | null = null;
  /** Whether it is at work for them. */
  #isLent = false;
  /** Whether those, at any time since, could have prepared something. */
  #prepares = false;
  /** Whether what is prepared may have been put there by another tenant's function, or is not known any more. */
  #strange = false;
  /** Whether something prepared was not there: a tenant's function may have given it up, or another backend be the one that answers. */
  #missed = false;
  #grant: Grant | null = null;
  readonly #mostResultBytes: number;
  readonly #facts: ConnectionFacts;

  constructor(
    client: PoolClient,
    mostResultBytes: number,
    facts: ConnectionFacts,
    onData?: (tenant: string) => void,
  ) {
    this.client = client;
    this.#facts = facts;
    this.#mostResultBytes = mostResultBytes;
    // Without a listener of our own a connection lost while checked out would be an uncaught exception.
    client.on("error", (error) => this.#lose(error));
    client.on("notice", (message) => {
      this.#bursts.find((burst) => !burst.over)?.notice(() => noticeOf(message));
    });
    const { connection } = client;
    connection.once("end", () => this.#lose(new Error("the connection ended")));
    // Ahead of pg's own listener: making rows of what came is the tenant's work as well.
    connection.stream.prependListener("data", (chunk: Uint8Array) => {
      if (this.#isLent && this.#tenant !== null) onData?.(this.#tenant);
      this.#count(chunk.length);
    });
    // The end of each group of statements: the limit is per result.
    connection.on("readyForQuery", () => {
      this.#resultBytes = 0;
    });
  }

  get ordinal(): number {
    return this.#facts.ordinal;
  }

  /** A hint: the server's configuration may have changed since. */
  get readCommitted(): boolean {
    return this.#facts.readCommitted;
  }

  get #passes(): boolean {
    return this.#facts.pooler.isThere;
  }

  /** The name to send for a statement, or undefined: unnamed; `Statements.nameFor` tells which. Behind a pooler nothing has a name. */
  nameFor(tag: string, name: string): string | undefined {
    return this.#passes ? undefined : this.statements.nameFor(tag, name);
  }

  /** `settings` of a request, and what of the session's own a transaction here has to make for itself. */
  settingsFor(settings: readonly Setting[]): readonly Setting[] {
    return this.#passes ? [...this.#facts.passing.settings, ...settings] : settings;
  }

  get doubt(): Error | null {
    return this.#doubt;
  }

  /** That the connection has ended, other than because it was given up here. */
  get lost(): ConnectionLost | null {
    return this.#doubt instanceof ConnectionLost ? this.#doubt : null;
  }

  condemn(error: Error): void {
    this.#doubt ??= error;
  }

  #lose(error: Error): void {
    this.condemn(error instanceof NotSupported ? error : new ConnectionLost(error));
  }

  /**
   * What the statement at `resultAt`, the last unless told otherwise, gives; none runs where one before it failed. Where the
   * session could not be cleared behind an earlier commit, it is cleared first.
   */
  async send(
    statements: readonly Statement[],
    arrayMode = false,
    resultAt = statements.length - 1,
  ): Promise<Result> {
    if (this.#unfit) await this.#prepare();
    return this.#send(statements, { arrayMode, resultAt });
  }

  /**
   * Sends `statements` and then `commit`, and gives what the statement at `resultAt` gave, that of the commit unless told otherwise.
   * What a function of the tenant's set for the session stays with a commit: it is cleared in the same group.
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
    if (this.#unfit) await this.#prepare();
    this.#soiled = true;
    const standsAt = statements.length;
    const all = [...statements, commit, ...this.#facts.clearing];
    return this.#send(all, { arrayMode, resultAt: resultAt ?? standsAt, standsAt });
  }

  async #send(statements: readonly Statement[], options: PipelineOptions): Promise<Result> {
    if (this.#doubt !== null) throw this.#doubt;
    const known = this.statements;
    const burst = new Pipeline(
      statements,
      this.#passes
        ? { ...options, unnamed: true }
        : {
            ...options,
            closed: known.takeForgotten(),
            isPrepared: (name, text) => known.isPrepared(name, text),
            columnsOf: (name) => known.columnsOf(name),
          },
    );
    this.#bursts.push(burst);
    try {
      this.client.query(burst);
      const { command, rows, rowCount } = await burst.result;
      const { failedBehind } = burst;
      if (failedBehind === null) {
        for (const { name, text } of burst.parsed) if (name !== undefined) known.prepared(name, text);
        const { name: described } = statements[options.resultAt ?? statements.length - 1] ?? {};
        if (described !== undefined && burst.described !== null) known.described(described, burst.described);
        if (statements.at(-1) === this.#facts.clearing.at(-1)) this.#soiled = false;
      } else if (isStale(failedBehind)) {
        this.#distrust();
      }
      return { command, rows, rowCount, notices: burst.notices };
    } catch (error) {
      if (isStale(error)) this.#distrust();
      // What PostgreSQL said last of a session that it ended is the reason for that.
      if (this.lost !== null && error instanceof pg.DatabaseError) throw new ConnectionLost(error);
      // A result that was cut off ends the connection: the reason for that is the reason to report.
      throw this.#doubt ?? error;
    } finally {
      this.#bursts.splice(this.#bursts.indexOf(burst), 1);
    }
  }

  /** The server has not got what it should have: what it has instead goes, too, before the next use, or nobody would ever close it. */
  #distrust(): void {
    this.statements.forgetAll();
    this.#strange = true;
    this.#missed = true;
  }

  /**
   * Whether the session must not be used as it is; inside a transaction, which a commit that failed may have left open, it has to be. A
   * pooler's connection has none: what another backend has prepared is other clients'.
   */
  get #unfit(): boolean {
    if (this.#passes) return false;
    return (this.#soiled || this.#strange) && this.client.getTransactionStatus() === "I";
  }

  /** Makes the session fit for a transaction; one that cannot be made so is in doubt. */
  async #prepare(): Promise<void> {
    try {
      if (this.#strange) await this.#deallocate();
      if (this.#soiled && !this.#passes) await this.#send(this.#facts.clearing, {});
    } catch (error) {
      this.condemn(toHostError(error));
      throw error;
    }
  }

  /** Where something was missed, only behind a proof that it is the same backend: what another has prepared is other clients'. */
  async #deallocate(): Promise<void> {
    this.statements.forgetAll();
    const { backend, pooler } = this.#facts;
    try {
      await this.#send(this.#missed ? [sameBackend(backend), deallocation] : [deallocation], {});
    } catch (error) {
      if (!(error instanceof AnotherBackend)) throw error;
      pooler.notice("another backend answered than the one that it was connected to");
    }
    this.#strange = false;
    this.#missed = false;
  }

  /** Bytes are counted on the socket, not in rows: one value of a gigabyte must not be assembled first. */
  #count(bytes: number): void {
    this.#resultBytes += bytes;
    if (this.#resultBytes <= this.#mostResultBytes || this.#doubt !== null) return;
    this.condemn(
      new SafeError(`The result is larger than ${this.#mostResultBytes} bytes.`, {
        code: "RESULT_TOO_LARGE",
      }),
    );
    this.cancel();
  }

  /** Stops what runs and gives the connection up. The server is told first, so that the statement does not run on. */
  cancel(): void {
    this.condemn(new Error("the query was cancelled"));
    const { client } = this;
    const { processID, secretKey, host, port } = client;
    if (processID !== null && secretKey !== null) {
      const socket = host.startsWith("/")
        ? connectSocket(`${host}/.s.PGSQL.${port}`)
        : connectSocket(port, host);
      // CancelRequest: https://www.postgresql.org/docs/18/protocol-message-formats.html
      const request = Buffer.alloc(16);
      request.writeInt32BE(16, 0);
      request.writeInt32BE(80877102, 4);
      request.writeInt32BE(processID, 8);
      request.writeInt32BE(secretKey, 12);
      socket.setTimeout(2_000, () => socket.destroy());
      socket.on("error", () => socket.destroy());
      socket.end(request);
    }
    client.connection.stream.destroy();
  }

  /** By what right it is lent; null where it is not. */
  get grant(): Grant | null {
    return this.#grant;
  }

  /** Says so; `grant` is released with the connection. */
  grantedBy(grant: Grant): void {
    this.#grant = grant;
  }

  /**
   * Says whom it is lent to. What a tenant's function prepares is that tenant's own affair until
   * another's turn comes. Both are asked whether functions of theirs could know of it: of one it may have become true a moment ago.
   */
  lend({ tenant, prepares }: Borrower): void {
    const another = this.#tenant !== tenant;
    if (another && this.#tenant !== null && (!this.#facts.hidden || prepares || this.#prepares))
      this.#strange = true;
    this.#prepares = prepares || (this.#prepares && !another);
    this.#tenant = tenant;
    this.#isLent = true;
  }

  /** Gives the connection back to its pool, or destroys it where anything of it is in doubt. */
  release(): void {
    // "I" is idle; anything else would hand a transaction of one tenant to the next.
    if (this.#bursts.length > 0 || this.client.getTransactionStatus() !== "I") {
      this.condemn(new Error("the connection was left with something unfinished"));
    }
    this.#isLent = false;
    this.client.release(this.#doubt ?? undefined);
    // Behind that: whoever is granted it next finds it in the pool.
    const grant = this.#grant;
    this.#grant = null;
    grant?.release();
  }
}

/**
 * Whether a prepared statement was not there, or there before it was prepared, or not to be used again: a function may have said `discard
 * all`, another backend may be the one that answers, and a
 * changed table may have changed a statement's result ("cached plan must not change result type": of all that is not supported, the
 * only one that says so there). A parameter's type that is no longer there is missed before the statement is looked at ("cache lookup
 * failed for type"); nothing of it has run then.
 */
export function isStale(error: unknown): boolean {
  if (!(error instanceof Error && "code" in error)) return false;
  const routine = "routine" in error ? error.routine : undefined;
  return (
    error.code === "26000" ||
    error.code === "42P05" ||
    (error.code === "0A000" && routine === "RevalidateCachedQuery") ||
    (error.code === "XX000" && routine === "getTypeInputInfo")
  );
}
