/** PostGraphile's way to PostgreSQL while it serves: every statement inside a transaction with the request's settings. */
import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { SafeError } from "postgraphile/grafast";
import { HostError } from "../src/kernel/errors.ts";
import { randomSeed } from "../src/kernel/seed.ts";
import { searchPathText } from "../src/shape/visibility.ts";
import { type Connection, isStale } from "./connection.ts";
import { readGuard, writeGuard } from "./guard.ts";
import { endedByTimeout, hostsToAnswer, isConnectionLoss, isSuspect, mayStand, openEnded } from "./losses.ts";
import { type RequestScope, type RequestSettings, requestScope } from "./scope.ts";
import { servingClient } from "./serving-client.ts";
import type { Sessions } from "./sessions.ts";
import type { Setting } from "./settings.ts";
import { StatementNames } from "./statement-names.ts";
import { isWrite, read, Transaction } from "./transaction.ts";

/** One statement of a request, sent as one burst. It is meant for reads, which are repeated when their connection turns out dead. */
export type SingleQuery = (
  settings: RequestSettings,
  query: PgClientQuery,
) => Promise<PgClientResult<unknown>>;

export interface ServingWithPgClient extends WithPgClient<NodePostgresPgClient> {
  readonly single: SingleQuery;
  /** One statement that may write, with its commit in the same burst: what a callback with no other statement would do. */
  readonly singleWrite: SingleQuery;
}

/** How often a read is sent whose connections are lost, each after `lostMs`: a long one may be why, and one that was over its time is. */
function mostReadsIn(lostMs: number, error: unknown): number {
  if (endedByTimeout(error)) return 1;
  return lostMs < 1_000 ? 4 : 2;
}

/** Settings that are the host's to choose; a plugin that sets them would choose the tenant. */
const reserved = new Set(["search_path", "session_authorization"]);

/** The scope in `settings`; throws where there is none, it is not `running`'s, or its request is over. */
function scopeOf(settings: RequestSettings | null, running: RequestScope | undefined): RequestScope {
  const scope = settings?.[requestScope];
  if (scope === undefined) {
    throw new HostError(
      "INTERNAL",
      "withPgClient was called without the request's settings: pass context.pgSettings, or a copy of it",
    );
  }
  // Whoever keeps a request's context in a variable of a module finds another request's there.
  if (running !== undefined && running !== scope) {
    throw new HostError("INTERNAL", "withPgClient was called with the settings of another request");
  }
  if (!scope.open) {
    throw new HostError("INTERNAL", "withPgClient was called with the settings of a request that is over");
  }
  if (scope.stop.aborted) throw new HostError("CANCELLED");
  // The host answers, or runs the request again: nothing more of it may be done here.
  if (scope.fatal !== null) throw scope.fatal;
  return scope;
}

/**
 * What a transaction of `scope` sets: the role first, also where it is none, the caller's settings, the instance's, and the tenant's path last.
 * What the session has of its own counts for nothing: who connects may have been given a role or a path to begin with.
 */
function settingsOf(settings: RequestSettings, scope: RequestScope, more: readonly Setting[]): Setting[] {
  const { binding } = scope;
  const list: Setting[] = [["seed", randomSeed()]];
  let role = scope.settings["role"];
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    const text = String(value);
    const key = name.toLowerCase();
    if (reserved.has(key)) throw new HostError("INTERNAL", `the setting ${key} is the host's`);
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BAD_REQUEST", "a setting holds a NUL character");
    }
    if (key === "role") role = text;
    else list.push([name, text]);
  }
  if (role === undefined ? binding.roles.length > 0 : !binding.roles.includes(role)) {
    throw new HostError("INTERNAL", "the role is not one of this tenant's");
  }
  list.unshift(["role", role ?? "none"]);
  list.push(...more, ["search_path", searchPathText(binding.searchPath)]);
  return list;
}

/**
 * The `withPgClient` of one instance over the cell's connections to its database. `running` tells for which request
 * the code runs that calls it, as far as that is known.
 */
