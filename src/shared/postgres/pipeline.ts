/** Statements sent to PostgreSQL in one write as one group of messages: if one fails, PostgreSQL skips those that follow. */
import { createRequire } from "node:module";
import pg from "pg";
import { serialize } from "pg-protocol";
import type { NoticeMessage } from "pg-protocol/dist/messages.js";
import { HostError } from "../kernel/errors.ts";
import { namespace } from "./statement-names.ts";

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

/** PostgreSQL asked the client for something unsupported, for which the connection was given up. */
export class NotSupported extends Error {}

type PrepareValue = (value: unknown) => string | Buffer | null;

function isPrepareValue(value: unknown): value is PrepareValue {
  return typeof value === "function";
}

/** pg's own serialization of a parameter, which its types do not declare. It throws for an object with a cycle. */
function loadPrepareValue(): PrepareValue {
  const utils: unknown = createRequire(import.meta.url)("pg/lib/utils.js");
  if (typeof utils === "object" && utils !== null && "prepareValue" in utils) {
    const { prepareValue } = utils;
    if (isPrepareValue(prepareValue)) return prepareValue;
  }
  throw new HostError("INTERNAL", "this version of pg is not supported: its prepareValue has changed");
}

const prepareValue = loadPrepareValue();

/** Column descriptions as PostgreSQL sends them, for the code that reads the rows. */
export type Columns = readonly unknown[];

export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
  /** The name of the prepared statement; without one, the text is parsed each time. */
  readonly name?: string | undefined;
  /**
   * The bind and execute messages, where they are always the same; used if the connection has the statement prepared under its
   * name.
   */
  readonly messages?: Buffer;
  /** Translates an error of this statement, and of no other. */
  readonly meaning?: (error: pg.DatabaseError) => Error;
}

/** A statement whose values never change, prepared under `own` with this thread's prefix. */
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
  /** Which statement's result is returned; by default the last one's. */
  readonly resultAt?: number | undefined;
  /** Whether the results of all statements are kept; none may be empty. */
  readonly all?: boolean | undefined;
  /** The last statement that must succeed for the result to count; by default the one at `resultAt`. */
  readonly standsAt?: number | undefined;
  /** Names of prepared statements to close. */
  readonly closed?: readonly string[];
  /** Whether the connection already has `text` prepared under `name`. */
  readonly isPrepared?: (name: string, text: string) => boolean;
  /** The known columns of the prepared statement of that name; PostgreSQL is then not asked to describe them. */
  readonly columnsOf?: (name: string) => Columns | null;
  /** Which statements are parsed each time even if they have a name; those with `messages` are the fixed ones. */
  readonly unnamed?: "all" | "fixed" | undefined;
}

const describePortal = serialize.describe({ type: "P", name: "" });
const execute = serialize.execute();
const sync = serialize.sync();

/**
 * In pg's own pipeline mode each query ends in a Sync, after which PostgreSQL carries on even if `begin` or the settings before
 * it failed. Here one Sync ends the whole group: a statement runs only if all those before it did. Every statement uses the
 * extended protocol, which refuses a text of several statements.
 */
export class Pipeline extends pg.Query {
  /** The result of the statement at `resultAt`. Rejects with the first error as soon as PostgreSQL is done with the whole group. */
  readonly result: Promise<PipelineResult>;
  /** The results of all statements, if they were asked for; set by the time `result` resolves. */
  results: readonly PipelineResult[] = [];
  /** The error of a statement behind the one at `standsAt`, when the result counts all the same; set by the time `result` resolves. */
  failedBehind: Error | null = null;
  /** The statements that this group parses; the named ones are prepared once it has succeeded. */
  readonly parsed: Statement[] = [];
  /** The columns of the statement at `resultAt`, if PostgreSQL was asked to describe them. */
  described: Columns | null = null;
  /** Notices that the statement at `resultAt` raised; those of other statements, such as the commit, are dropped. */
  readonly notices: NoticeMessage[] = [];
  /** Whether PostgreSQL is done with the whole group; later messages belong to the next one. */
  over = false;
  readonly #statements: readonly Statement[];
  readonly #messages: Buffer;
  readonly #resultAt: number;
  readonly #standsAt: number;
  readonly #keepsAll: boolean;
  #completed = 0;

