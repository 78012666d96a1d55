/**
 * What stands between a host and PostgreSQL, and what is left to do there. A transaction pooler gives each transaction whatever
 * connection to the server is free: nothing of a session may be relied on behind it, and nothing be left in it, which is other clients'.
 */

/** The id of the backend that answers. */
export const backendQuery = "pg_catalog.pg_backend_pid()";

/**
 * Whether PostgreSQL itself is connected to. It gives a client its backend's id for cancelling; a pooler makes up a key of its own
 * for each client, whose statements run in many backends (PgBouncer 1.18 to 1.25: 31 or 32 random bits). One in session mode does so
 * as well, and nobody can tell the two apart where few connections are in use.
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
 * A call of `set_config`, in a select list, that lifts a timeout of the role's or the database's which would end the host's own work; null
 * where this version of PostgreSQL has no such setting, or `condition` is false.
 */
export function lifted(timeout: Timeout, scope: "transaction" | "session", condition = "true"): string {
  return `case when ${condition} and pg_catalog.current_setting('${timeout}', true) is not null
    then pg_catalog.set_config('${timeout}', '0', ${scope === "transaction"}) end`;
}

/**
 * What `discard all` clears but the prepared statements, in front of a commit and in its transaction: where one of these fails nothing
 * stands, and nothing is left of it. Behind the commit the connection could be another client's. Deferred triggers run first, or they
 * could leave what they like.
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
 * Behind `leaveNothing`: who the session is, and the two settings which a pooler was told when the client came and that it takes
 * for set. $1: `application_name`, $2: `client_encoding`.
 */
export const leaveIdentity = `select pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false),
  pg_catalog.set_config('application_name', $1, false), pg_catalog.set_config('client_encoding', $2, false)`;

/** Behind that: whoever a tenant's function has left the session as may perhaps not unlock, and that is asked before a statement runs. */
export const leaveLocks = "select pg_catalog.pg_advisory_unlock_all()";
