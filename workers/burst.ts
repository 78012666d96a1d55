/** Statements that go to PostgreSQL as one group of messages, in one write: where one fails, it skips all that follow. */
import { createRequire } from "node:module";
import pg from "pg";
import { HostError } from "../src/kernel/errors.ts";

declare module "pg" {
  interface Query<R, I> {
    handleDataRow(message: unknown): void;
    handleCommandComplete(message: unknown, connection: pg.Connection): void;
    handleCopyInResponse(connection: pg.Connection): void;
    handleError(error: Error, connection: pg.Connection): void;
  }
}

type PrepareValue = (value: unknown) => string | Buffer | null;

function isPrepareValue(value: unknown): value is PrepareValue {
  return typeof value === "function";
}

/** pg's own way of writing a parameter, which its types do not mention; it throws for an object with a cycle. */
function loadPrepareValue(): PrepareValue {
  const utils: unknown = createRequire(import.meta.url)("pg/lib/utils.js");
  if (typeof utils === "object" && utils !== null && "prepareValue" in utils) {
    const { prepareValue } = utils;
    if (isPrepareValue(prepareValue)) return prepareValue;
  }
  throw new HostError("INTERNAL", "this version of pg has no prepareValue that Rowhouse knows");
}

const prepareValue = loadPrepareValue();

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
  /** The name that it has, or gets, as a prepared statement; without one it is parsed each time. */
  readonly name?: string | undefined;
  /** Whether the connection has it under that name already. */
  readonly prepared?: boolean | undefined;
}

export interface BurstResult {
  readonly command: string;
  readonly rows: readonly unknown[];
  readonly rowCount: number | null;
}

/**
 * In pg's own pipeline mode each query ends in a Sync, after which PostgreSQL carries on even if `begin` or the
 * settings before it failed. Here one Sync ends the whole group: a statement runs only if all those before it did.
 * Every statement is sent by the extended protocol, which refuses a text of several statements.
 */
export class Burst extends pg.Query {
  /** What the statement at `resultAt` gave; rejects, as soon as PostgreSQL is done with the whole group, with the first error. */
  readonly result: Promise<BurstResult>;
  readonly #statements: readonly { statement: Statement; values: (string | Buffer | null)[] }[];
  readonly #closed: readonly string[];
  readonly #resultAt: number;
  #completed = 0;

  /** Throws where a value cannot be written. `closed` are names of prepared statements to be given up. */
  constructor(
    statements: readonly Statement[],
    arrayMode = false,
    resultAt = statements.length - 1,
    closed: readonly string[] = [],
  ) {
    const { promise, resolve, reject } = Promise.withResolvers<BurstResult>();
    const text = statements.at(resultAt)?.text ?? "";
    const config = arrayMode ? { text, rowMode: "array" as const } : { text };
    super(config, undefined, (error: Error | null | undefined, result) => {
      if (error == null) resolve(result);
      else reject(error);
    });
    this.result = promise;
    this.#resultAt = resultAt;
    this.#closed = closed;
    this.#statements = statements.map((statement) => ({
      statement,
      values: (statement.values ?? []).map((value) => prepareValue(value)),
    }));
  }

  override submit = (connection: pg.Connection): null => {
    const { stream } = connection;
    stream.cork();
    try {
      for (const name of this.#closed) connection.close({ type: "S", name }, true);
      this.#statements.forEach(({ statement, values }, index) => {
        const { text, name = "", prepared = false } = statement;
        if (!prepared) {
          // Closing what is not there is no error; parsing under a name that is taken is one.
          if (name !== "") connection.close({ type: "S", name }, true);
          connection.parse({ name, text, types: [] }, true);
        }
        connection.bind({ statement: name, values }, true);
        if (index === this.#resultAt) connection.describe({ type: "P", name: "" }, true);
        connection.execute(null, true);
      });
      connection.sync();
    } finally {
      stream.uncork();
    }
    return null;
  };

  override handleDataRow(message: unknown): void {
    if (this.#completed === this.#resultAt) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#completed === this.#resultAt) super.handleCommandComplete(message, connection);
    this.#completed += 1;
  }

  /** By the extended protocol, `copy from stdin` swallows the Sync and then waits for one: there is no way back from it. */
  override handleCopyInResponse(connection: pg.Connection): void {
    connection.stream.destroy(new Error("COPY is not supported"));
  }

  /** pg reports an error when it reads it; only after the end of the group is the transaction's status known. */
  override handleError(error: Error, connection: pg.Connection): void {
    if (!(error instanceof pg.DatabaseError) || connection.stream.destroyed) {
      super.handleError(error, connection);
      return;
    }
    const settle = (): void => {
      connection.off("readyForQuery", settle);
      connection.off("end", settle);
      super.handleError(error, connection);
    };
    connection.on("readyForQuery", settle);
    connection.on("end", settle);
  }
}
