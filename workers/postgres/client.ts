/** The client that a callback of `withPgClient` sees. */
import type { PoolClient } from "pg";
import type { PgClientQuery, PgClientResult } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { rawClient } from "./raw-client.ts";
import { rowsOf, type Transaction } from "./transaction.ts";

/** What of a transaction reaches plugins. */
export type Running = Pick<Transaction, "query" | "command">;

const ignore = (): void => undefined;

/** A rejection that nobody waits for is no reason to end the thread: the promise counts as handled, whoever awaits it. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(ignore);
  return promise;
}

/** Savepoints of one level, and queries beside them, take turns. */
export function servingClient(raw: PoolClient, transaction: Running, level = 0): NodePostgresPgClient {
  let tail: Promise<unknown> | null = null;
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = tail === null ? work() : tail.then(work);
    const settled = result.then(ignore, ignore).then(() => {
      if (tail === settled) tail = null;
    });
    tail = settled;
    return result;
  };

  return {
    rawClient: rawClient(raw, transaction),
    query<TData>(query: PgClientQuery): Promise<PgClientResult<TData>> {
      const run = (): Promise<PgClientResult<TData>> => rowsOf<TData>(transaction.query(query));
      return handled(tail === null ? run() : inTurn(run));
    },
    withTransaction<T>(callback: (client: NodePostgresPgClient) => Promise<T>): Promise<T> {
      return handled(
        inTurn(async () => {
          const name = `rowhouse_${level}`;
          await transaction.command(`savepoint ${name}`);
          try {
            const value = await callback(servingClient(raw, transaction, level + 1));
            await transaction.command(`release savepoint ${name}`);
            return value;
          } catch (error) {
            // Where that fails too, the connection is lost or the transaction over: the first error says more.
            await transaction.command(`rollback to savepoint ${name}`).catch(ignore);
            throw error;
          }
        }),
      );
    },
  };
}
