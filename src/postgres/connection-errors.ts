/** What errors say of a connection to a configured database, and of what was asked by one. */
import pg from "pg";
import { wasInterrupted } from "../shared/connect/loss.ts";
import { codeOf, HostError, messageOf } from "../shared/kernel/errors.ts";

/** What node reports where there is no connection, or no longer one. */
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
  // A Unix socket that is not there.
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

/** Whether `error` says that no usable connection could be made, or that it broke; of what PostgreSQL says of a statement only the connection tells. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = codeOf(error) ?? "";
  return lostCodes.has(code) || code.startsWith("08") || lostMessages.test(error.message);
}

/** What an error says, with its SQLSTATE. */
function told(error: unknown): string {
  const code = codeOf(error);
  return code === undefined ? messageOf(error) : `${messageOf(error)} (${code})`;
}

/** Whether a pooler between us and PostgreSQL gave one connection's prepared statement to another, or took it away. */
export function isLostStatement(error: unknown): boolean {
  const code = codeOf(error);
  return code === "26000" || code === "42P05";
}

/** Whether PostgreSQL itself may have refused it: the role has no right to. */
export function isDenied(error: unknown): boolean {
  return codeOf(error) === "42501";
}

/** `error` as `DATABASE_UNREACHABLE` where it is about the connection; anything else unchanged. */
export function databaseError(database: string, error: unknown): unknown {
  if (!isConnectionError(error) || !(error instanceof Error)) return error;
  // An AggregateError (one name, several addresses) has no message of its own.
  const reason = error.message || (codeOf(error) ?? error.name);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} cannot be reached: ${reason}`, {
    cause: error,
  });
}

/** Why there is no connection: whatever stands in the way of one, such as a password that was changed, nothing can be asked. */
export function connectError(database: string, error: unknown): unknown {
  if (error instanceof HostError) return error;
  const known = databaseError(database, error);
  if (known instanceof HostError) return known;
  return new HostError("DATABASE_UNREACHABLE", `database ${database} gives no connection: ${told(error)}`, {
    cause: error,
  });
}

/** `error`, behind which the connection was gone. */
export function lostWith(database: string, error: unknown): unknown {
  if (!(error instanceof pg.DatabaseError)) return databaseError(database, error);
  return new HostError("DATABASE_UNREACHABLE", `database ${database} cannot be reached: ${error.message}`, {
    cause: error,
  });
}

/** `error` of a statement of the host's own. One that PostgreSQL ended for its time says nothing of whoever it was asked for. */
export function hostsError(database: string, error: unknown): unknown {
  if (!wasInterrupted(error, "57014")) return error;
  return new HostError("DATABASE_UNREACHABLE", `database ${database} ended a statement: ${told(error)}`, {
    cause: error,
  });
}
