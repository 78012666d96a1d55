/** What a session must not carry from one request to the next, and how it is cleared. */
import type { ClientBase } from "pg";
import { z } from "zod";
import { fixedStatement, type Statement } from "./burst.ts";

/** `unlocks`: whether every role may give up advisory locks. */
const sessionRow = z.object({ timeout: z.string(), isolation: z.string(), unlocks: z.boolean() });
type SessionRow = z.output<typeof sessionRow>;

/** What a session is when it is new, and how it is made so again. */
export interface Baseline {
  readonly clearing: readonly Statement[];
  /** Whether its transactions are of that level unless they say, or the server's configuration changes. */
  readonly readCommitted: boolean;
}

/** A rollback leaves what `currval` and `lastval` tell, of whatever sequence it was. */
export const forgetSequences = fixedStatement("clear_sequences", "discard sequences");

/**
 * What `discard all` does, but for the prepared statements, which are ours. A request that reads needs none of it: its
 * transaction is rolled back, and settings, roles, temporary tables, LISTEN and cursors of its functions with it.
 *
 * Prepared once per connection and sent behind the commit, in one group with it, these cost PostgreSQL 16 µs and the thread
 * 10 µs. Parsed each time and sent as a group of their own in front of the next request: 60 and 33. `discard all` itself
 * takes PostgreSQL 3 µs, and 35 to prepare again what it took away, before any tenant's statements (PostgreSQL 18.4).
 */
function clearing(checksClient: boolean, { timeout, unlocks }: SessionRow): readonly Statement[] {
  // Without a value a setting is reset. `reset all` leaves these two out, and takes the baseline away.
  const identity =
    "select pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false)";
  const rest = [
    "pg_catalog.pg_advisory_unlock_all()",
    ...fixed(checksClient),
    set("statement_timeout", "$1"),
  ].join(", ");
  return [
    fixedStatement("clear_cursors", "close all"),
    fixedStatement("clear_settings", "reset all"),
    fixedStatement("clear_channels", "unlisten *"),
    fixedStatement("clear_tables", "discard temp"),
    forgetSequences,
    // Whoever a function of the tenant's has left the session as may perhaps not unlock: that is asked before a statement runs.
    ...(unlocks
      ? [fixedStatement("clear_session", `${identity}, ${rest}`, [timeout])]
      : [
          fixedStatement("clear_identity", identity),
          fixedStatement("clear_session", `select ${rest}`, [timeout]),
        ]),
  ];
}

const set = (name: string, value: string): string => `pg_catalog.set_config('${name}', ${value}, false)`;

/**
 * JIT pays for long analytical queries only; the interval makes a backend notice that its cell was terminated, on the
 * platforms that have it: the host cancels a terminated cell's backends as well.
 */
function fixed(checksClient: boolean): string[] {
  return [set("jit", "'off'"), ...(checksClient ? [set("client_connection_check_interval", "'2000'")] : [])];
}

/**
 * Gives a new session its settings. The timeout is the end of a statement that nobody cancelled, a shorter one of the role's
 * or the database's stays: set here, it costs a request nothing. It is worked out once per session: in the statement that
 * clears it, that would be 2.5 of PostgreSQL's 50 µs for a mutation.
 */
export async function setBaseline(client: ClientBase, statementTimeoutMs: number): Promise<Baseline> {
  const own = "pg_catalog.current_setting('statement_timeout')";
  const timeout = `case when ${own}::pg_catalog.interval between '1 ms' and '${statementTimeoutMs} ms' then ${own} else '${statementTimeoutMs}' end`;
  const attempt = async (checksClient: boolean): Promise<Baseline> => {
    const { rows } = await client.query(
      `select ${fixed(checksClient).join(", ")}, ${set("statement_timeout", timeout)} as timeout,
        pg_catalog.current_setting('default_transaction_isolation') as isolation,
        pg_catalog.has_function_privilege('public', 'pg_catalog.pg_advisory_unlock_all()', 'execute') as unlocks`,
    );
    const row = sessionRow.parse(rows[0]);
    return { clearing: clearing(checksClient, row), readCommitted: row.isolation === "read committed" };
  };
  return attempt(true).catch(() => attempt(false));
}
