/**
 * Behaviour behind a connection pooler. A transaction pooler runs each transaction on whichever server
 * connection is free: no session state may be relied on behind it, and none may be left there for other
 * clients.
 */
import { unlockText } from "./transaction-over.ts";

/** The id of the backend that runs the statement. */
export const backendQuery = "pg_catalog.pg_backend_pid()";

/**
 * Whether the connection goes to PostgreSQL itself. PostgreSQL gives a client its backend's id for
 * cancelling; a pooler makes up a key for each client, whose statements run in many backends (PgBouncer 1.18
 * to 1.25: 31 or 32 random bits). A pooler in session mode does this too, and the two modes cannot be told
 * apart while few connections are in use.
 */
export function isDirect(processId: number | null, backend: number): boolean {
  return processId === backend;
}

const timeouts = [
  "statement_timeout",
  "transaction_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
] as const;

type Timeout = (typeof timeouts)[number];

/**
 * SQL: a `set_config` call for a select list that lifts a timeout set for the role or database, which would
 * end the host's own work; null if this PostgreSQL version has no such setting or `condition` is false.
 */
export function lifted(timeout: Timeout, scope: "transaction" | "session", condition = "true"): string {
  return `case when ${condition} and pg_catalog.current_setting('${timeout}', true) is not null
    then pg_catalog.set_config('${timeout}', '0', ${scope === "transaction"}) end`;
}

/**
 * Everything that `discard all` clears except prepared statements, run before COMMIT in the same transaction:
 * if one fails, nothing is committed and no state remains. After COMMIT the connection could already be
 * another client's. Deferred triggers run first, because they could leave state behind.
 */
export const leaveNothing: readonly string[] = [
  "set constraints all immediate",
  "close all",
  "reset all",
  "unlisten *",
  "discard temp",
  "discard sequences",
];

/**
 * Runs after `leaveNothing`: resets the session's identity, and the two settings that a pooler was told at
 * connect time and assumes are set. $1: `application_name`, $2: `client_encoding`.
 */
export const leaveIdentity = `select pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false),
  pg_catalog.set_config('application_name', $1, false), pg_catalog.set_config('client_encoding', $2, false)`;

/**
 * Runs after that, as a statement of its own: a tenant's function may have left the session as a role without
 * the privilege to unlock, and privileges are checked before a statement runs.
 */
export const leaveLocks = unlockText;
