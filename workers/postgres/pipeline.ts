/** Statements that go to PostgreSQL as one group of messages, in one write: where one fails, it skips all that follow. */
import { createRequire } from "node:module";
import pg from "pg";
import { serialize } from "pg-protocol";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { PgNotice } from "./notice.ts";

declare module "pg" {
  interface Query<R, I> {
    handleRowDescription(message: { readonly fields: readonly unknown[] }): void;
    handleDataRow(message: unknown): void;
    handleCommandComplete(message: unknown, connection: pg.Connection): void;
    handleCopyInResponse(connection: pg.Connection): void;
    handleEmptyQuery(connection: pg.Connection): void;
    handleError(error: Error, connection: pg.Connection): void;
    handleReadyForQuery(connection: pg.Connection): void;
  }
}

/** Of what PostgreSQL asked of the client, for which the connection was given up. */
export class NotSupported extends Error {}

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

/** As PostgreSQL describes them, for whoever reads the rows. */
export type Columns = readonly unknown[];

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
  /** The name that it has, or gets, as a prepared statement; without one it is parsed each time. */
  readonly name?: string | undefined;
  /** The messages that run it where the connection has it under that name already; where they are always the same. */
  readonly messages?: Buffer;
  /** What an error of this statement, and of no other, means. */
  readonly meaning?: (error: pg.DatabaseError) => Error;
}

/** A statement that always has the same values, prepared under `own` with what makes that a name of this thread's. */
export function fixedStatement(own: string, text: string, values: readonly string[] = []): Statement {
  const name = `${namespace}${own}`;
  const bind = serialize.bind({ statement: name, values: [...values] });
  return { name, text, values, messages: Buffer.concat([bind, serialize.execute()]) };
}

export interface PipelineResult {
  readonly command: string;
  readonly rows: readonly unknown[];
  readonly rowCount: number | null;
}

export interface PipelineOptions {
  readonly arrayMode?: boolean | undefined;
  /** Which statement's result is asked for; the last one's unless given. */
  readonly resultAt?: number | undefined;
  /** The last statement that must not fail for the result to stand; the one at `resultAt` unless given. */
  readonly standsAt?: number | undefined;
  /** Names of prepared statements to be given up. */
  readonly closed?: readonly string[];
  /** Whether the connection has `text` under `name` already. */
  readonly isPrepared?: (name: string, text: string) => boolean;
  /** The columns of what the connection has under that name, where they are known: it is not asked for them again. */
  readonly columnsOf?: (name: string) => Columns | null;
  /** Whether all are parsed each time, whatever name they have. */
  readonly unnamed?: boolean;
}

const describePortal = serialize.describe({ type: "P", name: "" });
const execute = serialize.execute();
const sync = serialize.sync();

/**
 * In pg's own pipeline mode each query ends in a Sync, after which PostgreSQL carries on even if `begin` or the
 * settings before it failed. Here one Sync ends the whole group: a statement runs only if all those before it did.
 * Every statement is sent by the extended protocol, which refuses a text of several statements.
 */
export class Pipeline extends pg.Query {
  /** What the statement at `resultAt` gave; rejects, as soon as PostgreSQL is done with the whole group, with the first error. */
  readonly result: Promise<PipelineResult>;
  /** What failed behind the statement at `standsAt`, where the result stands all the same; known when that is. */
  failedBehind: Error | null = null;
  /** The statements that are parsed by it; those among them with a name are prepared once it has succeeded. */
  readonly parsed: Statement[] = [];
  /** The columns of the statement at `resultAt`, where PostgreSQL was asked for them. */
  described: Columns | null = null;
  /** Those that the statement at `resultAt` raised; what a commit behind it raises is no other statement's. */
  readonly notices: PgNotice[] = [];
  /** Whether PostgreSQL is done with the whole group; what it sends from then on belongs to the next. */
  over = false;
  readonly #statements: readonly Statement[];
  readonly #messages: Buffer;
  readonly #resultAt: number;
  readonly #standsAt: number;
  #completed = 0;

