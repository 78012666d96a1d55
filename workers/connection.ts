/** One connection of a cell to PostgreSQL, with what must be known of it beyond what `pg` knows. */
import { connect as connectSocket } from "node:net";
import type { PoolClient } from "pg";
import { SafeError } from "postgraphile/grafast";
import { Statements } from "./statements.ts";

declare module "pg" {
  interface Client {
    readonly processID: number | null;
    readonly secretKey: number | null;
  }
  interface Connection {
    readonly parsedStatements: Record<string, string>;
  }
}

export class Connection {
  readonly client: PoolClient;
  readonly statements = new Statements();
  /** Why this connection cannot be used again; a connection in doubt is destroyed, not returned. */
  #doubt: Error | null = null;
  #resultBytes = 0;
  readonly #mostResultBytes: number;

  constructor(client: PoolClient, mostResultBytes: number) {
    this.client = client;
    this.#mostResultBytes = mostResultBytes;
    // Without a listener of our own a connection lost while checked out would be an uncaught exception.
    client.on("error", (error) => this.condemn(error));
    client.connection.stream.on("data", (chunk: Uint8Array) => this.#count(chunk.length));
  }

  get doubt(): Error | null {
    return this.#doubt;
  }

  condemn(error: Error): void {
    this.#doubt ??= error;
  }

  /** To be called where a query is sent: the limit is per result. */
  beginResult(): void {
    this.#resultBytes = 0;
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

  release(): void {
    // "I" is idle; anything else would hand a transaction of one tenant to the next.
    if (this.#doubt === null && this.client.getTransactionStatus() !== "I") {
      this.#doubt = new Error("the connection was left inside a transaction");
    }
    this.client.release(this.#doubt ?? undefined);
  }
}
