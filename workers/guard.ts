/** What a transaction asks of the control schema, to prove that the tenant's schema is the one that it was planned for. */
import pg from "pg";
import type { TenantBinding, TenantGuard } from "../src/protocol/messages.ts";
import { fixedStatement, type Statement } from "./burst.ts";
import { namespace } from "./namespace.ts";
import { type Setting, settingCalls } from "./settings.ts";

export interface TransactionGuard {
  /** Behind `begin`: the tenant's lock, the revisions, and then the settings, as the tenant's role has no rights on them. */
  readonly first: readonly Statement[];
  /** In front of `commit`, and in one group with it. */
  readonly last: readonly Statement[];
  /** The revisions alone, for after the transaction: as the connection's own role, without a lock. */
  assertion(): Statement;
}

// A prepared statement is analysed anew, 20 µs and more, where it finds another search path than it did last. These two
// have no such dependency, and behind them the assertion always finds the session's own path.
const leaveRole = fixedStatement("leave_role", "set local role none");
const leavePath = fixedStatement("leave_path", "set local search_path to default");

/** The guard of a write: the tenant's lock, shared, and its revisions; the revisions again at the end. Null: it has none. */
export function writeGuard(
  { guard, tenant }: TenantBinding,
  settings: readonly Setting[],
): TransactionGuard | null {
  if (guard === null) return null;
  const restored = settings.filter(([name]) => name === "role" || name === "search_path");
  return {
    first: [
      {
        name: `${namespace}begin_write`,
        text: "select pg_catalog.pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key($1))",
        values: [tenant],
      },
      // A statement of its own: its snapshot comes after the wait, and so has what was waited for.
      assertion(guard, settings),
    ],
    // DDL by hand takes no lock of ours; what it committed since the beginning is seen here. Whatever runs at the
    // commit itself, as deferred triggers do, runs with the tenant's role and path again.
    last: [leaveRole, leavePath, assertion(guard, restored)],
    assertion: () => assertion(guard, []),
  };
}

/** What a read asserts, without a lock, where reads are guarded, and its settings. Null: nothing. */
export function readGuard({ guard }: TenantBinding, settings: readonly Setting[]): Statement | null {
  return guard?.reads === true ? assertion(guard, settings) : null;
}

const texts = new Map<string, string>();

/**
 * Asserts the revisions, and makes `settings`. As long as nothing has moved a plain look at the table is enough, a third of
 * what the function costs. The function has the last word wherever a revision is not the one that was asked for, and under
 * the levels of isolation where a row is read as it was.
 */
function assertion({ schemas, revisions }: TenantGuard, settings: readonly Setting[]): Statement {
  const count = schemas.length;
  const key = `${count}_${settings.length}`;
  let text = texts.get(key);
  if (text === undefined) {
    text = assertionText(count, settings.length);
    texts.set(key, text);
  }
  const values = schemas.flatMap((schema, index) => [schema, revisions[index]]);
  return { name: `${namespace}assert_${key}`, text, values: [...values, ...settings.flat()] };
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
 * Whether `error` is the guard's: a revision has moved. Under REPEATABLE READ and SERIALIZABLE it says so by a
 * serialization failure, which is told from the tenant's own by where it happened.
 */
export function isGuardFailure(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  if (error.code === "RW409") return true;
  return error.code === "40001" && /\browhouse\.assert_revisions\b/.test(error.where ?? "");
}

/**
 * The revisions that the guard's error reports, as JSON; null where it reports none. A tenant's function can raise an error of
 * the same code and detail, but not where the guard's own does: the innermost function comes first, and only what is in the
 * control schema is called by its name.
 */
export function reportedRevisions(error: unknown): string | null {
  if (!(error instanceof pg.DatabaseError) || error.code !== "RW409") return null;
  if (!error.where?.startsWith("PL/pgSQL function rowhouse.assert_revisions(")) return null;
  return error.detail ?? null;
}
