/** `rawClient` of the client that plugins get: pg's own client, as far as it can be used without leaving the transaction. */
import type { PoolClient } from "pg";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { Transaction } from "./transaction.ts";

type Running = Pick<Transaction, "query">;

/** Members of pg's client that change nothing on the connection. */
const harmless = new Set<string | symbol>([
  "escapeIdentifier",
  "escapeLiteral",
  "getTypeParser",
  "processID",
]);

export function rawClient(client: PoolClient, transaction: Running): PoolClient {
  return new Proxy(client, {
    get(target, property) {
      if (property === "query") return queryOf(transaction);
      // A promise that resolves to this client looks up `then`.
      if (property === "then") return undefined;
      if (!harmless.has(property)) refuse(property);
      const value: unknown = Reflect.get(target, property, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
    set: (_target, property) => refuse(property),
  });
}

function refuse(property: string | symbol): never {
  throw new HostError("INTERNAL", `rawClient.${String(property)} is not available inside withPgClient`);
}

/** Implements `query(text, values)` and `query({ text, values, rowMode })`; cursors, streams and callbacks are not supported. */
function queryOf(transaction: Running) {
  return async (first: unknown, second?: unknown): Promise<unknown> => {
    const config: object = typeof first === "object" && first !== null ? first : { text: first };
    if ("submit" in config || typeof second === "function") refuse("query with a callback, cursor or stream");
    const text = "text" in config ? config.text : undefined;
    if (typeof text !== "string") return refuse("query without text");
    const values: unknown = second ?? ("values" in config ? config.values : undefined);
    return transaction.query({
      text,
      values: Array.isArray(values) ? values : [],
      arrayMode: "rowMode" in config && config.rowMode === "array",
    });
  };
}
