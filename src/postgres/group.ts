/** Statements sent together: one write, one answer, one transaction. */
import { hash } from "node:crypto";
import type { ClientBase } from "pg";
import { z } from "zod";
import { Pipeline, type Statement } from "../shared/postgres/pipeline.ts";
import { hasState, isStale } from "../shared/postgres/sqlstate.ts";
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

/** What is prepared on a connection. */
class Prepared {
  /** Its own: where the prepared statements of one database can be listed, that tells nothing about another. */
  prefix = secretPrefix();
  /** Name → text. */
  readonly texts = new Map<string, string>();
  /** Whether no tenant's function can find out the names. */
  hidden: boolean;
  #closing: string[] = [];

  constructor(hidden: boolean) {
    this.hidden = hidden;
  }

  /** To be called when a tenant's function may have put statements of its own in their place. */
  distrust(): void {
    this.#closing.push(...this.texts.keys());
    this.texts.clear();
    this.prefix = secretPrefix();
  }

  /** The names that are used no more and were not closed yet. */
  takeClosing(): readonly string[] {
    const names = this.#closing;
    this.#closing = [];
    return names;
  }
}

const preparedOn = new WeakMap<ClientBase, Prepared>();

function preparedBy(client: ClientBase, hidden: boolean): Prepared {
  const prepared = preparedOn.get(client) ?? new Prepared(hidden);
  preparedOn.set(client, prepared);
  return prepared;
}

/** One snapshot: shape and revision are read together, so a shape is never kept under a revision that it is newer than. */
const begin: Statement = { text: "begin isolation level repeatable read" };

/** Run after a failed group. */
export const groupOver = transactionOver.map(({ text }) => text).join("; ");

/**
 * Counts the statements whose names begin with $1: those that a function prepared are there `from_sql`. Asks the function, not its
 * view: whoever may not call it cannot learn the names by any means.
 */
const inventoryText = `select pg_catalog.count(*) filter (where from_sql)::pg_catalog.int4 as others,
  pg_catalog.count(*) filter (where not from_sql)::pg_catalog.int4 as own
  from pg_catalog.pg_prepared_statement() where pg_catalog.starts_with(name, $1)`;
const inventoryRow = z.object({ others: z.int(), own: z.int() });

/**
 * The rows of each of `statements`, sent in a transaction that is rolled back: enum rows may come from a view
 * or pass a policy, and so run a tenant's function, and everything that it set for the session is undone. A
 * failed group leaves the transaction open: run `groupOver`. Unless the names of prepared statements were
 * `hidden` when the connection was made, such a function could replace them, so it is checked that none has.
 */
export async function sendTogether(
  client: ClientBase,
  statements: readonly GroupedStatement[],
  hidden: boolean,
): Promise<readonly (readonly unknown[])[]> {
  const prepared = preparedBy(client, hidden);
  const { prefix, texts } = prepared;
  const named = statements.map(({ text, values, prepared: keep = false }) => ({
    text,
    values,
    name: keep ? prefix + hash("sha1", text, "base64url") : undefined,
  }));
  const checks = !prepared.hidden && (texts.size > 0 || named.some(({ name }) => name !== undefined));
  const inventory = checks ? [{ text: inventoryText, values: [prefix] }] : [];
  const group = [begin, ...named, ...transactionOver];
  const pipeline = new Pipeline([...group, ...inventory], {
    all: true,
    resultAt: group.length - 1,
    closed: prepared.takeClosing(),
    isPrepared: (name, text) => texts.get(name) === text,
  });
  client.query(pipeline);
  const remember = (): void => {
    for (const { name, text } of pipeline.parsed) if (name !== undefined) texts.set(name, text);
  };
  try {
    await pipeline.result;
  } catch (error) {
    // It is unknown what was prepared: it is prepared again, under other names if they may be known.
    if (!prepared.hidden || isStale(error)) {
      remember();
      prepared.distrust();
    }
    throw error;
  }
  remember();
  const rows = pipeline.results.map((result) => result.rows);
  if (checks) {
    const counted = inventoryRow.safeParse(rows[group.length]?.[0]).data;
    if (counted?.others !== 0 || counted.own !== texts.size) prepared.distrust();
    // They have been hidden since, and the new names were never to be seen.
    prepared.hidden = hasState(pipeline.failedBehind, "insufficient_privilege");
  }
  return rows.slice(1, 1 + named.length);
}
