/**
 * Recognises a lost connection, and a statement interrupted by PostgreSQL. The SQLSTATE alone proves neither:
 * any function may raise any code.
 */
import pg from "pg";
import { HostError } from "../kernel/errors.ts";

/** The connection ended during a statement. Its cause is PostgreSQL's reason, if it gave one. */
export class ConnectionLost extends HostError<"DATABASE_UNREACHABLE"> {
  constructor(cause: unknown) {
    super("DATABASE_UNREACHABLE", "connection lost", { cause });
  }
}

/**
 * Whether PostgreSQL itself interrupted the statement because of `statement_timeout`, a cancel or
 * `lock_timeout` (`57014`, `55P03`). If a function raised that code, or a foreign server sent it, the error
 * comes from another routine.
 */
export function wasInterrupted(error: unknown, code: "57014" | "55P03"): boolean {
  return error instanceof pg.DatabaseError && error.code === code && error.routine === "ProcessInterrupts";
}
