/** Classifies errors of connections to a configured database, and of statements sent on them. */
import pg from "pg";
import { wasInterrupted } from "../shared/connect/loss.ts";
import { codeOf, HostError, messageOf } from "../shared/kernel/errors.ts";

/** Codes for a connection that could not be made or was lost. */
const lostCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  // A Unix socket that does not exist.
  "ENOENT",
  // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout; too_many_connections
  "57P01",
  "57P02",
  "57P03",
  "57P05",
  "53300",
]);

/** pg 8.23 gives its own connection errors no code. */
const lostMessages =
  /^(Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|Client has encountered a connection error|Client was closed|The server does not support SSL)/;

/**
 * Whether `error` means that no usable connection could be made, or that it broke. For an error of a
 * statement the code alone is no proof: only the state of the connection tells.
 */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = codeOf(error) ?? "";
  return lostCodes.has(code) || code.startsWith("08") || lostMessages.test(error.message);
}

/** An error's message with its SQLSTATE. */
function told(error: unknown): string {
  const code = codeOf(error);
  return code === undefined ? messageOf(error) : `${messageOf(error)} (${code})`;
}

/** Whether a pooler in between mixed up prepared statements between connections, or dropped one. */
export function isLostStatement(error: unknown): boolean {
  const code = codeOf(error);
  return code === "26000" || code === "42P05";
}

/** Whether PostgreSQL may have refused it for lack of privilege. */
export function isDenied(error: unknown): boolean {
  return codeOf(error) === "42501";
}

/** Converts `error` to `DATABASE_UNREACHABLE` if it is about the connection; returns anything else unchanged. */
export function databaseError(database: string, error: unknown): unknown {
  if (!isConnectionError(error) || !(error instanceof Error)) return error;
  // An AggregateError (one name, several addresses) has no message of its own.
  const reason = error.message || (codeOf(error) ?? error.name);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} cannot be reached: ${reason}`, {
    cause: error,
  });
}

/**
 * The error for a failed connection attempt: whatever the reason, for example a changed password, nothing can
 * be queried.
 */
export function connectError(database: string, error: unknown): unknown {
  if (error instanceof HostError) return error;
  const known = databaseError(database, error);
  if (known instanceof HostError) return known;
  return new HostError("DATABASE_UNREACHABLE", `cannot connect to database ${database}: ${told(error)}`, {
    cause: error,
  });
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
  if (!wasInterrupted(error, "57014")) return error;
  return new HostError("DATABASE_UNREACHABLE", `database ${database} ended a statement: ${told(error)}`, {
    cause: error,
  });
}