  /** Throws if a value cannot be serialized. */
  constructor(statements: readonly Statement[], options: PipelineOptions = {}) {
    const { promise, resolve, reject } = Promise.withResolvers<PipelineResult>();
    const { arrayMode = false, all = false, resultAt = statements.length - 1 } = options;
    const text = statements.at(resultAt)?.text ?? "";
    const config = arrayMode ? { text, rowMode: "array" as const } : { text };
    super(config, undefined, (error: Error | null | undefined, result: PipelineResult | PipelineResult[]) => {
      if (error != null) return reject(error);
      if (!Array.isArray(result)) return resolve(result);
      this.results = result;
      const wanted = result[resultAt];
      if (wanted === undefined) reject(new HostError("INTERNAL", "a statement of a group had no result"));
      else resolve(wanted);
    });
    this.result = promise;
    this.#statements = statements;
    this.#resultAt = resultAt;
    this.#standsAt = options.standsAt ?? resultAt;
    this.#keepsAll = all;
    const columns = all ? null : knownColumns(statements.at(resultAt), options);
    if (columns !== null) super.handleRowDescription({ fields: columns });
    this.#messages = messagesOf(statements, columns === null ? resultAt : null, options, this.parsed);
  }

  override submit = (connection: pg.Connection): null => {
    // As one buffer, because a write for each of the two dozen messages costs more than concatenating them.
    connection.stream.write(this.#messages);
    return null;
  };

  /** Takes a notice that arrived while this group was running. */
  notice(message: NoticeMessage): void {
    if (this.#completed === this.#resultAt) this.notices.push(message);
  }

  /** How many of the statements have run so far. */
  get completed(): number {
    return this.#completed;
  }

  get #isKept(): boolean {
    return this.#completed === this.#resultAt || this.#keepsAll;
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
    if (this.#isKept) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#isKept) super.handleCommandComplete(message, connection);
    this.#completed += 1;
  }

  /** A text that consists only of comments ends in EmptyQueryResponse instead of CommandComplete. */
  override handleEmptyQuery(): void {
    this.#completed += 1;
  }

  /**
   * With the extended protocol, `copy from stdin` swallows the Sync and then waits for one; the connection cannot recover from
   * that.
   */
  override handleCopyInResponse(connection: pg.Connection): void {
    connection.stream.destroy(new NotSupported("COPY is not supported"));
  }

  /**
   * Defers an error until the group has ended: pg reports it as soon as it is read, but the transaction's status is known only
   * then.
   */
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

/** Adds a Describe for the statement at `describedAt`, or for each if all results are kept. */
function messagesOf(
  statements: readonly Statement[],
  describedAt: number | null,
  { all = false, closed = [], isPrepared, unnamed }: PipelineOptions,
  parsed: Statement[],
): Buffer {
  const messages = closed.map((name) => serialize.close({ type: "S", name }));
  statements.forEach((given, index) => {
    const isUnnamed = unnamed === "all" || (unnamed === "fixed" && given.messages !== undefined);
    const statement = isUnnamed ? { text: given.text, values: given.values } : given;
    const { text, name = "", values = [], messages: fixed } = statement;
    const isDescribed = all || index === describedAt;
    const prepared = name !== "" && isPrepared?.(name, text) === true;
    if (!prepared) {
      // Closing an unknown name is no error; parsing under a name that is taken is one.
      if (name !== "") messages.push(serialize.close({ type: "S", name }));
      messages.push(serialize.parse({ name, text, types: [] }));
      parsed.push(statement);
    }
    if (fixed !== undefined && !isDescribed) {
      messages.push(fixed);
      return;
    }
    messages.push(serialize.bind({ statement: name, values: values.map((value) => prepareValue(value)) }));
    if (isDescribed) messages.push(describePortal);
    messages.push(execute);
  });
  messages.push(sync);
  return Buffer.concat(messages);
}