  /** Throws where a value cannot be written. */
  constructor(statements: readonly Statement[], options: PipelineOptions = {}) {
    const { promise, resolve, reject } = Promise.withResolvers<PipelineResult>();
    const { arrayMode = false, resultAt = statements.length - 1 } = options;
    const text = statements.at(resultAt)?.text ?? "";
    const config = arrayMode ? { text, rowMode: "array" as const } : { text };
    super(config, undefined, (error: Error | null | undefined, result) => {
      if (error == null) resolve(result);
      else reject(error);
    });
    this.result = promise;
    this.#statements = statements;
    this.#resultAt = resultAt;
    this.#standsAt = options.standsAt ?? resultAt;
    const columns = knownColumns(statements.at(resultAt), options);
    if (columns !== null) super.handleRowDescription({ fields: columns });
    this.#messages = messagesOf(statements, columns === null ? resultAt : null, options, this.parsed);
  }

  override submit = (connection: pg.Connection): null => {
    // One piece: a write for each of the two dozen messages costs more than putting them together.
    connection.stream.write(this.#messages);
    return null;
  };

  /** Takes a notice that came while this group was the one at work. */
  notice(make: () => PgNotice): void {
    if (this.#completed === this.#resultAt) this.notices.push(make());
  }

  override handleReadyForQuery(connection: pg.Connection): void {
    this.over = true;
    super.handleReadyForQuery(connection);
  }

  override handleRowDescription(message: { readonly fields: Columns }): void {
    this.described = message.fields;
    super.handleRowDescription(message);
  }

  override handleDataRow(message: unknown): void {
    if (this.#completed === this.#resultAt) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#completed === this.#resultAt) super.handleCommandComplete(message, connection);
    this.#completed += 1;
  }

  /** A text of nothing but a comment completes in its own way. */
  override handleEmptyQuery(): void {
    this.#completed += 1;
  }

  /** By the extended protocol, `copy from stdin` swallows the Sync and then waits for one: there is no way back from it. */
  override handleCopyInResponse(connection: pg.Connection): void {
    connection.stream.destroy(new NotSupported("COPY is not supported"));
  }

  /** pg reports an error when it reads it; only after the end of the group is the transaction's status known. */
  override handleError(error: Error, connection: pg.Connection): void {
    if (!(error instanceof pg.DatabaseError) || connection.stream.destroyed) {
      super.handleError(error, connection);
      return;
    }
    const settle = (): void => {
      this.over = true;
      connection.off("readyForQuery", settle);
      connection.off("end", settle);
      if (this.#completed <= this.#standsAt || connection.stream.destroyed) {
        super.handleError(this.#statements[this.#completed]?.meaning?.(error) ?? error, connection);
      } else {
        this.failedBehind = error;
        this.handleReadyForQuery(connection);
      }
    };
    connection.on("readyForQuery", settle);
    connection.on("end", settle);
  }
}

function knownColumns(
  statement: Statement | undefined,
  { isPrepared, columnsOf }: PipelineOptions,
): Columns | null {
  const { name = "", text = "" } = statement ?? {};
  return name !== "" && isPrepared?.(name, text) === true ? (columnsOf?.(name) ?? null) : null;
}

/** With a question for the columns of the statement at `describedAt`. */
function messagesOf(
  statements: readonly Statement[],
  describedAt: number | null,
  { closed = [], isPrepared, unnamed = false }: PipelineOptions,
  parsed: Statement[],
): Buffer {
  const messages = closed.map((name) => serialize.close({ type: "S", name }));
  statements.forEach((given, index) => {
    const statement = unnamed ? { text: given.text, values: given.values } : given;
    const { text, name = "", values = [], messages: fixed } = statement;
    const prepared = name !== "" && isPrepared?.(name, text) === true;
    if (!prepared) {
      // Closing what is not there is no error; parsing under a name that is taken is one.
      if (name !== "") messages.push(serialize.close({ type: "S", name }));
      messages.push(serialize.parse({ name, text, types: [] }));
      parsed.push(statement);
    }
    if (fixed !== undefined && index !== describedAt) {
      messages.push(fixed);
      return;
    }
    messages.push(serialize.bind({ statement: name, values: values.map((value) => prepareValue(value)) }));
    if (index === describedAt) messages.push(describePortal);
    messages.push(execute);
  });
  messages.push(sync);
  return Buffer.concat(messages);
}
