/** What a transaction asks of the control schema, to prove that the tenant's schema is the one that it was planned for. */
import type pg from "pg";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { TenantBinding, TenantGuard } from "../../src/shared/protocol/messages.ts";
import { fixedStatement, type Statement } from "./pipeline.ts";
import { type Setting, settingCalls } from "./settings.ts";

export interface TransactionGuard {
  /** Behind `begin`: the tenant's lock, the revisions, and then the settings, as the tenant's role has no rights on them. */
  readonly first: readonly Statement[];
  /** In front of `commit`, and in one group with it. */
  readonly last: readonly Statement[];
  /** Gives what decides where `first` was `Overtaken`; null where it cannot be. */
  readonly thorough: (() => TransactionGuard) | null;
  /** The revisions alone, for after the transaction: as the connection's own role, without a lock. */
  assertion(): Statement;
}

export interface ReadGuard {
  readonly first: Statement;
  /** Gives what decides where that was `Overtaken`. */
  readonly thorough: () => Statement;
}

/**
 * A look at the table of revisions found another one than was asked for, or the tenant's lock is not to be had at once. Whether
 * the schema has changed, and to what, an assertion tells: nothing stands, but of the transaction it can tell nothing any more.
 */
export class RevisionCheckFailed extends HostError<"SCHEMA_CHANGED"> {
  /** Whether nothing of the request's own has run. */
  readonly atBeginning: boolean;

  constructor(cause: unknown, atBeginning: boolean) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.atBeginning = atBeginning;
  }
}

/** An assertion found that the tenant's schema is another than the one that was planned for. */
export class RevisionsMoved extends HostError<"SCHEMA_CHANGED"> {
  /** Where the schemas have moved to, as JSON; null where PostgreSQL could not tell. */
  readonly revisions: string | null;

  constructor(cause: pg.DatabaseError) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.revisions = cause.code === "RW409" ? (cause.detail ?? null) : null;
  }
}

// A prepared statement is analysed anew, 20 µs and more, where it finds another search path than it did last. These two
// have no such dependency, and behind them what asks always finds the session's own path.
const leaveRole = fixedStatement("leave_role", "set local role none");
const leavePath = fixedStatement("leave_path", "set local search_path to default");

/**
 * The guard of a write: the tenant's lock, shared, and its revisions; the revisions again at the end. Null: it has none.
 * Where the session is not known to be READ COMMITTED by default, a look would seldom do.
 */
export function writeGuard(
  { guard }: TenantBinding,
  settings: readonly Setting[],
  readCommitted: boolean,
): TransactionGuard | null {
  if (guard === null) return null;
  const restored = settings.filter(([name]) => name === "role" || name === "search_path");
  // Not made unless it is needed: it would be a tenth of what the guard of a write costs its thread.
  const thorough = (): TransactionGuard => ({
    first: [
      // A migration's end is waited for; whoever else has the lock holds nobody up.
      {
        name: `${namespace}await_migration`,
        text: "select rowhouse.await_migration($1)",
        values: [guard.lock],
      },
      // A statement of its own: its snapshot comes after the wait, and so has what was waited for.
      assertion(guard, settings),
    ],
    // DDL by hand takes no lock of ours; what it committed since the beginning is seen here. Whatever runs at the
    // commit itself, as deferred triggers do, runs with the tenant's role and path again.
    last: [leaveRole, leavePath, assertion(guard, restored)],
    thorough: null,
    assertion: () => revisionsAssertion(guard),
  });
  if (!readCommitted || !isLookable(guard)) return thorough();
  return {
    first: [look(guard, settings, true)],
    last: [leaveRole, leavePath, look(guard, restored)],
    thorough,
    assertion: () => revisionsAssertion(guard),
  };
}

/** What a read asserts, without a lock, where reads are guarded, and its settings. Null: nothing. */
export function readGuard({ guard }: TenantBinding, settings: readonly Setting[]): ReadGuard | null {
  if (guard?.reads !== true) return null;
  const thorough = (): Statement => assertion(guard, settings);
  return { first: isLookable(guard) ? look(guard, settings) : thorough(), thorough };
}

