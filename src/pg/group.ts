/** Statements that travel together: one write, one answer, one transaction. */
import { createHash } from "node:crypto";
import pg from "pg";

declare module "pg" {
  interface Query<R, I> {
    prepare(connection: pg.Connection): void;
  }
  interface Connection {
    close(message: { readonly type: "S"; readonly name: string }): void;
    sync(): void;
  }
}

export interface GroupedStatement {
  readonly text: string;
  readonly values?: readonly unknown[];
  /** Worth keeping prepared on its connection: it is asked often, or takes long to plan. */
  readonly prepared?: boolean;
}

/** The name of a text as a prepared statement. */
const preparedName = (text: string): string => createHash("sha1").update(text).digest("base64url");

/** By connection, what is prepared on it: name → text. */
const known = new WeakMap<pg.Connection, Record<string, string>>();

/**
 * One Sync ends all of it, and no `begin` is needed: up to a Sync, messages of the extended protocol are one transaction. Where a
 * statement fails PostgreSQL skips all that follow, so that nothing can run without the settings that were made before it.
 */
export class Group extends pg.Query {
  /** The rows of each statement. */
  readonly answers: Promise<readonly (readonly unknown[])[]>;
  readonly #parts: readonly { readonly name: string; readonly text: string; readonly query: pg.Query }[];
  #connection: pg.Connection | null = null;

  constructor(statements: readonly GroupedStatement[]) {
    const { promise, resolve, reject } = Promise.withResolvers<readonly (readonly unknown[])[]>();
    super({ text: "" }, undefined, (error: Error | null | undefined, results) => {
      if (error != null) return reject(error);
      this.#remember();
      resolve([results].flat().map((result) => result.rows));
    });
    this.answers = promise;
    this.#parts = statements.map(({ text, values = [], prepared = false }) => {
      const name = prepared ? preparedName(text) : "";
      return { name, text, query: new pg.Query({ text, values: [...values], name }) };
    });
  }

  override submit = (connection: pg.Connection): null => {
    this.#connection = connection;
    const parsedStatements = { ...known.get(connection) };
    const unsynced: pg.Connection = Object.create(connection, {
      sync: { value: () => undefined },
      parsedStatements: { value: parsedStatements },
      submittedNamedStatements: { value: {} },
    });
    connection.stream.cork();
    for (const { name, query } of this.#parts) {
      // Closing what is not there is no error; parsing under a name that is taken is one.
      if (name !== "" && !Object.hasOwn(parsedStatements, name)) connection.close({ type: "S", name });
      query.prepare(unsynced);
    }
    connection.sync();
    connection.stream.uncork();
    return null;
  };

  /** Of a group that failed nobody knows what was prepared before that: it is prepared anew. */
  #remember(): void {
    if (this.#connection === null) return;
    const named = this.#parts.filter(({ name }) => name !== "").map(({ name, text }) => [name, text]);
    known.set(this.#connection, { ...known.get(this.#connection), ...Object.fromEntries(named) });
  }
}
