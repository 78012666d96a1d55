/** PostGraphile's way to PostgreSQL while it serves: every statement inside a transaction with the request's settings. */
import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost } from "../../src/shared/connect/loss.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { randomSeed } from "../../src/shared/postgres/random-seed.ts";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";
import type { TenantBinding } from "../../src/shared/protocol/messages.ts";
import { isReserved, reservedSetting } from "../request/preset-settings.ts";
import { type RequestScope, type RequestSettings, requestScope } from "../request/request-scope.ts";
import { servingClient } from "./client.ts";
import { type Connection, isStale } from "./connection.ts";
import type { TenantPool } from "./connection-pool.ts";
import { endedByTimeout, isSuspect, mayHaveBeenCommitted, openEnded, toHostFailure } from "./outcome.ts";
import { ReadOnly, refusedByStandby } from "./read-only.ts";
import {
  isGuardFailure,
  readGuard,
  revisionsAssertion,
  type TransactionGuard,
  writeGuard,
} from "./revision-guard.ts";
import { looksOutdated, RevisionQuestions } from "./revision-questions.ts";
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

/** How often a read is sent that fails so, after `ranMs`: a long one may be why its connection was lost, and one that was over its time is. */
function mostReads(error: unknown, ranMs: number): number {
  if (error instanceof ConnectionLost && !endedByTimeout(error)) return ranMs < 1_000 ? 4 : 2;
  return error instanceof ReadOnly || isStale(error) ? 2 : 1;
}

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
  if (scope.hostFailure !== null) throw scope.hostFailure;
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
    const isRole = name.toLowerCase() === "role";
    // A plugin that sets them would choose the tenant.
    if (!isRole && isReserved(name)) throw reservedSetting(name);
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BAD_REQUEST", "a setting holds a NUL character");
    }
    if (isRole) role = text;
    else list.push([name, text]);
  }
  if (role === undefined ? binding.roles.length > 0 : !binding.roles.includes(role)) {
    throw new HostError("INTERNAL", "the role is not one of this tenant's");
  }
  list.unshift(["role", role ?? "none"]);
  list.push(...more, ["search_path", searchPathText(binding.searchPath)]);
  return list;
}

/** A transaction of the request's, which begins with its first statement, and its guard. */
function begun(
  connection: Connection,
  { binding }: RequestScope,
  settings: readonly Setting[],
): { readonly transaction: Transaction; readonly guard: TransactionGuard | null } {
  const all = connection.settingsFor(settings);
  const guard = writeGuard(binding, all, connection.readCommitted);
  return { transaction: new Transaction(connection, all, binding.statementTag, guard), guard };
}

/** The guard's failure, or what a standby's means, where the revisions of `binding` are not the database's; null where they are, or it does not say. */
async function whatMoved(
  sessions: TenantPool,
  { guard, ...of }: TenantBinding,
  parent?: Connection,
): Promise<unknown> {
  if (guard === null) return null;
  const connection = await sessions.connect(undefined, of, undefined, parent).catch(() => null);
  if (connection === null) return null;
  try {
    // Unnamed: what failed may have given up the names.
    await connection.send([{ ...revisionsAssertion(guard), name: undefined }]);
    return null;
  } catch (error) {
    return isGuardFailure(error) ? await refusedByStandby(connection, error) : null;
  } finally {
    connection.release();
  }
}

/**
 * The `withPgClient` of one instance over the cell's connections to its database. `running` tells for which request
 * the code runs that calls it, as far as that is known.
 */
