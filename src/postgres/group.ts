/** Statements sent together: one write, one answer, one transaction. */
import { hash } from "node:crypto";
import type { ClientBase } from "pg";
import { Pipeline, type Statement } from "../shared/postgres/pipeline.ts";
import { isStale } from "../shared/postgres/sqlstate.ts";
import { secretPrefix } from "../shared/postgres/statement-names.ts";
import { transactionOver } from "../shared/postgres/transaction-over.ts";

export interface GroupedStatement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Keep it prepared on its connection, because it runs often or takes long to plan. */
  readonly prepared?: boolean;
}

/**
 * Returns the rows of each statement; all run in one transaction, and none after one that fails. `tenant`:
 * whose share of the connections they use.
 */
export type Together = (
  statements: readonly GroupedStatement[],
  tenant?: string,
) => Promise<readonly (readonly unknown[])[]>;

/** The statements prepared on a connection. */
interface Prepared {
  /** Its own: where the prepared statements of one database can be listed, that tells nothing about another. */
  readonly prefix: string;
  /** Name → text. */
  readonly texts: Map<string, string>;
}

const preparedOn = new WeakMap<ClientBase, Prepared>();

function preparedBy(client: ClientBase): Prepared {
  const had = preparedOn.get(client);
  if (had !== undefined) return had;
  const made = { prefix: secretPrefix(), texts: new Map<string, string>() };
  preparedOn.set(client, made);
  return made;
}

const begin: Statement = { text: "begin" };

/** Run after a failed group. */
export const groupOver = transactionOver.map(({ text }) => text).join("; ");

/**
 * The rows of each of `statements`, sent in a transaction that is rolled back: enum rows may come from a view
 * or pass a policy, and so run a tenant's function, and everything that it set for the session is undone. A
 * failed group leaves the transaction open: run `groupOver`.
 */
export async function sendTogether(
  client: ClientBase,
  statements: readonly GroupedStatement[],
): Promise<readonly (readonly unknown[])[]> {
  const { prefix, texts } = preparedBy(client);
  const named = statements.map(({ text, values, prepared = false }) => ({
    text,
    values,
    name: prepared ? prefix + hash("sha1", text, "base64url") : undefined,
  }));
  const pipeline = new Pipeline([begin, ...named, ...transactionOver], {
    all: true,
    isPrepared: (name, text) => texts.get(name) === text,
  });
  client.query(pipeline);
  try {
    await pipeline.result;
  } catch (error) {
    if (isStale(error)) texts.clear();
    throw error;
  }
  // Only on success: after a failure it is unknown what was prepared, so it is prepared again.
  for (const { name, text } of pipeline.parsed) if (name !== undefined) texts.set(name, text);
  return pipeline.results.slice(1, -transactionOver.length).map(({ rows }) => rows);
}
