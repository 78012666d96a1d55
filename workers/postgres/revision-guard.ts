/** The statements by which a transaction proves that the tenant's schema is the one that it was planned for. */

import type pg from "pg";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantBinding, TenantGuard } from "../../src/shared/model/tenant-binding.ts";
import { fixedStatement, type Statement } from "../../src/shared/postgres/pipeline.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import { type Setting, settingCalls } from "./settings.ts";

export interface TransactionGuard {
  /**
   * To send after `begin`: the tenant's lock, the revisions and then the settings, in this order because the tenant's role may
   * read neither lock nor revisions.
   */
  readonly first: readonly Statement[];
  /** To send before `commit`, in one group with it. */
  readonly last: readonly Statement[];
  /** Makes the guard that decides after `first` failed with RevisionCheckFailed; null if this guard already is that one. */
  readonly pessimistic: (() => TransactionGuard) | null;
  /** Asserts the revisions alone, after the transaction: as the connection's own role, without a lock. */
  assertion(): Statement;
}

export interface ReadGuard {
  readonly first: Statement;
  /** Makes the statement that decides after `first` failed with RevisionCheckFailed. */
  readonly pessimistic: () => Statement;
}

/**
 * The optimistic check failed: a revision differs, or the tenant's lock was not free. Nothing was committed, but the transaction
 * is already aborted, so only a fresh assertion can say which, and report the new revisions.
 */
export class RevisionCheckFailed extends HostError<"SCHEMA_CHANGED"> {
  /** Whether nothing of the request's own has run. */
  readonly atBeginning: boolean;

  constructor(cause: unknown, atBeginning: boolean) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.atBeginning = atBeginning;
  }
}

/** An assertion found that the tenant's schema is not the one that was planned for. */
export class RevisionsMoved extends HostError<"SCHEMA_CHANGED"> {
  /** The schemas' new revisions, as JSON; null if PostgreSQL could not tell. */
  readonly revisions: string | null;

  constructor(cause: pg.DatabaseError) {
    super("SCHEMA_CHANGED", undefined, { cause });
    this.revisions = hasState(cause, "revision_moved") ? (cause.detail ?? null) : null;
  }
}

// PostgreSQL analyses a prepared statement anew, in 20 µs or more, if its search path differs from that of the last run. These
// two do not depend on the path, and the check that follows them always runs with the session's own.
const leaveRole = fixedStatement("leave_role", "set local role none");
const leavePath = fixedStatement("leave_path", "set local search_path to default");

/**
 * The guard of a write: the tenant's lock, shared, and its revisions; the revisions again at the end. Null if the tenant has no
 * guard. Unless the session is known to default to READ COMMITTED, the optimistic check would mostly fail and is left out.
 */
export function writeGuard(
  { guard }: TenantBinding,
  settings: readonly Setting[],
  readCommitted: boolean,
): TransactionGuard | null {
  if (guard === null) return null;
  const restored = settings.filter(([name]) => name === "role" || name === "search_path");
  // Made only on demand: otherwise a tenth of the thread's cost for guarding a write.
  const pessimistic = (): TransactionGuard => ({
    first: [
      // Waits for a migration to end; other holders of the lock hold nobody up.
      {
        name: `${namespace}await_migration`,
        text: "select rowhouse.await_migration($1)",
        values: [guard.lock],
      },
      // A separate statement, so that its snapshot is taken after the wait and sees the migration's result.
      assertion(guard, settings),
    ],
    // Manual DDL takes no lock of ours; whatever it has committed since the beginning is seen here. What runs at the commit
    // itself, such as deferred triggers, gets the tenant's role and path again.
    last: [leaveRole, leavePath, assertion(guard, restored)],
    pessimistic: null,
    assertion: () => revisionsAssertion(guard),
  });
  if (!readCommitted || !isOptimistic(guard)) return pessimistic();
  return {
    first: [optimisticCheck(guard, settings, true)],
    last: [leaveRole, leavePath, optimisticCheck(guard, restored)],
    pessimistic,
    assertion: () => revisionsAssertion(guard),
  };
}

/** What a read asserts, without a lock, if reads are guarded, together with its settings. Null if there is nothing to assert. */
export function readGuard({ guard }: TenantBinding, settings: readonly Setting[]): ReadGuard | null {
  if (guard?.reads !== true) return null;
  const pessimistic = (): Statement => assertion(guard, settings);
  return { first: isOptimistic(guard) ? optimisticCheck(guard, settings) : pessimistic(), pessimistic };
}

