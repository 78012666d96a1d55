/** Converts errors of a configured database's connections, and of statements sent on them, to the host's. */
import pg from "pg";
import { connectionFault, noConnection, wasInterrupted } from "../shared/connect/loss.ts";
import { codeOf, HostError, messageOf } from "../shared/kernel/errors.ts";

/**
 * Whether `error` means that no usable connection could be made, or that it broke. For an error of a
 * statement the code alone is no proof: only the state of the connection tells.
 */
export function isConnectionError(error: unknown): boolean {
  return connectionFault(error) !== null;
}

/** Whether pg gave up waiting for an answer. */
export function isReadTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === "Query read timeout";
}

/** Converts `error` to one of the host if it is about the connection; returns anything else unchanged. */
export function databaseError(database: string, error: unknown): unknown {
  return isConnectionError(error) ? connectError(database, error) : error;
}

/** The error for a failed connection attempt, whatever the reason; see `noConnection`. */
export function connectError(database: string, error: unknown): HostError {
  return noConnection(`database ${database}`, error);
}

/** The error for a statement after which the connection was gone. */
export function lostWith(database: string, error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return databaseError(database, error);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} cannot be reached: ${error.message}`, {
    cause: error,
  });
}

/**
 * Converts an error of the host's own statement. If PostgreSQL ended it for its duration, that says nothing
 * about the tenant concerned.
 */
export function hostsError(database: string, error: unknown): unknown {
  if (!wasInterrupted(error, "query_canceled")) return error;
  const reason = `${messageOf(error)} (${codeOf(error)})`;
  return new HostError("DATABASE_UNREACHABLE", `database ${database} ended a statement: ${reason}`, {
    cause: error,
  });
}
