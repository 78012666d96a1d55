/** Clears the session state that must not reach the next request. */
import type { ClientBase } from "pg";
import { z } from "zod";
import { hidesStatements } from "../../src/shared/postgres/hidden-statements.ts";
import { fixedStatement, type Statement } from "../../src/shared/postgres/pipeline.ts";
import { backendQuery, isDirect, leaving, resetIdentity } from "../../src/shared/postgres/pooler.ts";
import type { Setting } from "./settings.ts";

/** What a session reports about itself before anything is set in it. */
const sessionRow = z.object({
  backend: z.int(),
  hidden: z.boolean(),
  /** The value for `statement_timeout`. */
  timeout: z.string(),
  /** Whether the server ends idle sessions. */
  ends: z.boolean(),
  isolation: z.string(),
  /** Whether every role may release advisory locks. */
  unlocks: z.boolean(),
  application: z.string(),
  encoding: z.string(),
});
type SessionRow = z.output<typeof sessionRow>;

/** What replaces session state behind a pooler: nothing survives there, so each transaction sets it anew. */
export interface Passing {
  /** Set before the request's own settings. */
  readonly settings: readonly Setting[];
  /** Sent before the commit. */
  readonly clearing: readonly Statement[];
}

/** The state of a new session, and the statements that restore it. */
export interface Baseline {
  readonly clearing: readonly Statement[];
  readonly passing: Passing;
  /** Whether its transactions default to READ COMMITTED, until the server's configuration changes. */
  readonly readCommitted: boolean;
  /** Whether no role can find out the names of its prepared statements. */
  readonly hidden: boolean;
  /** The process id of its backend. */
  readonly backend: number;
  /** Whether the connection is to PostgreSQL itself, not to a pooler. */
  readonly direct: boolean;
}

/** Clears what `currval` and `lastval` report for any sequence, which a rollback keeps. */
export const forgetSequences = fixedStatement("clear_sequences", "discard sequences");

/**
 * Does what `discard all` does, except for the prepared statements, which are ours. A read needs none of it: its transaction is
 * rolled back, and with it the settings, roles, temporary tables, LISTEN and cursors of its functions.
 *
 * Prepared once per connection and sent after the commit, in one group with it, these cost PostgreSQL 16 µs and the thread 10 µs.
 * Parsed each time and sent as a group of their own before the next request: 60 and 33. `discard all` itself takes PostgreSQL 3
 * µs, and 35 µs to prepare again what it removed, before any tenant's statements (PostgreSQL 18.4).
 */
function clearing(checksClient: boolean, { timeout, unlocks, ends }: SessionRow): readonly Statement[] {
  // A null value resets a setting. `reset all` leaves these two out, and would remove the baseline.
  const identity = `select ${resetIdentity}`;
  const rest = [
    "pg_catalog.pg_advisory_unlock_all()",
    ...fixed(checksClient, ends),
    set("statement_timeout", "$1"),
  ].join(", ");
  return [
    fixedStatement("clear_cursors", "close all"),
    fixedStatement("clear_settings", "reset all"),
    fixedStatement("clear_channels", "unlisten *"),
    fixedStatement("clear_tables", "discard temp"),
    forgetSequences,
    // A tenant's function may have changed the session's role to one that may not unlock, and PostgreSQL checks that before a
    // statement runs.
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
 * JIT pays off only for long analytical queries. The check interval makes a backend notice that its cell was terminated, on the
 * platforms that support it; the host also cancels a terminated cell's backends. Idle sessions are the pool's to close.
 */
function fixed(checksClient: boolean, ends: boolean): string[] {
  return [
    set("jit", "'off'"),
    ...(checksClient ? [set("client_connection_check_interval", `'${checkMs}'`)] : []),
    ...(ends ? [set("idle_session_timeout", "'0'")] : []),
  ];
}

const checkMs = 2_000;

/** The timeout ends a statement that nobody cancelled; a shorter one of the role or the database is kept. */
function factsQuery(statementTimeoutMs: number): string {
  const own = "pg_catalog.current_setting('statement_timeout')";
  return `select ${backendQuery} as backend, ${hidesStatements} as hidden,
    case when ${own}::pg_catalog.interval between '1 ms' and '${statementTimeoutMs} ms' then ${own} else '${statementTimeoutMs}' end as timeout,
    coalesce(pg_catalog.current_setting('idle_session_timeout', true), '0') <> '0' as ends,
    pg_catalog.current_setting('default_transaction_isolation') as isolation,
    pg_catalog.has_function_privilege('public', 'pg_catalog.pg_advisory_unlock_all()', 'execute') as unlocks,
    pg_catalog.current_setting('application_name') as application,
    pg_catalog.current_setting('client_encoding') as encoding`;
}

/**
 * Gives a new session its settings once; set here, they cost a request nothing. Computing the timeout in the statement that
 * clears the session would cost 2.5 of PostgreSQL's 50 µs for a mutation. Behind a pooler, only determines what each transaction
 * has to set, and changes nothing.
 */
export async function setBaseline(client: ClientBase, statementTimeoutMs: number): Promise<Baseline> {
  const { rows } = await client.query(factsQuery(statementTimeoutMs));
  const row = sessionRow.parse(rows[0]);
  const direct = isDirect(client.processID, row.backend);
  const attempt = async (checksClient: boolean): Promise<Baseline> => {
    const calls = direct
      ? [...fixed(checksClient, row.ends), set("statement_timeout", "$1")]
      : [`pg_catalog.set_config('client_connection_check_interval', '${checkMs}', true)`];
    if (direct || checksClient) await client.query(`select ${calls.join(", ")}`, direct ? [row.timeout] : []);
    return {
      clearing: clearing(checksClient, row),
      passing: passing(checksClient, row),
      readCommitted: row.isolation === "read committed",
      hidden: row.hidden,
      backend: row.backend,
      direct,
    };
  };
  return attempt(true).catch(() => attempt(false));
}

/** The statements are unnamed, because it is unknown in which backend they would be prepared. */
function passing(checksClient: boolean, { timeout, application, encoding }: SessionRow): Passing {
  return {
    settings: [
      ["jit", "off"],
      ["statement_timeout", timeout],
      ...(checksClient ? [["client_connection_check_interval", String(checkMs)] as const] : []),
    ],
    clearing: leaving({ application, encoding }),
  };
}
