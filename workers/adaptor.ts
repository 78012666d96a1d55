/** PostGraphile's way to PostgreSQL while it serves: every statement inside a transaction with the request's settings. */
import { setImmediate as nextTurn } from "node:timers/promises";
import pg from "pg";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { SafeError } from "postgraphile/grafast";
import { HostError } from "../src/kernel/errors.ts";
import { randomSeed } from "../src/kernel/seed.ts";
import { SchemaMoved } from "../src/protocol/schema-moved.ts";
import { searchPathText } from "../src/shape/visibility.ts";
import { type Connection, isStale } from "./connection.ts";
import { isGuardFailure, readGuard, reportedRevisions, writeGuard } from "./guard.ts";
import { type RequestScope, type RequestSettings, requestScope } from "./scope.ts";
import { servingClient } from "./serving-client.ts";
import { isConnectionLoss, type Sessions } from "./sessions.ts";
import type { Setting } from "./settings.ts";
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
 * What a transaction of `scope` sets: the role first, also where it is none, the caller's settings, and the tenant's path last.
 * What the session has of its own counts for nothing: who connects may have been given a role or a path to begin with.
 */
function settingsOf(settings: RequestSettings, scope: RequestScope): Setting[] {
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
  list.push(["search_path", searchPathText(binding.searchPath)]);
  return list;
}

/** Whether a changed schema may be why a statement failed. */
function isSuspect(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !isGuardFailure(error);
}

/** Whether what was to be committed may stand after `error`: not where PostgreSQL said no; where it said nothing, nobody knows. */
function mayStand(error: unknown): boolean {
  if (isConnectionLoss(error)) return true;
  return !(error instanceof pg.DatabaseError || error instanceof HostError);
}

/** `error`, or what it means where the host is to answer the request or run it again, unless it is settled. */
function hostsToAnswer(scope: RequestScope, error: unknown): unknown {
  if (isGuardFailure(error)) {
    if (scope.settled) {
      return new SafeError("The schema changed while the request ran.", { code: "SCHEMA_CHANGED" });
    }
    const revisions = reportedRevisions(error);
    scope.fatal ??=
      revisions === null
        ? new HostError("SCHEMA_CHANGED", undefined, { cause: error })
        : new SchemaMoved(revisions, error);
    return scope.fatal;
  }
  // A pool that is busy: no connection was had, so that nothing of this statement may stand.
  if (error instanceof HostError && error.code === "NO_CAPACITY") {
    if (scope.settled) return new SafeError(error.publicText, { code: error.code });
    scope.fatal ??= error;
    return scope.fatal;
  }
  if (error instanceof pg.DatabaseError && error.code === "57014") {
    return new SafeError("The database took longer than it may.", { code: "STATEMENT_TIMEOUT" });
  }
  const isHosts = error instanceof HostError && error.code === "DATABASE_UNREACHABLE";
  if (!isHosts && !isConnectionLoss(error)) return error;
  if (scope.settled) {
    return new SafeError("The connection to the database was lost; a change may or may not have been made.", {
      code: "DATABASE_UNREACHABLE",
    });
  }
  scope.fatal ??= isHosts
    ? error
    : new HostError("DATABASE_UNREACHABLE", "connection lost", { cause: error });
  return scope.fatal;
}

/** For a result that was cut off with the commit on its way behind it. */
function openEnded(error: SafeError): SafeError {
  return new SafeError(`${error.message} A change may or may not have been made.`, error.extensions);
}

/**
 * The `withPgClient` of one instance over the cell's connections to its database. `running` tells for which request
 * the code runs that calls it, as far as that is known.
 */
export function servingAdaptor(
  sessions: Sessions,
  onGuardCheck = (): void => undefined,
  running = (): RequestScope | undefined => undefined,
): ServingWithPgClient {
  /**
   * Runs `work` on a connection, and gives that back. When the request is cancelled, that happens at once: `work` may
   * be waiting for something that never comes, and is not waited for. `uncancel` ends that.
   */
  const withConnection = async <T>(
    scope: RequestScope,
    work: (connection: Connection, uncancel: () => void) => Promise<T>,
  ): Promise<T> => {
    const connection = await sessions.connect(scope.stop, scope.binding);
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
    const list = settingsOf(settings ?? {}, scope);
    try {
      return await withConnection(scope, async (connection, uncancel) => {
        const guard = writeGuard(scope.binding, list, connection.readCommitted);
        const transaction = new Transaction(connection, list, scope.binding.statementTag, guard);
        try {
          const value = await callback(servingClient(connection.client, transaction));
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
    const list = settingsOf(settings, scope);
    try {
      return await withConnection(scope, async (connection) => {
        // While a connection was waited for, another of the request's has failed.
        if (scope.fatal !== null) throw scope.fatal;
        const guard = writeGuard(scope.binding, list, connection.readCommitted);
        const transaction = new Transaction(connection, list, scope.binding.statementTag, guard);
        if (guard !== null) onGuardCheck();
        try {
          // It may stand from the first byte on, and so is never repeated after a thread's death.
          return await scope.committing(() => transaction.only(query), mayStand);
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
    const list = settingsOf(settings, scope);
    const { binding } = scope;
    const guard = readGuard(binding, list);
    const once = (): Promise<PgClientResult<unknown>> => {
      if (guard !== null) onGuardCheck();
      return withConnection(scope, (connection) =>
        read(connection, list, binding.statementTag, query, guard),
      );
    };
    try {
      return await once().catch(async (error: unknown) => {
        if (scope.stop.aborted || !(isConnectionLoss(error) || isStale(error))) throw error;
        // A server restart leaves idle connections that are dead; a turn of the loop, and the pool knows them all.
        await nextTurn();
        return once();
      });
    } catch (error) {
      if (isWrite(error)) return await withPgClient(settings, (client) => client.query(query));
      throw hostsToAnswer(scope, error);
    }
  };

  return Object.assign(withPgClient, { single, singleWrite, release: () => undefined });
}
