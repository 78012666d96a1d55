/** What a migration that did not happen is answered with. */
import pg from "pg";
import { HostError } from "../shared/kernel/errors.ts";
import { excerpt } from "../shared/kernel/excerpt.ts";
import type { ShapeHash, TenantId } from "../shared/kernel/ids.ts";

/** The tenant does not have the shape that a migration was meant for; `details.shape` is the one that it has. */
export class ShapeDiffers extends HostError<"SCHEMA_CHANGED"> {
  constructor(tenant: TenantId, shape: ShapeHash) {
    super("SCHEMA_CHANGED", `tenant ${tenant} has another shape than was expected: ${shape}`, {
      details: { shape },
    });
  }

  /** Nothing was running: the table's words are for requests. */
  override get publicText(): string {
    return this.message;
  }
}

const lockNotAvailable = "55P03";
/** What there is no way to undo: PostgreSQL runs it outside a transaction only. */
const activeTransaction = "25001";
/** A procedure that commits. */
const invalidTermination = "2D000";
const notSupported = "0A000";

export interface MigrationContext {
  readonly tenant: TenantId;
  readonly sql: string;
  readonly lockTimeoutMs: number;
}

/** `error` as a HostError where it is PostgreSQL's; anything else unchanged. DETAIL stays out, and long quoted values: they are rows'. */
export function migrationError(error: unknown, { tenant, sql, lockTimeoutMs }: MigrationContext): unknown {
  if (!(error instanceof pg.DatabaseError)) return error;
  const { code: sqlState = "", message } = error;
  if (sqlState === lockNotAvailable && !isRaisedBySql(error)) {
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

/** Any function of the migration's may raise that code: no lock was waited for. */
function isRaisedBySql(error: pg.DatabaseError): boolean {
  return error.routine === "exec_stmt_raise" && !isOfLockTenant(error);
}

/** Who holds the tenant's lock, as `rowhouse.lock_tenant` tells it; nothing where another lock was waited for. */
function lockHolders(error: pg.DatabaseError): string {
  return isOfLockTenant(error) ? (error.detail ?? "") : "";
}

function adviceFor({ code, routine, hint }: pg.DatabaseError): string {
  if (code === activeTransaction) {
    return ": a migration is one transaction; run this statement by itself, with psql";
  }
  // EXECUTE of SELECT INTO is refused by the same routine, with a hint.
  const controls = code === notSupported && routine === "exec_stmt_dynexecute" && hint === undefined;
  if (controls || code === invalidTermination) {
    return ": a migration is one transaction, which its SQL may neither end nor divide";
  }
  return "";
}

interface Place {
  readonly line: number;
  readonly column: number;
}

/** Where in `sql` the error lies, from 1; null where it lies elsewhere, in a function's body or in no text at all. */
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
