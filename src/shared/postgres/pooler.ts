/**
 * Behaviour behind a connection pooler. A transaction pooler runs each transaction on whichever server
 * connection is free: no session state may be relied on behind it, and none may be left there for other
 * clients.
 */
import type { Statement } from "./pipeline.ts";
import { unlockText } from "./transaction-over.ts";

declare module "pg" {
  interface ClientBase {
    /** What PostgreSQL, or a pooler, told the client for cancelling. */
    readonly processID: number | null;
    readonly secretKey: number | null;
  }
}

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

/** Resets the session's identity, which `reset all` leaves alone; for a select list. */
export const resetIdentity =
  "pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false)";

/**
 * Clears all that `discard all` does except prepared statements, run before COMMIT in the same transaction: if
 * one fails, nothing is committed and no state remains. After COMMIT the connection could already be another
 * client's. Deferred triggers run first, because they could leave state behind. A pooler was told
 * `application` and `encoding` at connect time and assumes that they are set.
 */
export function leaving({
  application,
  encoding,
}: Record<"application" | "encoding", string>): readonly Statement[] {
  const names =
    "pg_catalog.set_config('application_name', $1, false), pg_catalog.set_config('client_encoding', $2, false)";
  return [
    { text: "set constraints all immediate" },
    { text: "close all" },
    { text: "reset all" },
    { text: "unlisten *" },
    { text: "discard temp" },
    { text: "discard sequences" },
    { text: `select ${resetIdentity}, ${names}`, values: [application, encoding] },
    { text: unlockText },
  ];
}