export function servingAdaptor(
  sessions: Sessions,
  onGuardCheck = (): void => undefined,
  running = (): RequestScope | undefined => undefined,
  names = new StatementNames({ kind: "dedicated", schemas: [] }),
): ServingWithPgClient {
  const inRequest = (query: PgClientQuery): PgClientQuery => {
    const text = names.inRequest(query.text);
    return text === query.text ? query : { ...query, text };
  };
  /** On which connection the callback waits that asks for another one. */
  const holding = new AsyncLocalStorage<Connection>();

  /**
   * Runs `work` on a connection, and gives that back. When the request is cancelled, that happens at once: `work` may
   * be waiting for something that never comes, and is not waited for. `uncancel` ends that.
   */
  const withConnection = async <T>(
    scope: RequestScope,
    work: (connection: Connection, uncancel: () => void) => Promise<T>,
    younger?: number,
  ): Promise<T> => {
    const connection = await sessions.connect(scope.stop, scope.binding, younger, holding.getStore());
    const { promise: cancelled, reject } = Promise.withResolvers<never>();
    const cancel = (): void => {
      connection.cancel();
      reject(new HostError("CANCELLED"));
    };
    const uncancel = (): void => scope.stop.removeEventListener("abort", cancel);
    scope.stop.addEventListener("abort", cancel, { once: true });
    try {
      return await Promise.race([work(connection, uncancel), cancelled]);
    } finally {
      uncancel();
      connection.release();
    }
  };

  const withPgClient = async <T>(
    settings: RequestSettings | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings ?? {}, scope, names.settings);
    try {
      return await withConnection(scope, async (connection, uncancel) => {
        const guard = writeGuard(scope.binding, list, connection.readCommitted);
        const transaction = new Transaction(connection, list, scope.binding.statementTag, guard);
        try {
          const client = servingClient(connection.client, {
            query: (query) => transaction.query(inRequest(query)),
            command: (text) => transaction.command(text),
          });
          const value = await holding.run(connection, () => callback(client));
          if (transaction.opened) {
            if (connection.doubt !== null) throw connection.doubt;
            // Beside it, another of the request's has failed so that the host runs all of them again.
            if (scope.fatal !== null) throw scope.fatal;
            // From here on the write may stand: it is no longer cancelled, and never repeated after a thread's death.
            uncancel();
            if (guard !== null) onGuardCheck();
            await scope.committing(() => transaction.commit(), mayStand);
          }
          return value;
        } catch (error) {
          if (transaction.opened) await transaction.rollback(isSuspect(error));
          throw transaction.changed ?? error;
        } finally {
          transaction.close();
        }
      });
    } catch (error) {
      throw hostsToAnswer(scope, error);
    }
  };

  const singleWrite: SingleQuery = async (settings, query) => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings, scope, names.settings);
    try {
      return await withConnection(scope, async (connection) => {
        // While a connection was waited for, another of the request's has failed.
        if (scope.fatal !== null) throw scope.fatal;
        const guard = writeGuard(scope.binding, list, connection.readCommitted);
        const transaction = new Transaction(connection, list, scope.binding.statementTag, guard);
        if (guard !== null) onGuardCheck();
        try {
          // It may stand from the first byte on, and so is never repeated after a thread's death.
          return await scope.committing(() => transaction.only(inRequest(query)), mayStand);
        } catch (error) {
          await transaction.rollback(isSuspect(error));
          if (error instanceof SafeError) throw openEnded(error);
          throw transaction.changed ?? error;
        }
      });
    } catch (error) {
      throw hostsToAnswer(scope, error);
    }
  };

  const single: SingleQuery = async (settings, query) => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings, scope, names.settings);
    const { binding } = scope;
    const guard = readGuard(binding, list);
    const named = inRequest(query);
    let younger: number | undefined;
    for (let attempt = 1; ; attempt += 1) {
      if (guard !== null) onGuardCheck();
      let used: Connection | undefined;
      const startedMs = performance.now();
      try {
        const sent = (connection: Connection) => {
          used = connection;
          return read(connection, list, binding.statementTag, named, guard);
        };
        return await withConnection(scope, sent, younger);
      } catch (error) {
        if (isWrite(error)) return await withPgClient(settings, (client) => client.query(query));
        // A function can raise the code of a loss: the connection tells.
        const isLost = isConnectionLoss(error) && used !== undefined && used.doubt !== null;
        const most = isLost ? mostReadsIn(performance.now() - startedMs, error) : isStale(error) ? 2 : 1;
        if (scope.stop.aborted || attempt >= most) throw hostsToAnswer(scope, error);
        // What ended this connection may have ended all of them, and not be known of the others yet: none of them is asked.
        if (isLost) younger = sessions.lost();
        await nextTurn();
        // Another of the request's may have failed meanwhile, or the request be over.
        scopeOf(settings, running());
      }
    }
  };

  return Object.assign(withPgClient, { single, singleWrite, release: () => undefined });
}
