/** The client that is passed to a callback of `withPgClient`. */
import type { PoolClient } from "pg";
import type { PgClientQuery, PgClientResult } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { rawClient } from "./raw-client.ts";
import { rowsOf, type Transaction } from "./transaction.ts";

/** The part of a transaction that plugins can reach. */
export type Running = Pick<Transaction, "query" | "command">;

const ignore = (): void => undefined;

/** Marks the promise as handled: a rejection that a plugin does not await must not end the thread. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(ignore);
  return promise;
}

/** Savepoints of one level, and the queries beside them, run one after the other. */
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
            // If this fails too, the connection is lost or the transaction is over; the first error says more.
            await transaction.command(`rollback to savepoint ${name}`).catch(ignore);
            throw error;
          }
        }),
      );
    },
  };
}
