/** PostGraphile's way to PostgreSQL while it serves: every statement inside a transaction with the request's settings. */
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { HostError } from "../src/kernel/errors.ts";
import { searchPathText } from "../src/shape/visibility.ts";
import { type RequestScope, type RequestSettings, requestScope } from "./scope.ts";
import { isConnectionLoss, type Sessions } from "./sessions.ts";
import { rowsOf, type Setting, Transaction } from "./transaction.ts";

/** One statement of a request, sent as one burst; for reads only: it is repeated when its connection turns out dead. */
export type SingleQuery = (
  settings: RequestSettings,
  query: PgClientQuery,
) => Promise<PgClientResult<unknown>>;

export interface ServingWithPgClient extends WithPgClient<NodePostgresPgClient> {
  readonly single: SingleQuery;
}

/** Settings that are the host's to choose; a plugin that sets them would choose the tenant. */
const reserved = new Set(["search_path", "session_authorization", "transaction_isolation_level"]);

/** The scope in `settings`; throws where there is none, or the request that they belong to is over. */
function scopeOf(settings: RequestSettings | null): RequestScope {
  const scope = settings?.[requestScope];
  if (scope === undefined) {
    throw new HostError(
      "INTERNAL",
      "withPgClient was called without the request's settings: pass context.pgSettings, or a copy of it",
    );
  }
  if (!scope.open) {
    throw new HostError("INTERNAL", "withPgClient was called with the settings of a request that is over");
  }
  if (scope.signal.aborted) throw new HostError("CANCELLED");
  return scope;
}

/** What a transaction of `scope` sets: the role first, the caller's settings, and the tenant's path last. */
function settingsOf(settings: RequestSettings, scope: RequestScope): Setting[] {
  const list: Setting[] = [];
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    const text = String(value);
    const key = name.toLowerCase();
    if (reserved.has(key)) throw new HostError("INTERNAL", `the setting ${key} is the host's`);
    if (key === "role" && !scope.binding.roles.includes(text)) {
      throw new HostError("INTERNAL", "the role is not one of this tenant's");
    }
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BAD_REQUEST", "a setting holds a NUL character");
    }
    if (key === "role") list.unshift(["role", text]);
    else list.push([name, text]);
  }
  list.push(["search_path", searchPathText(scope.binding.searchPath)]);
  return list;
}

/** The `withPgClient` of one instance over the cell's connections to its database. */
export function servingAdaptor(sessions: Sessions): ServingWithPgClient {
  const open = async (settings: RequestSettings | null): Promise<[Transaction, RequestScope, () => void]> => {
    const scope = scopeOf(settings);
    const list = settingsOf(settings ?? {}, scope);
    try {
      const connection = await sessions.connect();
      if (scope.signal.aborted) {
        connection.release();
        throw new HostError("CANCELLED");
      }
      const cancel = (): void => connection.cancel();
      scope.signal.addEventListener("abort", cancel, { once: true });
      return [
        new Transaction(connection, list, scope.binding.statementTag),
        scope,
        () => scope.signal.removeEventListener("abort", cancel),
      ];
    } catch (error) {
      if (error instanceof HostError && error.code === "DATABASE_UNREACHABLE") scope.fatal = error;
      throw error;
    }
  };

  const once: SingleQuery = async (settings, query) => {
    const [transaction, , uncancel] = await open(settings);
    const { result, done } = transaction.single(query);
    // The answer goes on while the commit is still on its way; the connection is handed on only after it.
    void done.finally(() => {
      uncancel();
      transaction.connection.release();
    });
    return await result;
  };

  const single: SingleQuery = async (settings, query) => {
    try {
      return await once(settings, query);
    } catch (error) {
      // A server restart leaves idle connections that are dead; a read may simply be sent again, once.
      if (!isConnectionLoss(error) || settings[requestScope]?.signal.aborted === true) throw error;
      return await once(settings, query);
    }
  };

  const withPgClient = async <T>(
    settings: RequestSettings | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const [transaction, scope, uncancel] = await open(settings);
    try {
      const value = await callback(servingClient(transaction));
      if (transaction.opened) {
        // From here on the write may stand: it is no longer cancelled, and never repeated after a thread's death.
        uncancel();
        scope.markCommitting();
        await transaction.commit();
      }
      return value;
    } catch (error) {
      if (transaction.opened) await transaction.rollback();
      if (isConnectionLoss(error))
        scope.fatal ??= new HostError("DATABASE_UNREACHABLE", "connection lost", { cause: error });
      throw error;
    } finally {
      uncancel();
      transaction.connection.release();
    }
  };

  return Object.assign(withPgClient, { single, release: () => undefined });
}

/** The client that a callback sees; savepoints of one level, and queries beside them, take turns. */
function servingClient(transaction: Transaction, level = 0): NodePostgresPgClient {
  let tail: Promise<unknown> | null = null;
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const result = tail === null ? work() : tail.then(work);
    const settled = result.then(
      () => undefined,
      () => undefined,
    );
    tail = settled;
    void settled.then(() => {
      if (tail === settled) tail = null;
    });
    return result;
  };

  return {
    get rawClient() {
      // Whatever is sent through it comes behind `begin` and the settings on the wire.
      void transaction.open();
      return transaction.connection.client;
    },
    query<TData>(query: PgClientQuery): Promise<PgClientResult<TData>> {
      const run = (): Promise<PgClientResult<TData>> => rowsOf<TData>(transaction.query(query));
      return tail === null ? run() : inTurn(run);
    },
    withTransaction<T>(callback: (client: NodePostgresPgClient) => Promise<T>): Promise<T> {
      return inTurn(async () => {
        await transaction.open();
        const name = `rowhouse_${level}`;
        await transaction.command(`savepoint ${name}`);
        try {
          const value = await callback(servingClient(transaction, level + 1));
          await transaction.command(`release savepoint ${name}`);
          return value;
        } catch (error) {
          await transaction.command(`rollback to savepoint ${name}`);
          throw error;
        }
      });
    },
  };
}
