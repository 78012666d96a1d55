/** The two ways to send a statement to PostgreSQL, both with a request's settings; nothing runs outside them. */
import type { PgClientQuery, PgClientResult } from "postgraphile/@dataplan/pg";
import { HostError, toHostError } from "../../src/shared/kernel/errors.ts";
import { fixedStatement, type Statement } from "../../src/shared/postgres/pipeline.ts";
import { hasState, isStale } from "../../src/shared/postgres/sqlstate.ts";
import { unlockText } from "../../src/shared/postgres/transaction-over.ts";
import type { Connection, Result } from "./connection.ts";
import { isReadOnly, ReadOnly, refusedByStandby } from "./read-only.ts";
import {
  isGuardFailure,
  type ReadGuard,
  RevisionCheckFailed,
  type TransactionGuard,
} from "./revision-guard.ts";
import { forgetSequences } from "./session-reset.ts";
import { type Setting, settingsStatement } from "./settings.ts";
import { assertHarmless } from "./statement-policy.ts";

const beginReading = fixedStatement("begin_reading", "begin read only");
const rollback = fixedStatement("rollback", "rollback");
/**
 * Unnamed, because a tenant's function may have deallocated the prepared statements, and its writes are to be committed all the
 * same.
 */
const commit: Statement = { text: "commit" };
const unlock = fixedStatement("unlock", unlockText);

/** What the tenant determines about how a statement is sent. */
export interface ReadOptions {
  /** A named query is prepared under its name and this. */
  readonly tag: string;
  readonly guard: ReadGuard | null;
  /** Whether a tenant's function could NOTIFY, which PostgreSQL delivers at a commit. */
  readonly notifies: boolean;
}

/**
 * Runs one read in one pipeline, in a read-only transaction: a write must not be repeated, nor bypass the guard of writes. It is
 * rolled back and unlocked, so that nothing a tenant's function set for the session outlives it. If the tenant's functions could
 * notify, it is committed, as PostGraphile does with every read, and the session is cleared as after a write
 * (`session-reset.ts`). Use `isWrite` to recognize the error of a query that writes.
 */
export async function read(
  connection: Connection,
  settings: readonly Setting[],
  query: PgClientQuery,
  { tag, guard, notifies }: ReadOptions,
): Promise<Result> {
  assertHarmless(query.text);
  const name = query.name === undefined ? undefined : connection.nameFor(tag, query.name);
  const run = (first: Statement): Promise<Result> => {
    const work = { text: query.text, values: query.values, name };
    return notifies
      ? connection.commit([beginReading, first, work], commit, query.arrayMode, 2)
      : connection.send([beginReading, first, work, rollback, unlock], query.arrayMode, 2);
  };
  try {
    // The guard's statement makes the settings as well.
    return await run(guard?.first ?? settingsStatement(settings));
  } catch (error) {
    await endFailed(connection);
    if (guard === null || !(error instanceof RevisionCheckFailed) || connection.brokenBy !== null)
      throw error;
    try {
      return await run(guard.pessimistic());
    } catch (fault) {
      await endFailed(connection);
      throw isGuardFailure(fault) ? await refusedByStandby(connection, fault) : fault;
    }
  }
}

/** Ends a failed transaction, if the connection still exists. */
async function endFailed(connection: Connection): Promise<void> {
  if (connection.client.getTransactionStatus() !== "I") await connection.endTransaction();
}

/** Whether a read failed because it tried to write; nothing of it has been committed. */
export function isWrite(error: unknown): boolean {
  return hasState(error, "read_only_sql_transaction");
}

/** Deferred constraints and their triggers run at commit, so it may take long. */
const commitTimeoutMs = 60_000;

const begin = fixedStatement("begin", "begin");

/** A transaction of several statements. */
export class Transaction {
  readonly #connection: Connection;
  readonly #settings: readonly Setting[];
  readonly #tag: string;
  #guard: TransactionGuard | null;
  /** The guard's failure, kept because later errors only follow from it. */
  #changed: unknown = null;
  /** The error that said that nothing can be written; a tenant's function may have raised it. */
  #refused: unknown = null;
  #readOnly: ReadOnly | null = null;
  #opening: Promise<unknown> | null = null;
  #closed = false;

  /**
   * With a `guard`, statements fail with an error of `isGuardFailure` if the tenant's schema has changed, at the beginning or the
   * end.
   */
  constructor(
    connection: Connection,
    settings: readonly Setting[],
    tag: string,
    guard: TransactionGuard | null,
  ) {
    this.#connection = connection;
    this.#tag = tag;
    this.#settings = settings;
    this.#guard = guard;
  }

  /** The guard's failure, if it has failed. */
  get changed(): unknown {
    return this.#changed;
  }

  /** Set after the rollback if the transaction failed because its connection takes no writes. */
  get readOnly(): ReadOnly | null {
    return this.#readOnly;
  }

  get opened(): boolean {
    return this.#opening !== null;
  }

  /** Runs `query`; the first one is sent in one pipeline with `begin` and the settings. */
  async query(query: PgClientQuery): Promise<Result> {
    assertHarmless(query.text);
    return this.#run({ text: query.text, values: query.values }, query.arrayMode);
  }

  /**
   * Runs `query` as the only statement and commits, in one pipeline. Throws the error of either; nothing has been committed then,
   * unless the connection was lost.
   */
  async only(query: PgClientQuery): Promise<Result> {
    assertHarmless(query.text);
    this.#assertOpen();
    const { text, values, arrayMode } = query;
    const work = this.#once({ text, values }, arrayMode);
    this.#opening = work;
    this.#closed = true;
    return await this.#inside(work);
  }

