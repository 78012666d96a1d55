/** What a session must not carry from one request to the next, and how it is cleared. */
import { fixedStatement, type Statement } from "./burst.ts";

/** A rollback leaves what `currval` and `lastval` tell, of whatever sequence it was. */
export const forgetSequences = fixedStatement("clear_sequences", "discard sequences");

/**
 * What `discard all` does, but for the prepared statements, which are ours. A request that reads needs none of it: its
 * transaction is rolled back, and settings, roles, temporary tables, LISTEN and cursors of its functions with it.
 *
 * Prepared once per connection and sent behind the commit, in one group with it, these cost PostgreSQL 14 µs and the thread
 * 10 µs. Parsed each time and sent as a group of their own in front of the next request: 60 and 33. `discard all` itself
 * takes PostgreSQL 3 µs, and 35 to prepare again what it took away, before any tenant's statements (PostgreSQL 18.4).
 */
export function clearing(checksClient: boolean, statementTimeoutMs: number): readonly Statement[] {
  return [
    fixedStatement("clear_cursors", "close all"),
    fixedStatement("clear_settings", "reset all"),
    fixedStatement("clear_channels", "unlisten *"),
    fixedStatement("clear_tables", "discard temp"),
    forgetSequences,
    // Without a value a setting is reset. `reset all` leaves these two out, and takes the baseline away.
    fixedStatement(
      "clear_session",
      `select pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false),
        pg_catalog.pg_advisory_unlock_all(), ${baseline(checksClient, statementTimeoutMs)}`,
    ),
  ];
}

/** Gives a new session its settings; fails where `checksClient` and the platform has no such check. */
export function baselineText(checksClient: boolean, statementTimeoutMs: number): string {
  return `select ${baseline(checksClient, statementTimeoutMs)}`;
}

/**
 * JIT pays for long analytical queries only; the interval makes a backend notice that its cell was terminated, on the
 * platforms that have it. The timeout is the end of a statement that nobody cancelled, a shorter one of the role's or the
 * database's stays: set here, it costs a request nothing.
 */
function baseline(checksClient: boolean, statementTimeoutMs: number): string {
  const set = (name: string, value: string): string => `pg_catalog.set_config('${name}', ${value}, false)`;
  const own = "pg_catalog.current_setting('statement_timeout')";
  const timeout = `case when ${own}::pg_catalog.interval between '1 ms' and '${statementTimeoutMs} ms' then ${own} else '${statementTimeoutMs}' end`;
  const settings = [set("jit", "'off'"), set("statement_timeout", timeout)];
  if (checksClient) settings.push(set("client_connection_check_interval", "'2000'"));
  return settings.join(", ");
}
