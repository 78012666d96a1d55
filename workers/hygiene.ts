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
 * cell was terminated, on the platforms that have it.
 */
export function baselineOf(checksClient: boolean): Statement {
  const interval = "pg_catalog.set_config('client_connection_check_interval', '2000', false)";
  return { text: `select pg_catalog.set_config('jit', 'off', false)${checksClient ? `, ${interval}` : ""}` };
}
