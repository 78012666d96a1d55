/**
 * Recognises a lost connection, and a statement interrupted by PostgreSQL. The SQLSTATE alone proves neither:
 * any function may raise any code.
 */
import pg from "pg";
import { codeOf, HostError, messageOf } from "../kernel/errors.ts";
import { type ConnectionFault, faultOfState, hasState } from "../postgres/sqlstate.ts";

/** The connection ended during a statement. Its cause is PostgreSQL's reason, if it gave one. */
export class ConnectionLost extends HostError<"DATABASE_UNREACHABLE"> {
  constructor(cause: unknown) {
    super("DATABASE_UNREACHABLE", "connection lost", { cause });
  }
}

/**
 * Whether PostgreSQL itself interrupted the statement because of `statement_timeout`, a cancel or
 * `lock_timeout`. If a function raised that code, or a foreign server sent it, the error comes from another
 * routine.
 */
export function wasInterrupted(error: unknown, state: "query_canceled" | "lock_not_available"): boolean {
  return error instanceof pg.DatabaseError && error.routine === "ProcessInterrupts" && hasState(error, state);
}

const socketFaults: Readonly<Record<string, ConnectionFault>> = {
  ECONNRESET: "ended",
  EPIPE: "ended",
  ECONNREFUSED: "unreachable",
  ECONNABORTED: "unreachable",
  ETIMEDOUT: "unreachable",
  EHOSTUNREACH: "unreachable",
  ENETUNREACH: "unreachable",
  ENOTFOUND: "unreachable",
  EAI_AGAIN: "unreachable",
  // A Unix socket that does not exist.
  ENOENT: "unreachable",
};

/** pg 8.23 gives its own connection errors no code; "terminated due to connection timeout" is not an end but a silence. */
const driverFaults: readonly (readonly [RegExp, ConnectionFault])[] = [
  [
    /^(?:Connection terminated(?: unexpectedly)?$|Client has encountered a connection error|Client was closed)/,
    "ended",
  ],
  [
    /^(?:Connection terminated|timeout exceeded when trying to connect|timeout expired|Query read timeout|The server does not support SSL)/,
    "unreachable",
  ],
];

/**
 * What `error` says about the connection; null if nothing. Meant for attempts to connect and for connections
 * on which only the host's own SQL runs: elsewhere only the state of the connection tells.
 */
export function connectionFault(error: unknown): ConnectionFault | null {
  if (!(error instanceof Error)) return null;
  const code = codeOf(error) ?? "";
  const coded = Object.hasOwn(socketFaults, code) ? socketFaults[code] : faultOfState(code);
  return coded ?? driverFaults.find(([pattern]) => pattern.test(error.message))?.[1] ?? null;
}

/** The message of `error` and its code, whichever of them there is. */
function reasonOf(error: unknown): string {
  // An AggregateError (one name, several addresses) has no message of its own.
  const message = messageOf(error);
  const code = codeOf(error) ?? "";
  if (message === "") return code;
  return message.includes(code) ? message : `${message} (${code})`;
}

/** Whether `error` is a `NO_CAPACITY` of a database, not of the host: the database has no connection to spare. */
export function isDatabaseFull(error: HostError): boolean {
  return error.code === "NO_CAPACITY" && hasState(error.cause, "too_many_connections");
}

/**
 * The error for a connection to `server` that was not to be had, or broke: `NO_CAPACITY` if the server has
 * none to spare, else `DATABASE_UNREACHABLE`. That the reason says nothing about the connection, such as a
 * changed password, makes no difference: nothing can be asked.
 */
export function noConnection(server: string, error: unknown): HostError {
  if (error instanceof HostError) return error;
  const fault = connectionFault(error);
  const says =
    fault === "full"
      ? "has no free connection"
      : fault === null
        ? "refused the connection"
        : "cannot be reached";
  return new HostError(
    fault === "full" ? "NO_CAPACITY" : "DATABASE_UNREACHABLE",
    `${server} ${says}: ${reasonOf(error)}`,
    { cause: error },
  );
}