/** Beyond that a list as the assertion's function takes it costs no more. */
const maxLooked = 16;

function isLookable({ schemas }: TenantGuard): boolean {
  return schemas.length > 0 && schemas.length <= maxLooked;
}

/**
 * Joined, the rows of a few schemas are found in one go. A schema without a revision has no row to be found; and to plan the join of
 * eight takes 16 ms for each of the first five runs on a connection, one subquery each takes 1.5 and runs as fast (PostgreSQL 18.4).
 */
const maxJoined = 4;

const isJoinable = ({ schemas, revisions }: TenantGuard): boolean =>
  schemas.length <= maxJoined && !revisions.includes("0");

/** Statements of so many schemas and settings, by both numbers. */
class Texts {
  readonly #made: Map<number, Required<Pick<Statement, "name" | "text">>>[] = [];
  readonly #kind: string;
  readonly #make: (schemas: number, settings: number) => string;

  constructor(kind: string, make: (schemas: number, settings: number) => string) {
    this.#kind = kind;
    this.#make = make;
  }

  of(schemas: number, settings: number): Required<Pick<Statement, "name" | "text">> {
    const known = this.#made[schemas]?.get(settings);
    if (known !== undefined) return known;
    const name = `${namespace}${this.#kind}_${schemas}_${settings}`;
    const made = { name, text: this.#make(schemas, settings) };
    this.#made[schemas] ??= new Map();
    this.#made[schemas].set(settings, made);
    return made;
  }
}

const looksAtBeginning = {
  joined: new Texts("look_begin", (schemas, settings) => lookText(joined, schemas, settings, true)),
  apart: new Texts("look_apart_begin", (schemas, settings) => lookText(apart, schemas, settings, true)),
};
const looks = {
  joined: new Texts("look", (schemas, settings) => lookText(joined, schemas, settings, false)),
  apart: new Texts("look_apart", (schemas, settings) => lookText(apart, schemas, settings, false)),
};
const assertions = new Texts("assert", (schemas, settings) => assertionText(schemas, settings));

/**
 * Looks whether the revisions stand, and makes `settings`, of which there is one at least; fails with `Overtaken` otherwise. For
 * a transaction that `begins` the tenant's lock has to be free as well: one that is waited for would be held by what the look cannot see any more. A
 * migration that commits between the snapshot and the lock is seen at the end, as DDL by hand is.
 *
 * The first setting's name is found with the revisions: without them it is null, and `set_config` refuses that with 22004.
 * There is little to such a statement: with a look at the beginning and the end, and no statement of its own for the lock,
 * PostgreSQL executes 49,000 of 456,000 instructions less for a mutation than with assertions. At the end the level of isolation is known from the beginning.
 */
function look(guard: TenantGuard, settings: readonly Setting[], begins = false): Statement {
  const { schemas, revisions } = guard;
  const texts = begins ? looksAtBeginning : looks;
  const { name, text } = texts[isJoinable(guard) ? "joined" : "apart"].of(schemas.length, settings.length);
  const values = valuesOf(schemas, revisions);
  if (begins) values.push(guard.lock);
  for (const setting of settings) values.push(...setting);
  return {
    name,
    text,
    values,
    meaning: (error) => (error.code === "22004" ? new RevisionCheckFailed(error, begins) : error),
  };
}

function lookText(standing: Standing, schemas: number, settings: number, begins: boolean): string {
  const conditions = begins
    ? [
        "pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed'",
        `pg_catalog.pg_try_advisory_xact_lock_shared($${2 * schemas + 1}::pg_catalog.int8)`,
      ]
    : [];
  const first = 2 * schemas + (begins ? 2 : 1);
  const name = standing(
    `$${first}::pg_catalog.text`,
    Array.from({ length: schemas }, (_, index) => index),
    conditions,
  );
  const [, ...others] = settingCalls(settings, first);
  return `select ${[`pg_catalog.set_config(${name}, $${first + 1}, true)`, ...others].join(", ")}`;
}

/** SQL of `value` where each schema, by its index, stands and the conditions, which are asked last, hold; of null otherwise. */
type Standing = (value: string, schemas: readonly number[], conditions: readonly string[]) => string;

const nameAt = (index: number): string => `$${2 * index + 1}::pg_catalog.text`;
const revisionAt = (index: number): string => `$${2 * index + 2}::pg_catalog.int8`;

const joined: Standing = (value, schemas, conditions) => {
  const tables = schemas.map((index) => `rowhouse.schema_revision r${index}`);
  const stands = schemas.map(
    (index) =>
      `r${index}.schema_name operator(pg_catalog.=) ${nameAt(index)} and r${index}.revision operator(pg_catalog.=) ${revisionAt(index)}`,
  );
  return `(select ${value} from ${tables.join(", ")} where ${[...stands, ...conditions].join(" and ")})`;
};

const apart: Standing = (value, schemas, conditions) => {
  const stands = schemas.map(
    (index) =>
      `coalesce((select revision from rowhouse.schema_revision where schema_name operator(pg_catalog.=) ${nameAt(index)}), 0) operator(pg_catalog.=) ${revisionAt(index)}`,
  );
  return `case when ${[...stands, ...conditions].join(" and ")} then ${value} end`;
};

/**
 * Asserts the revisions, and makes `settings`. As long as nothing has moved a plain look at the table is enough, a third of
 * what the function costs. The function has the last word wherever a revision is not the one that was asked for, and under
 * the levels of isolation where a row is read as it was.
 */
function assertion({ schemas, revisions }: TenantGuard, settings: readonly Setting[]): Statement {
  const values = valuesOf(schemas, revisions);
  for (const setting of settings) values.push(...setting);
  return { ...assertions.of(schemas.length, settings.length), values, meaning: assertionFailure };
}

/**
 * What an error of an assertion means. Under REPEATABLE READ and SERIALIZABLE it says that a revision has moved by a serialization
 * failure, which is told from the tenant's own by where it happened.
 */
function assertionFailure(error: pg.DatabaseError): Error {
  const moved =
    error.code === "RW409" ||
    (error.code === "40001" && /\browhouse\.assert_revisions\b/.test(error.where ?? ""));
  return moved ? new RevisionsMoved(error) : error;
}

/** The revisions alone, outside any transaction: as the connection's own role, without a lock. */
export const revisionsAssertion = (guard: TenantGuard): Statement => assertion(guard, []);

function valuesOf(schemas: readonly string[], revisions: readonly string[]): (string | undefined)[] {
  const values: (string | undefined)[] = [];
  for (let index = 0; index < schemas.length; index += 1) values.push(schemas[index], revisions[index]);
  return values;
}

function assertionText(schemas: number, settings: number): string {
  const names = Array.from({ length: schemas }, (_, index) => `$${2 * index + 1}::text`);
  const revisions = names.map((_, index) => `$${2 * index + 2}::bigint`);
  const stands = names.map(
    (name, index) =>
      `(select revision from rowhouse.schema_revision where schema_name operator(pg_catalog.=) ${name}) operator(pg_catalog.=) ${revisions[index]}`,
  );
  const columns = [
    `case when ${[`pg_catalog.current_setting('transaction_isolation') operator(pg_catalog.=) 'read committed'`, ...stands].join(" and ")}
      then null else rowhouse.assert_revisions(array[${names.join()}]::text[], array[${revisions.join()}]::bigint[]) end`,
    ...settingCalls(settings, 2 * schemas + 1),
  ];
  return `select ${columns.join(", ")}`;
}

/** Whether `error` is the guard's: told by the statement that it is of, since a tenant's function may raise any code. */
export function isGuardFailure(error: unknown): error is RevisionCheckFailed | RevisionsMoved {
  return error instanceof RevisionCheckFailed || error instanceof RevisionsMoved;
}

/** The revisions that the guard's error reports, as JSON; null where it reports none. */
export function reportedRevisions(error: RevisionCheckFailed | RevisionsMoved): string | null {
  return error instanceof RevisionsMoved ? error.revisions : null;
}
