/**
 * The SQLSTATEs that the host acts on, by PostgreSQL's own names, and what each says about the connection.
 * https://www.postgresql.org/docs/18/errcodes-appendix.html
 */
import { codeOf } from "../kernel/errors.ts";

/**
 * What PostgreSQL says about a connection with the code of an error that it raised itself:
 * - `ended`: the session was ended for a reason outside it, so a new connection may do better at once.
 * - `timed-out`: the session was ended for how long its transaction took; the same work would end the next one.
 * - `full`: no connection is free; one will be when another is closed.
 * - `unreachable`: no connection can be made, or it cannot be used any more.
 */
export type ConnectionFault = "ended" | "timed-out" | "full" | "unreachable";

interface Row {
  readonly code: string;
  /** Null: the code says nothing about the connection. */
  readonly fault: ConnectionFault | null;
}

const row = (code: string, fault: ConnectionFault | null = null): Row => ({ code, fault });

const table = {
  feature_not_supported: row("0A000"),
  null_value_not_allowed: row("22004"),
  division_by_zero: row("22012"),
  invalid_text_representation: row("22P02"),
  active_sql_transaction: row("25001"),
  read_only_sql_transaction: row("25006"),
  idle_in_transaction_session_timeout: row("25P03", "timed-out"),
  transaction_timeout: row("25P04", "timed-out"),
  invalid_sql_statement_name: row("26000"),
  /** Also what pg_hba.conf says when it has no line for the connection. */
  invalid_authorization_specification: row("28000"),
  invalid_transaction_termination: row("2D000"),
  serialization_failure: row("40001"),
  insufficient_privilege: row("42501"),
  undefined_table: row("42P01"),
  duplicate_prepared_statement: row("42P05"),
  /** Of the server, of the database or of the role. */
  too_many_connections: row("53300", "full"),
  lock_not_available: row("55P03"),
  query_canceled: row("57014"),
  /** The server is stopping, or somebody called `pg_terminate_backend`. */
  admin_shutdown: row("57P01", "ended"),
  crash_shutdown: row("57P02", "ended"),
  /** The server is starting, stopping or recovering: it takes as long as it takes, so asking at once is no use. */
  cannot_connect_now: row("57P03", "unreachable"),
  /** A standby ended the session, because it replays that its database was dropped. */
  database_dropped: row("57P04", "ended"),
  /** Nothing was running: the session was waiting for its client. */
  idle_session_timeout: row("57P05", "ended"),
  internal_error: row("XX000"),
  /** The host's own: a revision has moved; the detail says to what. */
  revision_moved: row("RW409"),
} as const satisfies Readonly<Record<string, Row>>;

export type SqlState = keyof typeof table;

/** Whether `error` has one of these SQLSTATEs. Any function may raise any of them. */
export function hasState(error: unknown, ...states: readonly SqlState[]): boolean {
  const code = codeOf(error);
  return code !== undefined && states.some((state) => table[state].code === code);
}

const faults: ReadonlyMap<string, ConnectionFault | null> = new Map(
  Object.values<Row>(table).map(({ code, fault }) => [code, fault]),
);

/** What a SQLSTATE says about the connection; null if nothing. Class 08 is about nothing else. */
export function faultOfState(code: string): ConnectionFault | null {
  return /^08...$/.test(code) ? "unreachable" : (faults.get(code) ?? null);
}

/**
 * Whether a prepared statement was missing, already there or no longer usable; nothing of it has run then. A
 * function may have run `discard all`, or another backend may be answering. A changed table may have changed
 * a statement's result ("cached plan must not change result type": of all errors with that code, the only one
 * from RevalidateCachedQuery). A dropped parameter type is missed before the statement is looked at ("cache
 * lookup failed for type").
 */
export function isStale(error: unknown): boolean {
  if (hasState(error, "invalid_sql_statement_name", "duplicate_prepared_statement")) return true;
  const routine = error instanceof Error && "routine" in error ? error.routine : undefined;
  return (
    (routine === "RevalidateCachedQuery" && hasState(error, "feature_not_supported")) ||
    (routine === "getTypeInputInfo" && hasState(error, "internal_error"))
  );
}
