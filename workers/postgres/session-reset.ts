/** What a session must not carry from one request to the next, and how it is cleared. */
import type { ClientBase } from "pg";
import { z } from "zod";
import { hidesStatements } from "../../src/shared/postgres/hidden-statements.ts";
import {
  backendQuery,
  isDirect,
  leaveIdentity,
  leaveLocks,
  leaveNothing,
} from "../../src/shared/postgres/pooler.ts";
import { fixedStatement, type Statement } from "./pipeline.ts";
import type { Setting } from "./settings.ts";

/** What a session tells of itself before anything is set in it. */
const sessionRow = z.object({
  backend: z.int(),
  hidden: z.boolean(),
  /** For `statement_timeout`. */
  timeout: z.string(),
  /** Whether a session that rests is ended. */
  ends: z.boolean(),
  isolation: z.string(),
  /** Whether every role may give up advisory locks. */
  unlocks: z.boolean(),
  application: z.string(),
  encoding: z.string(),
});
type SessionRow = z.output<typeof sessionRow>;

/** What stays of a session's own where its connection is a pooler's: nothing, so that each transaction makes it anew. */
export interface Passing {
  /** In front of a request's own. */
  readonly settings: readonly Setting[];
  /** In front of the commit. */
  readonly clearing: readonly Statement[];
}

/** What a session is when it is new, and how it is made so again. */
export interface Baseline {
  readonly clearing: readonly Statement[];
  readonly passing: Passing;
  /** Whether its transactions are of that level unless they say, or the server's configuration changes. */
  readonly readCommitted: boolean;
  /** Whether nobody can find out the names of what is prepared in it. */
  readonly hidden: boolean;
  /** The id of its backend. */
  readonly backend: number;
  /** Whether PostgreSQL itself is connected to. */
  readonly direct: boolean;
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
function clearing(checksClient: boolean, { timeout, unlocks, ends }: SessionRow): readonly Statement[] {
  // Without a value a setting is reset. `reset all` leaves these two out, and takes the baseline away.
  const identity =
    "select pg_catalog.set_config('session_authorization', null, false), pg_catalog.set_config('role', 'none', false)";
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
 * platforms that have it: the host cancels a terminated cell's backends as well. A session that rests is the pool's to end.
 */
function fixed(checksClient: boolean, ends: boolean): string[] {
  return [
    set("jit", "'off'"),
    ...(checksClient ? [set("client_connection_check_interval", `'${checkMs}'`)] : []),
    ...(ends ? [set("idle_session_timeout", "'0'")] : []),
  ];
}

const checkMs = 2_000;

/** The timeout is the end of a statement that nobody cancelled; a shorter one of the role's or the database's stays. */
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
 * Gives a new session its settings, where they stay: set here, they cost a request nothing. They are worked out once per session:
 * in the statement that clears it, that would be 2.5 of PostgreSQL's 50 µs for a mutation. Of a pooler's connection it finds out
 * what each transaction has to set, and changes nothing.
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

/** Each is parsed where it is sent: in which backend it would be prepared, nobody knows. */
function passing(checksClient: boolean, { timeout, application, encoding }: SessionRow): Passing {
  return {
    settings: [
      ["jit", "off"],
      ["statement_timeout", timeout],
      ...(checksClient ? [["client_connection_check_interval", String(checkMs)] as const] : []),
    ],
    clearing: [
      ...leaveNothing.map((text) => ({ text })),
      { text: leaveIdentity, values: [application, encoding] },
      { text: leaveLocks },
    ],
  };
}
