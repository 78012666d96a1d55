/** What a connection of the front's is told and asked when it is made. */
import type { ClientBase } from "pg";
import { z } from "zod";
import {
  backendQuery,
  isDirect,
  leaveIdentity,
  leaveLocks,
  leaveNothing,
  lifted,
} from "../shared/postgres/pooler.ts";

declare module "pg" {
  interface ClientBase {
    readonly processID: number | null;
  }
}

/** What a connection was when it was made. */
export interface Greeting {
  /** Whether PostgreSQL itself is connected to. */
  readonly direct: boolean;
  readonly standby: boolean;
  /** As whom, and in which encoding. */
  readonly application: string;
  readonly encoding: string;
}

const greetingRow = z.object({
  backend: z.int(),
  standby: z.boolean(),
  application: z.string(),
  encoding: z.string(),
});

/** $1: the id of the backend, as far as the client was told. What ends a session of the role's is lifted in one of our own only. */
function greetingQuery(timeouts: readonly Parameters<typeof lifted>[0][]): string {
  const calls = timeouts.map((each) => lifted(each, "session", `${backendQuery} = $1`));
  return `select ${backendQuery} as backend, pg_catalog.pg_is_in_recovery() as standby,
    pg_catalog.current_setting('application_name') as application,
    pg_catalog.current_setting('client_encoding') as encoding, ${calls.join(", ")}`;
}

/** The client bounds its own statements; those of others have whatever bounds their role was given. */
const hostsGreeting = greetingQuery([
  "statement_timeout",
  "transaction_timeout",
  "idle_in_transaction_session_timeout",
  "idle_session_timeout",
]);
const othersGreeting = greetingQuery(["idle_session_timeout"]);

/** Lifts what would end the session, and of the host's own statements what would end those. */
export async function greet(client: ClientBase, whose: "hosts" | "others"): Promise<Greeting> {
  const query = whose === "hosts" ? hostsGreeting : othersGreeting;
  const { rows } = await client.query(query, [client.processID]);
  const { backend, ...row } = greetingRow.parse(rows[0]);
  return { ...row, direct: isDirect(client.processID, backend) };
}

/** In front of a commit behind a pooler: what the transaction leaves in its session would be other clients' once it has committed. */
export async function leaveBehind(
  client: ClientBase,
  { direct, application, encoding }: Greeting,
): Promise<void> {
  if (direct) return;
  await client.query(leaveNothing.join("; "));
  await client.query(leaveIdentity, [application, encoding]);
  await client.query(leaveLocks);
}

/** Whether the connection, one to PostgreSQL itself, is as it was when it was greeted. */
export async function discardAll(client: ClientBase): Promise<boolean> {
  try {
    await client.query("discard all");
    // What a role's sessions that rest are ended by is reset with the rest.
    await client.query(`select ${lifted("idle_session_timeout", "session")}`);
    return true;
  } catch {
    return false;
  }
}
