/** The errors of a migration that was not applied. */
import pg from "pg";
import { HostError } from "../shared/kernel/errors.ts";
import { excerpt } from "../shared/kernel/excerpt.ts";
import type { ShapeHash, TenantId } from "../shared/kernel/ids.ts";
import { hasState } from "../shared/postgres/sqlstate.ts";

/** The tenant does not have the shape that the migration expects; `details.shape` is its current one. */
export class ShapeMismatch extends HostError<"SCHEMA_CHANGED"> {
  constructor(tenant: TenantId, shape: ShapeHash) {
    super("SCHEMA_CHANGED", `tenant ${tenant} does not have the expected shape; its shape is ${shape}`, {
      details: { shape },
    });
  }

  /** The table's text is about requests, and no request was running. */
  override get publicText(): string {
    return this.message;
  }
}

export interface MigrationContext {
  readonly tenant: TenantId;
  readonly sql: string;
  readonly lockTimeoutMs: number;
}

/**
 * Converts an error of PostgreSQL to a HostError; returns anything else unchanged. Omits DETAIL and long
 * quoted values, which come from rows.
 */
export function migrationError(error: unknown, { tenant, sql, lockTimeoutMs }: MigrationContext): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  const { code: sqlState = "", message } = error;
  if (hasState(error, "lock_not_available") && !isRaisedBySql(error)) {
    const others = lockHolders(error);
    const waited = `${others === "" ? "a lock" : "its lock"} was not free within ${lockTimeoutMs} ms${others === "" ? "" : `: ${others}`}`;
    return new HostError("LOCK_TIMEOUT", `tenant ${tenant}: ${waited}; nothing was changed`, {
      cause: error,
      retryAfterSeconds: Math.max(1, Math.ceil(lockTimeoutMs / 1_000)),
    });
  }
  const place = placeOf(error, sql);
  const at = place === null ? "" : ` at line ${place.line}, column ${place.column}`;
  const text = `${excerpt(message)} (${sqlState})${at}${adviceFor(error)}; nothing was changed`;
  return new HostError("MIGRATION_FAILED", text, { cause: error, details: { sqlState, ...place } });
}

const isOfLockTenant = ({ where = "" }: pg.DatabaseError): boolean =>
  where.startsWith("PL/pgSQL function rowhouse.lock_tenant(");

/** A function of the migration may raise that code without any lock wait. */
function isRaisedBySql(error: pg.DatabaseError): boolean {
  return error.routine === "exec_stmt_raise" && !isOfLockTenant(error);
}

/** Who holds the tenant's lock, as `rowhouse.lock_tenant` reports it; empty if another lock was waited for. */
function lockHolders(error: pg.DatabaseError): string {
  return isOfLockTenant(error) ? (error.detail ?? "") : "";
}

function adviceFor(error: pg.DatabaseError): string {
  // A statement that cannot be rolled back: PostgreSQL runs it only outside a transaction.
  if (hasState(error, "active_sql_transaction")) {
    return ": a migration is one transaction; run this statement by itself, with psql";
  }
  // EXECUTE of SELECT INTO is refused by the same routine, but with a hint.
  const { routine, hint } = error;
  const controls =
    routine === "exec_stmt_dynexecute" && hint === undefined && hasState(error, "feature_not_supported");
  // A procedure that commits is refused with a code of its own.
  if (controls || hasState(error, "invalid_transaction_termination")) {
    return ": a migration is one transaction, so its SQL may not contain transaction control";
  }
  return "";
}

interface Place {
  readonly line: number;
  readonly column: number;
}

/** The position of the error in `sql`, 1-based; null if it is elsewhere, for example in a function's body. */
function placeOf({ internalPosition, internalQuery }: pg.DatabaseError, sql: string): Place | null {
  const position = Number(internalPosition);
  if (internalQuery !== sql || !Number.isInteger(position) || position < 1) return null;
  // PostgreSQL counts characters, not UTF-16 units.
  const before = Array.from(sql)
    .slice(0, position - 1)
    .join("");
  const line = before.split("\n").length;
  return { line, column: Array.from(before.slice(before.lastIndexOf("\n") + 1)).length + 1 };
}
