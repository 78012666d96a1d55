/** Initialises a new connection of the front and finds out what it is connected to. */
import type { ClientBase } from "pg";
import { z } from "zod";
import { hidesStatements } from "../shared/postgres/hidden-statements.ts";
import { Pipeline } from "../shared/postgres/pipeline.ts";
import { backendQuery, isDirect, leaving, lifted } from "../shared/postgres/pooler.ts";

/** Facts about a connection when it was opened. */
export interface Greeting {
  /** Whether it goes to PostgreSQL itself, without a pooler. */
  readonly direct: boolean;
  readonly standby: boolean;
  /** Whether no role can find out the names of its prepared statements. */
  readonly hidden: boolean;
  /** Its `application_name` and client encoding. */
  readonly application: string;
  readonly encoding: string;
}

const greetingRow = z.object({
  backend: z.int(),
  standby: z.boolean(),
  hidden: z.boolean(),
  application: z.string(),
  encoding: z.string(),
});

/** $1: the backend id that the client was told. Timeouts are lifted only in a session of our own. */
function greetingQuery(timeouts: readonly Parameters<typeof lifted>[0][]): string {
  const calls = timeouts.map((each) => lifted(each, "session", `${backendQuery} = $1`));
  return `select ${backendQuery} as backend, pg_catalog.pg_is_in_recovery() as standby, ${hidesStatements} as hidden,
    pg_catalog.current_setting('application_name') as application,
    pg_catalog.current_setting('client_encoding') as encoding, ${calls.join(", ")}`;
}

/** For the host's own statements, which the client bounds; other statements keep the timeouts of their role. */
const hostsGreeting = greetingQuery([
  "statement_timeout",
  "transaction_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
]);
const othersGreeting = greetingQuery(["idle_session_timeout"]);

/** Lifts timeouts that would end the session and, for the host's own statements, those that would end them. */
export async function greet(client: ClientBase, whose: "hosts" | "others"): Promise<Greeting> {
  const query = whose === "hosts" ? hostsGreeting : othersGreeting;
  const { rows } = await client.query(query, [client.processID]);
  const { backend, ...row } = greetingRow.parse(rows[0]);
  return { ...row, direct: isDirect(client.processID, backend) };
}

/**
 * Run before COMMIT behind a pooler: session state that the transaction leaves would reach other clients once
 * it has committed.
 */
export async function leaveBehind(client: ClientBase, greeting: Greeting): Promise<void> {
  if (greeting.direct) return;
  const pipeline = new Pipeline(leaving(greeting));
  client.query(pipeline);
  await pipeline.result;
}

/** Resets a direct connection; returns whether it is as it was when it was opened. */
export async function discardAll(client: ClientBase): Promise<boolean> {
  try {
    await client.query("discard all");
    // `discard all` also resets the idle timeout to the role's.
    await client.query(`select ${lifted("idle_session_timeout", "session")}`);
    return true;
  } catch {
    return false;
  }
}
