/** One connection of a cell to PostgreSQL, with what must be known of it beyond what `pg` knows. */
import { connect as connectSocket } from "node:net";
import type { PoolClient } from "pg";
import { SafeError } from "postgraphile/grafast";
import { toHostError } from "../src/kernel/errors.ts";
import { Burst, type BurstResult, type Statement } from "./burst.ts";
import { clearing } from "./hygiene.ts";
import { noticeOf, type PgNotice } from "./notice.ts";
import { Statements } from "./statements.ts";

declare module "pg" {
  interface Client {
    readonly processID: number | null;
    readonly secretKey: number | null;
  }
}

export interface Result extends BurstResult {
  readonly notices: readonly PgNotice[];
}

export class Connection {
  readonly client: PoolClient;
  readonly statements = new Statements();
  /** Why this connection cannot be used again; a connection in doubt is destroyed, not returned. */
  #doubt: Error | null = null;
  #resultBytes = 0;
  #notices: PgNotice[] = [];
  #pending = 0;
  #soiled = false;
  readonly #mostResultBytes: number;
  readonly #baseline: Statement;

  /** `baseline` makes the settings that the session had when it was new. */
  constructor(client: PoolClient, mostResultBytes: number, baseline: Statement) {
    this.client = client;
    this.#mostResultBytes = mostResultBytes;
    this.#baseline = baseline;
    // Without a listener of our own a connection lost while checked out would be an uncaught exception.
    client.on("error", (error) => this.condemn(error));
    client.on("notice", (notice) => this.#notices.push(noticeOf(notice)));
    const { connection } = client;
    connection.stream.on("data", (chunk: Uint8Array) => this.#count(chunk.length));
    // The end of each group of statements: the limit is per result.
    connection.on("readyForQuery", () => {
      this.#resultBytes = 0;
    });
  }

  get doubt(): Error | null {
    return this.#doubt;
  }

  condemn(error: Error): void {
    this.#doubt ??= error;
  }

  /** To be called when a commit is on its way: what a function of the tenant's set for the session stays then. */
  soil(): void {
    this.#soiled = true;
  }

  /**
   * What the statement at `resultAt`, the last unless told otherwise, gives; none runs where one before it failed. What an
   * earlier request's functions left in the session is cleared away first, in the same write.
   */
  async send(
    statements: readonly Statement[],
    arrayMode = false,
    resultAt = statements.length - 1,
  ): Promise<Result> {
    if (this.#doubt !== null) throw this.#doubt;
    const known = this.#known(statements);
    const burst = new Burst(known, arrayMode, resultAt, this.statements.takeForgotten());
    this.#pending += 1;
    // It may fail while something else is waited for.
    burst.result.catch(() => undefined);
    try {
      await this.#sendBehindCleaning(burst);
      const { command, rows, rowCount } = await burst.result;
      for (const { name, text } of known) if (name !== undefined) this.statements.prepared(name, text);
      const notices = this.#notices;
      this.#notices = [];
      return { command, rows, rowCount, notices };
    } catch (error) {
      if (isStale(error)) this.statements.forgetAll();
      // A result that was cut off ends the connection: the reason for that is the reason to report.
      throw this.#doubt ?? error;
    } finally {
      this.#pending -= 1;
    }
  }

  #known(statements: readonly Statement[]): Statement[] {
    return statements.map((statement) => {
      const { name, text } = statement;
      return name === undefined
        ? statement
        : { ...statement, prepared: this.statements.isPrepared(name, text) };
    });
  }

  /** Sends `burst` at once; resolves when what had to be cleared before it is. */
  #sendBehindCleaning(burst: Burst): Promise<void> {
    const { stream } = this.client.connection;
    stream.cork();
    try {
      const cleaned = this.#clean();
      this.client.query(burst);
      return cleaned;
    } finally {
      stream.uncork();
    }
  }

  /** Clears the session, if it needs to be; a connection that cannot be cleared is in doubt. */
  async #clean(): Promise<void> {
    if (!this.#soiled) return;
    this.#soiled = false;
    const burst = new Burst(clearing(this.#baseline));
    this.client.query(burst);
    try {
      await burst.result;
    } catch (error) {
      this.condemn(toHostError(error));
      throw error;
    }
  }

  /** Bytes are counted on the socket, not in rows: one value of a gigabyte must not be assembled first. */
  #count(bytes: number): void {
    this.#resultBytes += bytes;
    if (this.#resultBytes <= this.#mostResultBytes || this.#doubt !== null) return;
    this.condemn(
      new SafeError(`The result is larger than ${this.#mostResultBytes} bytes.`, {
        code: "RESULT_TOO_LARGE",
      }),
    );
    this.cancel();
  }

  /** Stops what runs and gives the connection up. The server is told first, so that the statement does not run on. */
  cancel(): void {
    this.condemn(new Error("the query was cancelled"));
    const { client } = this;
    const { processID, secretKey, host, port } = client;
    if (processID !== null && secretKey !== null) {
      const socket = host.startsWith("/")
        ? connectSocket(`${host}/.s.PGSQL.${port}`)
        : connectSocket(port, host);
      // CancelRequest: https://www.postgresql.org/docs/18/protocol-message-formats.html
      const request = Buffer.alloc(16);
      request.writeInt32BE(16, 0);
      request.writeInt32BE(80877102, 4);
      request.writeInt32BE(processID, 8);
      request.writeInt32BE(secretKey, 12);
      socket.setTimeout(2_000, () => socket.destroy());
      socket.on("error", () => socket.destroy());
      socket.end(request);
    }
    client.connection.stream.destroy();
  }

  /** Gives the connection back to its pool, or destroys it where anything of it is in doubt. */
  release(): void {
    // "I" is idle; anything else would hand a transaction of one tenant to the next.
    if (this.#pending > 0 || this.client.getTransactionStatus() !== "I") {
      this.condemn(new Error("the connection was left with something unfinished"));
    }
    this.#notices = [];
    this.client.release(this.#doubt ?? undefined);
  }
}

/**
 * Whether a prepared statement was not there, or not to be used again: a function may have said `discard all`, and a
 * changed table may have changed a statement's result ("cached plan must not change result type").
 */
export function isStale(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "26000" || error.code === "0A000");
}
