/** The two ways in which a statement reaches PostgreSQL, both with a request's settings; nothing runs outside them. */
import type { PgClientQuery, PgClientResult } from "postgraphile/@dataplan/pg";
import { codeOf, HostError, toHostError } from "../../src/shared/kernel/errors.ts";
import { type Connection, isStale, type Result } from "./connection.ts";
import { fixedStatement, type Statement } from "./pipeline.ts";
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
/** Unnamed: a function of the tenant's may have given up the names, and what it wrote is to be committed all the same. */
const commit: Statement = { text: "commit" };
/** What a rollback leaves: a lock that a function of the tenant's took for the session, of whomever it keeps waiting. */
const unlock = fixedStatement("unlock", "select pg_catalog.pg_advisory_unlock_all()");
/** What ends a transaction of which nothing is to stay. Unnamed: a function of the tenant's may have given up the names. */
export const transactionOver: readonly Statement[] = [{ text: rollback.text }, { text: unlock.text }];

/** The tenant's part in how a statement is sent. */
export interface ReadOptions {
  /** A query with a name is prepared under it and this. */
  readonly tag: string;
  readonly guard: ReadGuard | null;
  /** Whether a function of the tenant's could notify: PostgreSQL delivers that at a commit. */
  readonly notifies: boolean;
}

/**
 * One read, in one burst. PostgreSQL holds it to reading: what may have written must not be repeated, nor pass by a guard
 * of writes. It is rolled back, and unlocked: nothing that a function of the tenant's set for the session outlives it. Where one `notifies`
 * it is committed, as PostGraphile does with every read, and the session cleared as behind a write (`hygiene.ts`).
 * The error of a query that writes is told by `isWrite`.
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
    // A guard makes the settings as well.
    return await run(guard?.first ?? settingsStatement(settings));
  } catch (error) {
    await endFailed(connection);
    if (guard === null || !(error instanceof RevisionCheckFailed) || connection.doubt !== null) throw error;
    try {
      return await run(guard.thorough());
    } catch (fault) {
      await endFailed(connection);
      throw isGuardFailure(fault) ? await refusedByStandby(connection, fault) : fault;
    }
  }
}

/** Ends a transaction that failed, where the connection is still there. */
async function endFailed(connection: Connection): Promise<void> {
  if (connection.doubt !== null || connection.client.getTransactionStatus() === "I") return;
  await connection.send(transactionOver).catch((fault: unknown) => connection.condemn(toHostError(fault)));
}

/** Whether a read failed because it was none: nothing of it stands. */
export function isWrite(error: unknown): boolean {
  return codeOf(error) === "25006";
}

/** Deferred constraints are checked, and their triggers run, at commit. */
const commitTimeoutMs = 60_000;

const begin = fixedStatement("begin", "begin");

/** A transaction of several statements. */
export class Transaction {
  readonly #connection: Connection;
  readonly #settings: readonly Setting[];
  readonly #tag: string;
  #guard: TransactionGuard | null;
  /** The guard's failure, once it has failed: what came of it afterwards says less. */
  #changed: unknown = null;
  /** What said that nothing can be written, be it a tenant's function. */
  #refused: unknown = null;
  #readOnly: ReadOnly | null = null;
  #opening: Promise<unknown> | null = null;
  #closed = false;

  /** With `guard`, it fails by `isGuardFailure` where the tenant's schema has changed, at its beginning or its end. */
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

  /** That the connection takes no writes, which is why the transaction failed; known behind its rollback. */
  get readOnly(): ReadOnly | null {
    return this.#readOnly;
  }

  get opened(): boolean {
    return this.#opening !== null;
  }

  /** Runs `query`, in one burst with `begin` and the settings if it is the first. */
  async query(query: PgClientQuery): Promise<Result> {
    assertHarmless(query.text);
    return this.#run({ text: query.text, values: query.values }, query.arrayMode);
  }

