/** What a transaction asks of the control schema, to prove that the tenant's schema is the one that it was planned for. */
import pg from "pg";
import type { TenantBinding } from "../src/protocol/messages.ts";
import type { Statement } from "./burst.ts";
import { settingsStatement } from "./settings.ts";

export interface TransactionGuard {
  /** Behind `begin`, before the tenant's role is taken, which has no rights on the control schema. */
  readonly first: Statement;
  /** In front of `commit`, and in one group with it. */
  readonly last: readonly Statement[];
  /** The revisions alone, for after the transaction: as the connection's own role, without a lock. */
  readonly assertion: Statement;
}

/** The guard of a write: the tenant's lock, shared, and its revisions; the revisions again at the end. Null: it has none. */
export function writeGuard(
  { guard, tenant }: TenantBinding,
  role: string | undefined,
): TransactionGuard | null {
  if (guard === null) return null;
  const { schemas, revisions } = guard;
  const assertion = assertStatement(schemas, revisions);
  return {
    first: {
      name: "rowhouse_begin_write",
      text: "select rowhouse.begin_write($1, $2, $3)",
      values: [tenant, schemas, revisions],
    },
    // DDL by hand takes no lock of ours; what it committed since the beginning is seen here. Whatever runs at the
    // commit itself, as deferred triggers do, runs with the tenant's role again.
    last:
      role === undefined
        ? [assertion]
        : [settingsStatement([["role", "none"]]), assertion, settingsStatement([["role", role]])],
    assertion,
  };
}

/** What a read asserts, without a lock, where reads are guarded. Null: nothing. */
export function readGuard({ guard }: TenantBinding): Statement | null {
  return guard?.reads === true ? assertStatement(guard.schemas, guard.revisions) : null;
}

function assertStatement(schemas: readonly string[], revisions: readonly string[]): Statement {
  return {
    name: "rowhouse_assert_revisions",
    text: "select rowhouse.assert_revisions($1, $2)",
    values: [schemas, revisions],
  };
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
