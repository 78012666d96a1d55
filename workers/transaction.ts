/** A transaction on one connection, with a request's settings; nothing runs outside it. */
import type { QueryArrayResult, QueryResult } from "pg";
import type { PgClientQuery, PgClientResult } from "postgraphile/@dataplan/pg";
import { HostError } from "../src/kernel/errors.ts";
import type { Connection } from "./connection.ts";

/** Name and value; the values are parameters of a prepared statement, never quoted into text. */
export type Setting = readonly [name: string, value: string];

const settingsText = new Map<number, string>();

function textFor(count: number): string {
  let text = settingsText.get(count);
  if (text === undefined) {
    const calls = Array.from(
      { length: count },
      (_, index) => `pg_catalog.set_config($${2 * index + 1}, $${2 * index + 2}, true)`,
    );
    text = `select ${calls.join(", ")}`;
    settingsText.set(count, text);
  }
  return text;
}

const ignore = (): void => undefined;

/** Statements that would end the transaction and let what follows run without role and search path. */
const transactionControl =
  /^\s*(?:begin|start\s+transaction|commit|end|abort|rollback(?!\s+to\b)|prepare\s+transaction)\b/i;

export class Transaction {
  readonly connection: Connection;
  readonly #settings: readonly Setting[];
  readonly #tag: string;
  #opening: Promise<void> | null = null;

  constructor(connection: Connection, settings: readonly Setting[], tag: string) {
    this.connection = connection;
    this.#settings = settings;
    this.#tag = tag;
  }

  get opened(): boolean {
    return this.#opening !== null;
  }

  /** Puts `begin` and the settings on the wire. `begin` is a message of its own: whatever fails after it aborts the transaction. */
  open(): Promise<void> {
    if (this.#opening !== null) return this.#opening;
    const { client } = this.connection;
    const begun = client.query("begin");
    const set = client.query({
      name: `rowhouse_settings_${this.#settings.length}`,
      text: textFor(this.#settings.length),
      values: this.#settings.flat(),
    });
    set.catch(ignore);
    this.#opening = begun.then(() => set).then(ignore);
    this.#opening.catch(ignore);
    return this.#opening;
  }

  /** One read in one write to the socket: begin, settings, query, commit. Resolves before the commit is answered; `done` after it. */
  single(query: PgClientQuery): { result: Promise<PgClientResult<unknown>>; done: Promise<void> } {
    const { client } = this.connection;
    const { stream } = client.connection;
    stream.cork();
    try {
      const opening = this.open();
      const answer = this.#send(query);
      const commit = client.query("commit");
      const tidied = this.#deallocate();
      answer.catch(ignore);
      return {
        result: opening.then(() => answer),
        done: commit.then(ignore, (error: Error) => this.connection.condemn(error)).then(() => tidied),
      };
    } finally {
      stream.uncork();
    }
  }

  /** Runs `query` inside the transaction, opening it first; the first error of the two is the one thrown. */
  async query(query: PgClientQuery): Promise<PgClientResult<unknown>> {
    if (transactionControl.test(query.text)) {
      throw new HostError("INTERNAL", "transaction control is not allowed inside withPgClient");
    }
    const { stream } = this.connection.client.connection;
    stream.cork();
    let opening: Promise<void>;
    let answer: Promise<PgClientResult<unknown>>;
    try {
      opening = this.open();
      answer = this.#send(query);
    } finally {
      stream.uncork();
    }
    answer.catch(ignore);
    await opening;
    const result = await answer;
    if (this.connection.client.getTransactionStatus() === "I") {
      this.connection.condemn(new Error("the transaction was ended from inside"));
      throw new HostError("INTERNAL", "the transaction was ended from inside withPgClient");
    }
    return result;
  }

  /** Sends `text`, which the caller made up of nothing but fixed words. */
  async command(text: string): Promise<string> {
    const result = await this.connection.client.query(text);
    return result.command;
  }

  /** Commits; throws where PostgreSQL rolled back instead, as it does after a failed statement. */
  async commit(): Promise<void> {
    if ((await this.command("commit")) === "ROLLBACK") {
      throw new HostError("INTERNAL", "the transaction had failed and was rolled back");
    }
    await this.#deallocate();
  }

  async rollback(): Promise<void> {
    if (this.connection.doubt !== null) return;
    await this.command("rollback").catch((error: Error) => this.connection.condemn(error));
  }

  #send(query: PgClientQuery): Promise<PgClientResult<unknown>> {
    const { client, statements } = this.connection;
    this.connection.beginResult();
    const name = query.name === undefined ? undefined : statements.nameFor(this.#tag, query.name);
    const config = {
      text: query.text,
      ...(query.values === undefined ? {} : { values: query.values }),
      ...(name === undefined ? {} : { name }),
    };
    const answer: Promise<QueryResult | QueryArrayResult> =
      query.arrayMode === true ? client.query({ ...config, rowMode: "array" }) : client.query(config);
    return answer.catch((error: Error) => {
      // A result that was cut off ends the connection: the reason for that is the reason to report.
      throw this.connection.doubt ?? error;
    });
  }

  /** Deallocates statements that fell out of the cache; outside a transaction, so that a failed one cannot stop it. */
  async #deallocate(): Promise<void> {
    const { client, statements } = this.connection;
    const names = statements.takeForgotten().filter((name) => name in client.connection.parsedStatements);
    if (names.length === 0) return;
    for (const name of names) delete client.connection.parsedStatements[name];
    const text = names.map((name) => `deallocate ${client.escapeIdentifier(name)}`).join("; ");
    await client.query(text).catch((error: Error) => this.connection.condemn(error));
  }
}

/** The rows are whatever the statement gives; their type is the caller's claim, as it is in PostGraphile's own adaptor. */
export async function rowsOf<TData>(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<TData>>;
export async function rowsOf(result: Promise<PgClientResult<unknown>>): Promise<PgClientResult<unknown>> {
  return result;
}
