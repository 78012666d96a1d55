/** What says that a connection is gone, or that PostgreSQL interrupted a statement. A code says neither: any function may raise any code. */
import pg from "pg";
import { HostError } from "../kernel/errors.ts";

/** The connection ended under a statement. Its cause is what PostgreSQL gave as the reason, where it gave one. */
export class ConnectionLost extends HostError<"DATABASE_UNREACHABLE"> {
  constructor(cause: unknown) {
    super("DATABASE_UNREACHABLE", "connection lost", { cause });
  }
}

/**
 * Whether PostgreSQL itself interrupted the statement, for the time that it or its lock took (`57014`, `55P03`). Where a function raises
 * that code, or a foreign server sent it, the error comes from another routine.
 */
export function wasInterrupted(error: unknown, code: "57014" | "55P03"): boolean {
  return error instanceof pg.DatabaseError && error.code === code && error.routine === "ProcessInterrupts";
}
