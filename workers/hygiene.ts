/** What a session must not carry from one request to the next, and how it is cleared. */
import type { Statement } from "./burst.ts";

/**
 * What `discard all` does, but for the prepared statements, which are ours. A request that reads needs none of it: its
 * transaction is rolled back, and settings, roles, temporary tables, LISTEN and cursors of its functions with it.
 */
export function clearing(baseline: Statement): readonly Statement[] {
  return [
    { text: "close all" },
    { text: "set session authorization default" },
    { text: "reset all" },
    { text: "unlisten *" },
    { text: "discard temp" },
    { text: "discard sequences" },
    { text: "select pg_catalog.pg_advisory_unlock_all()" },
    baseline,
  ];
}

/**
 * The settings of a new session. JIT pays for long analytical queries only; the interval makes a backend notice that its
 * cell was terminated, on the platforms that have it. The timeout is the end of a statement that nobody cancelled, a shorter one
 * of the role's or the database's stays: set here, it costs a request nothing.
 */
export function baselineOf(checksClient: boolean, statementTimeoutMs: number): Statement {
  const set = (name: string, value: string): string => `pg_catalog.set_config('${name}', ${value}, false)`;
  const own = "pg_catalog.current_setting('statement_timeout')";
  const timeout = `case when ${own}::pg_catalog.interval between '1 ms' and '${statementTimeoutMs} ms' then ${own} else '${statementTimeoutMs}' end`;
  const settings = [set("jit", "'off'"), set("statement_timeout", timeout)];
  if (checksClient) settings.push(set("client_connection_check_interval", "'2000'"));
  return { text: `select ${settings.join(", ")}` };
}