/** Beyond this number of schemas, passing a list to the assertion's function costs no more. */
const maxOptimistic = 16;

function isOptimistic({ schemas }: TenantGuard): boolean {
  return schemas.length > 0 && schemas.length <= maxOptimistic;
}

/**
 * Up to this number of schemas, their rows are found by one join. A schema without a revision has no row to join. Planning a join
 * of eight takes 16 ms for each of the first five runs on a connection; with one subquery each it takes 1.5 ms and runs as fast
 * (PostgreSQL 18.4).
 */
const maxJoined = 4;

const isJoinable = ({ schemas, revisions }: TenantGuard): boolean =>
  schemas.length <= maxJoined && !revisions.includes("0");

/** Statement texts by the number of schemas and the number of settings. */
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

const optimisticAtBeginning = {
  joined: new Texts("look_begin", (schemas, settings) => optimisticText(joined, schemas, settings, true)),
  apart: new Texts("look_apart_begin", (schemas, settings) => optimisticText(apart, schemas, settings, true)),
};
const optimistic = {
  joined: new Texts("look", (schemas, settings) => optimisticText(joined, schemas, settings, false)),
  apart: new Texts("look_apart", (schemas, settings) => optimisticText(apart, schemas, settings, false)),
};
const assertions = new Texts("assert", (schemas, settings) => assertionText(schemas, settings));

/**
 * The optimistic check: compares the revisions and makes `settings`, at least one; otherwise fails with RevisionCheckFailed. For
 * a transaction that `begins`, the tenant's lock must be free as well: if it were waited for, this statement's snapshot would not
 * see what the lock's holder changed. A migration that commits between the snapshot and the lock is found by the check at the
 * end, as manual DDL is.
 *
 * The first setting's name is selected with the revisions: if they differ it is null, and `set_config` refuses that with 22004.
 * With this check at the beginning and the end, and no statement for the lock, PostgreSQL executes 49,000 of 456,000 instructions
 * less for a mutation than with assertions. The isolation level is checked at the beginning only.
 */
function optimisticCheck(guard: TenantGuard, settings: readonly Setting[], begins = false): Statement {
  const { schemas, revisions } = guard;
  const texts = begins ? optimisticAtBeginning : optimistic;
  const { name, text } = texts[isJoinable(guard) ? "joined" : "apart"].of(schemas.length, settings.length);
  const values = valuesOf(schemas, revisions);
  if (begins) values.push(guard.lock);
  for (const setting of settings) values.push(...setting);
  return {
    name,
    text,
    values,
    meaning: (error) =>
      hasState(error, "null_value_not_allowed") ? new RevisionCheckFailed(error, begins) : error,
  };
}

function optimisticText(standing: Standing, schemas: number, settings: number, begins: boolean): string {
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

/**
 * SQL for `value` if each schema, given by its index, has its revision and the conditions hold; for null otherwise. The
 * conditions are evaluated last.
 */
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
 * Asserts the revisions and makes `settings`. While nothing has moved, reading the table is enough, at a third of the function's
 * cost. The function decides whenever a revision differs, and under the isolation levels that read an old snapshot.
 */
function assertion({ schemas, revisions }: TenantGuard, settings: readonly Setting[]): Statement {
  const values = valuesOf(schemas, revisions);
  for (const setting of settings) values.push(...setting);
  return { ...assertions.of(schemas.length, settings.length), values, meaning: assertionFailure };
}

/**
 * Translates an error of an assertion. Under REPEATABLE READ and SERIALIZABLE a moved revision is reported as a serialization
 * failure, which is told from the tenant's own by its context.
 */
function assertionFailure(error: pg.DatabaseError): Error {
  const moved =
    hasState(error, "revision_moved") ||
    (hasState(error, "serialization_failure") && /\browhouse\.assert_revisions\b/.test(error.where ?? ""));
  return moved ? new RevisionsMoved(error) : error;
}

/** Asserts the revisions alone, outside any transaction: as the connection's own role, without a lock. */
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

/**
 * Whether `error` is the guard's. Recognized by its class, which the statement assigns, since a tenant's function may raise any
 * code.
 */
export function isGuardFailure(error: unknown): error is RevisionCheckFailed | RevisionsMoved {
  return error instanceof RevisionCheckFailed || error instanceof RevisionsMoved;
}

/** The revisions that the guard's error reports, as JSON; null if it reports none. */
export function reportedRevisions(error: RevisionCheckFailed | RevisionsMoved): string | null {
  return error instanceof RevisionsMoved ? error.revisions : null;
}