  /** Runs `text`, which the caller built from fixed words only: it may be a statement that plugins may not send. */
  async command(text: string): Promise<void> {
    await this.#run({ text });
  }

  async #run(statement: Statement, arrayMode = false): Promise<Result> {
    this.#assertOpen();
    if (this.#opening === null) {
      const first = this.#open(statement, arrayMode);
      this.#opening = first;
      return await this.#inside(first);
    }
    // Nothing may be sent behind `begin` until it is known to have succeeded: what follows a failed one would run without
    // settings.
    await this.#opening.catch(() => undefined);
    this.#assertOpen();
    return await this.#inside(this.#connection.send([statement], arrayMode));
  }

  #open(statement: Statement, arrayMode: boolean): Promise<Result> {
    const named = this.#named(statement);
    return this.#twice(() => this.#connection.send([...this.#head, named], arrayMode));
  }

  #once(statement: Statement, arrayMode = false): Promise<Result> {
    const named = this.#named(statement);
    return this.#twice(() => {
      const head = this.#head;
      const all = [...head, named, ...(this.#guard?.last ?? [])];
      return this.#connection.commit(all, commit, arrayMode, head.length);
    });
  }

  get #head(): Statement[] {
    return [begin, ...(this.#guard?.first ?? [settingsStatement(this.#settings)])];
  }

  /**
   * Names `statement`, which can be sent again if its prepared statement turns out to be missing. Most mutations have no other
   * statement, and parsing and planning it takes 40 µs of PostgreSQL's time.
   */
  #named(statement: Statement): Statement {
    return { ...statement, name: this.#connection.nameFor(this.#tag, statement.text) };
  }

  /**
   * Calls `send`, and once more if nothing of the transaction has been committed and its first statement may do better: after a
   * stale prepared statement with everything prepared anew, and after a failed optimistic check at the beginning with the guard
   * that waits and decides.
   */
  async #twice(send: () => Promise<Result>): Promise<Result> {
    try {
      return await send();
    } catch (error) {
      const pessimistic = this.#guard?.pessimistic ?? null;
      if (pessimistic !== null && error instanceof RevisionCheckFailed && error.atBeginning)
        this.#guard = pessimistic();
      else if (!isStale(error)) throw error;
      await this.#connection.send([{ text: "rollback" }]);
      return await send();
    }
  }

  /**
   * Awaits a statement and records guard failures and refused writes. Condemns the connection if the statement ended the
   * transaction.
   */
  async #inside(work: Promise<Result>): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (isGuardFailure(error)) this.#changed = error;
      else if (isWrite(error)) this.#refused = error;
      throw error;
    } finally {
      if (!this.#closed && this.#connection.client.getTransactionStatus() === "I") {
        this.#closed = true;
        this.#connection.condemn(new Error("a statement ended the transaction"));
      }
    }
  }

  #assertOpen(): void {
    if (this.#closed) {
      throw new HostError("INTERNAL", "the client of withPgClient was used after its transaction had ended");
    }
  }

  /** Refuses whatever is asked of the transaction from here on. */
  close(): void {
    this.#closed = true;
  }

  /** Commits. Throws if PostgreSQL rolled back instead, as it does after a failed statement. */
  async commit(): Promise<void> {
    this.#assertOpen();
    this.#closed = true;
    // Cancelling the request does not cancel a commit, but a silent server must not hold the connection for ever.
    const timer = setTimeout(() => this.#connection.cancel(), commitTimeoutMs);
    const committing = this.#connection.commit(this.#guard?.last ?? [], commit);
    const { command } = await this.#inside(committing.finally(() => clearTimeout(timer)));
    if (command === "ROLLBACK") {
      throw new HostError("INTERNAL", "the transaction failed and was rolled back");
    }
  }

  /**
   * Rolls back, and checks whether a changed schema caused the failure, since manual DDL may have run meanwhile: whatever the error
   * is, a plugin may have put it in place of PostgreSQL's.
   */
  async rollback(): Promise<void> {
    this.#closed = true;
    if (this.#connection.brokenBy !== null) return;
    const asks = this.#changed === null || this.#changed instanceof RevisionCheckFailed;
    await this.#connection
      .send([
        rollback,
        unlock,
        forgetSequences,
        ...(asks && this.#guard !== null ? [this.#guard.assertion()] : []),
      ])
      .catch((error: unknown) => {
        if (isGuardFailure(error)) this.#changed = error;
        // The assertion's prepared statement is gone, as after a function that ran `deallocate all`: it is not asked again.
        else if (!isStale(error)) this.#connection.condemn(toHostError(error));
      });
    await this.#lookForReadOnly();
  }

  /** Finds out whether a refused write or a moved revision comes from a standby, which takes no writes and whose revisions may lag. */
  async #lookForReadOnly(): Promise<void> {
    const connection = this.#connection;
    const reason = this.#refused ?? this.#changed;
    if (reason === null || connection.brokenBy !== null) return;
    try {
      if (await isReadOnly(connection)) this.#readOnly = new ReadOnly(reason, connection.ordinal);
    } catch (error) {
      connection.condemn(toHostError(error));
    }
  }
}

/** The type of the rows is the caller's claim, as in PostGraphile's own adaptor. */
export async function rowsOf<TData>(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<TData>>;
export async function rowsOf(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<unknown>> {
  return result;
}