export function servingAdaptor(
  sessions: TenantPool,
  onGuardCheck = (): void => undefined,
  running = (): RequestScope | undefined => undefined,
  names = new StatementNames({ kind: "dedicated", schemas: [] }),
): ServingWithPgClient {
  const inRequest = (scope: RequestScope, query: PgClientQuery): PgClientQuery => {
    try {
      const text = names.inRequest(query.text);
      return text === query.text ? query : { ...query, text };
    } catch (error) {
      // Whatever the plugin makes of it that sent the statement.
      throw toHostFailure(scope, error);
    }
  };
  /** On which connection the callback waits that asks for another one. */
  const holding = new AsyncLocalStorage<Connection>();
  const questions = new RevisionQuestions<Connection>((binding, parent) =>
    whatMoved(sessions, binding, parent),
  );
  /** `error` of a read, or what says that the schema has moved which it was planned for. */
  const explained = async ({ binding, stop }: RequestScope, error: unknown): Promise<unknown> => {
    if (binding.guard === null || stop.aborted || !looksOutdated(error)) return error;
    return (await questions.moved(binding, holding.getStore())) ?? error;
  };

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

  /**
   * Runs `work`, which writes, and once more where its connection turns out to take no writes and a newer one may: nothing of it stands
   * then, whatever else of the request does. Throws `DATABASE_READ_ONLY` where no connection does.
   */
  const writing = async <T>(
    scope: RequestScope,
    work: (connection: Connection, uncancel: () => void) => Promise<T>,
  ): Promise<T> => {
    try {
      return await withConnection(scope, work);
    } catch (error) {
      if (!(error instanceof ReadOnly)) throw error;
      const younger = await sessions.writable(error);
      // Another of the request's may have failed meanwhile, or the request be over.
      scopeOf(scope.settings, running());
      return await withConnection(scope, work, younger);
    }
  };

  const withPgClient = async <T>(
    settings: RequestSettings | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings ?? {}, scope, names.settings);
    try {
      return await writing(scope, async (connection, uncancel) => {
        const { transaction, guard } = begun(connection, scope, list);
        try {
          const client = servingClient(connection.client, {
            query: (query) => transaction.query(inRequest(scope, query)),
            command: (text) => transaction.command(text),
          });
          const value = await holding.run(connection, () => callback(client));
          if (transaction.opened) {
            if (connection.doubt !== null) throw connection.doubt;
            // Beside it, another of the request's has failed so that the host runs all of them again.
            if (scope.hostFailure !== null) throw scope.hostFailure;
            // From here on the write may stand: it is no longer cancelled, and never repeated after a thread's death.
            uncancel();
            if (guard !== null) onGuardCheck();
            await scope.committing(() => transaction.commit(), mayHaveBeenCommitted);
          }
          return value;
        } catch (error) {
          // Whatever the callback made of it.
          const lost = transaction.opened ? connection.lost : null;
          if (transaction.opened) await transaction.rollback(isSuspect(error));
          throw transaction.readOnly ?? transaction.changed ?? lost ?? error;
        } finally {
          transaction.close();
        }
      });
    } catch (error) {
      throw toHostFailure(scope, error);
    }
  };

  const singleWrite: SingleQuery = async (settings, query) => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings, scope, names.settings);
    const named = inRequest(scope, query);
    try {
      return await writing(scope, async (connection) => {
        // While a connection was waited for, another of the request's has failed.
        if (scope.hostFailure !== null) throw scope.hostFailure;
        const { transaction, guard } = begun(connection, scope, list);
        if (guard !== null) onGuardCheck();
        try {
          // It may stand from the first byte on, and so is never repeated after a thread's death.
          return await scope.committing(() => transaction.only(named), mayHaveBeenCommitted);
        } catch (error) {
          await transaction.rollback(isSuspect(error));
          if (error instanceof SafeError) throw openEnded(error);
          throw transaction.readOnly ?? transaction.changed ?? error;
        }
      });
    } catch (error) {
      throw toHostFailure(scope, error);
    }
  };

  /** From which connection on a read that failed so may do better; throws where none is known to. */
  const betterThan = async (error: unknown): Promise<number | undefined> => {
    // What ended this connection may have ended all of them, and not be known of the others yet: none of them is asked.
    if (error instanceof ConnectionLost) return sessions.lost();
    if (!(error instanceof ReadOnly)) return undefined;
    return await sessions.writable(error).catch(() => {
      // There is nothing but a standby, and the revisions are as it has them.
      throw error.cause;
    });
  };

  const single: SingleQuery = async (settings, query) => {
    const scope = scopeOf(settings, running());
    const list = settingsOf(settings, scope, names.settings);
    const { binding } = scope;
    const named = inRequest(scope, query);
    let younger: number | undefined;
    for (let attempt = 1; ; attempt += 1) {
      if (binding.guard?.reads === true) onGuardCheck();
      const startedMs = performance.now();
      try {
        const sent = (connection: Connection) => {
          const all = connection.settingsFor(list);
          const guard = readGuard(binding, all);
          return read(connection, all, named, {
            tag: binding.statementTag,
            guard,
            notifies: binding.notifies,
          });
        };
        return await withConnection(scope, sent, younger);
      } catch (error) {
        if (isWrite(error)) return await withPgClient(settings, (client) => client.query(query));
        const ranMs = performance.now() - startedMs;
        const reason = attempt < mostReads(error, ranMs) ? error : await explained(scope, error);
        if (scope.stop.aborted || attempt >= mostReads(reason, ranMs))
          throw toHostFailure(scope, reason instanceof ReadOnly ? reason.cause : reason);
        try {
          younger = (await betterThan(reason)) ?? younger;
        } catch (fault) {
          throw toHostFailure(scope, fault);
        }
        await nextTurn();
        // Another of the request's may have failed meanwhile, or the request be over.
        scopeOf(settings, running());
      }
    }
  };

  return Object.assign(withPgClient, { single, singleWrite, release: () => undefined });
}