  /** Runs `query`, the only one, and commits, in one burst. Throws what went wrong with either; nothing stands then. */
  async only(query: PgClientQuery): Promise<Result> {
    assertHarmless(query.text);
    this.#assertOpen();
    const { text, values, arrayMode } = query;
    const work = this.#once({ text, values }, arrayMode);
    this.#opening = work;
    this.#closed = true;
    return await this.#inside(work);
  }

  /** Runs `text`, which the caller made up of nothing but fixed words: it may be one that plugins may not send. */
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
    // Until `begin` is known to have succeeded, nothing may be on its way behind it; what followed its failure would run bare.
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
   * `statement` as the one that can be sent again where its name turns out not to be there. Most mutations have no
   * other, and parsing and planning it is 40 µs of PostgreSQL's time.
   */
  #named(statement: Statement): Statement {
    return { ...statement, name: this.#connection.nameFor(this.#tag, statement.text) };
  }

  /**
   * `send`, and once more where nothing of the transaction stands and its first statement may do better: where what is prepared
   * was stale, with all of it prepared anew; where the guard was overtaken at the beginning, by what waits and decides.
   */
  async #twice(send: () => Promise<Result>): Promise<Result> {
    try {
      return await send();
    } catch (error) {
      const thorough = this.#guard?.thorough ?? null;
      if (thorough !== null && error instanceof RevisionCheckFailed && error.atBeginning)
        this.#guard = thorough();
      else if (!isStale(error)) throw error;
      await this.#connection.send([{ text: "rollback" }]);
      return await send();
    }
  }

  /** What a statement gave, if it was still inside the transaction. */
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
        this.#connection.condemn(new Error("the transaction was ended from inside"));
      }
    }
  }

  #assertOpen(): void {
    if (this.#closed) {
      throw new HostError("INTERNAL", "the client of withPgClient was used after its transaction had ended");
    }
  }

  /** Whatever is asked of the transaction from here on is refused. */
  close(): void {
    this.#closed = true;
  }

  /** Commits; throws where PostgreSQL rolled back instead, as it does after a failed statement. */
  async commit(): Promise<void> {
    this.#assertOpen();
    this.#closed = true;
    // A commit is not cancelled with its request; a server that is silent must not hold the connection for ever.
    const timer = setTimeout(() => this.#connection.cancel(), commitTimeoutMs);
    const committing = this.#connection.commit(this.#guard?.last ?? [], commit);
    const { command } = await this.#inside(committing.finally(() => clearTimeout(timer)));
    if (command === "ROLLBACK") {
      throw new HostError("INTERNAL", "the transaction had failed and was rolled back");
    }
  }

  /** Where `suspect`, what failed is also asked whether a changed schema is why: DDL by hand may have run beside it. */
  async rollback(suspect = false): Promise<void> {
    this.#closed = true;
    if (this.#connection.doubt !== null) return;
    const asks = this.#changed === null ? suspect : this.#changed instanceof RevisionCheckFailed;
    await this.#connection
      .send([
        rollback,
        unlock,
        forgetSequences,
        ...(asks && this.#guard !== null ? [this.#guard.assertion()] : []),
      ])
      .catch((error: unknown) => {
        if (isGuardFailure(error)) this.#changed = error;
        // The question itself was not understood, after a function that said `deallocate all`: it is not asked again.
        else if (!isStale(error)) this.#connection.condemn(toHostError(error));
      });
    await this.#lookForReadOnly();
  }

  /** A standby refuses to write, and has the revisions of a while ago. */
  async #lookForReadOnly(): Promise<void> {
    const connection = this.#connection;
    const reason = this.#refused ?? this.#changed;
    if (reason === null || connection.doubt !== null) return;
    try {
      if (await isReadOnly(connection)) this.#readOnly = new ReadOnly(reason, connection.ordinal);
    } catch (error) {
      connection.condemn(toHostError(error));
    }
  }
}

/** The rows are whatever the statement gives; their type is the caller's claim, as it is in PostGraphile's own adaptor. */
export async function rowsOf<TData>(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<TData>>;
export async function rowsOf(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<unknown>> {
  return result;
}
