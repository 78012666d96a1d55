/** PostGraphile's access to PostgreSQL while it serves: every statement runs in a transaction with the request's settings. */

import { AsyncLocalStorage } from "node:async_hooks";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { SafeError } from "postgraphile/grafast";
import { ConnectionLost } from "../../src/shared/connect/loss.ts";
import { unlessAborted } from "../../src/shared/kernel/abortable.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { randomSeed } from "../../src/shared/postgres/random-seed.ts";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";
import { isStale } from "../../src/shared/postgres/sqlstate.ts";
import { isReserved, reservedSetting } from "../request/preset-settings.ts";
import { type RequestScope, type RequestSettings, requestScope } from "../request/request-scope.ts";
import { servingClient } from "./client.ts";
import type { Connection } from "./connection.ts";
import type { TenantPool } from "./connection-pool.ts";
import { endedByTimeout, mayHaveCommitted, openEnded, toHostFailure } from "./outcome.ts";
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

/** Sends one statement of a request as one pipeline. Meant for reads, which are repeated when their connection turns out to be dead. */
export type SingleQuery = (
  settings: RequestSettings,
  query: PgClientQuery,
) => Promise<PgClientResult<unknown>>;

export interface ServingWithPgClient extends WithPgClient<NodePostgresPgClient> {
  readonly single: SingleQuery;
  /** Sends one statement that may write, with its commit in the same pipeline, as a callback with a single statement would. */
  readonly singleWrite: SingleQuery;
}

/**
 * How often a read that failed with `error` after `ranMs` may be sent in all. A long read may itself be why its connection was
 * lost, and one that exceeded its time limit would exceed it again.
 */
function maxReads(error: unknown, ranMs: number): number {
  if (error instanceof ConnectionLost && !endedByTimeout(error)) return ranMs < 1_000 ? 4 : 2;
  return error instanceof ReadOnly ? 2 : 1;
}

/**
 * The scope in `settings`. Throws if there is none, if it is not `running`'s, or if its request is over, cancelled or already
 * failed for the host.
 */
function scopeOf(settings: RequestSettings | null, running: RequestScope | undefined): RequestScope {
  const scope = settings?.[requestScope];
  if (scope === undefined) {
    throw new HostError(
      "INTERNAL",
      "withPgClient was called without the request's settings: pass context.pgSettings, or a copy of it",
    );
  }
  // A plugin that keeps a request's context in a module variable finds another request's there.
  if (running !== undefined && running !== scope) {
    throw new HostError("INTERNAL", "withPgClient was called with the settings of another request");
  }
  if (!scope.open) {
    throw new HostError("INTERNAL", "withPgClient was called with the settings of a request that has ended");
  }
  if (scope.stop.aborted) throw new HostError("CANCELLED");
  // The host will answer, or run the request again, so this run may do nothing more.
  if (scope.hostFailure !== null) throw scope.hostFailure;
  return scope;
}

/**
 * The settings of a transaction of `scope`: the role first (`none` if there is none), then the request's settings, the
 * instance's, and the tenant's search path last. Role and path are always set, because the connecting role may have defaults of
 * its own for both.
 */
function settingsOf(settings: RequestSettings, scope: RequestScope, more: readonly Setting[]): Setting[] {
  const { binding } = scope;
  const list: Setting[] = [["seed", randomSeed()]];
  let role = scope.settings["role"];
  for (const [name, value] of Object.entries(settings)) {
    if (value === undefined || value === null) continue;
    const text = String(value);
    const isRole = name.toLowerCase() === "role";
    // A plugin that sets these would choose the tenant.
    if (!isRole && isReserved(name)) throw reservedSetting(name);
    if (name.includes("\0") || text.includes("\0")) {
      throw new HostError("BAD_REQUEST", "a setting contains a NUL character");
    }
    if (isRole) role = text;
    else list.push([name, text]);
  }
  if (role === undefined ? binding.roles.length > 0 : !binding.roles.includes(role)) {
    throw new HostError("INTERNAL", "the role does not belong to this tenant");
  }
  list.unshift(["role", role ?? "none"]);
  list.push(...more, ["search_path", searchPathText(binding.searchPath)]);
  return list;
}

/**
 * Calls `send`, and once more if it failed because of a stale prepared statement, with everything on `connection` prepared anew: on
 * another connection it may be stale as well.
 */
async function preparedAnew<T>(connection: Connection, send: (on: Connection) => Promise<T>): Promise<T> {
  try {
    return await send(connection);
  } catch (error) {
    if (!isStale(error) || connection.brokenBy !== null) throw error;
    await connection.prepare();
    return await send(connection);
  }
}

/** A transaction of the request, which begins with its first statement, and its guard. */
function begun(
  connection: Connection,
  { binding }: RequestScope,
  settings: readonly Setting[],
): { readonly transaction: Transaction; readonly guard: TransactionGuard | null } {
  const all = connection.settingsFor(settings);
  const guard = writeGuard(binding, all, connection.readCommitted);
  return { transaction: new Transaction(connection, all, binding.statementTag, guard), guard };
}

/**
 * If the database's revisions differ from those of `binding`: the guard's failure, or ReadOnly on a standby, whose revisions may
 * lag. Null if they match or the check gave no answer.
 */
async function whatMoved(
  sessions: TenantPool,
  { guard, ...of }: TenantBinding,
  parent?: Connection,
): Promise<unknown> {
  if (guard === null) return null;
  const connection = await sessions.acquire(undefined, of, undefined, parent).catch(() => null);
  if (connection === null) return null;
  try {
    // Unnamed, because the statement that failed may have deallocated the prepared ones.
    await connection.send([{ ...revisionsAssertion(guard), name: undefined }]);
    return null;
  } catch (error) {
    return isGuardFailure(error) ? await refusedByStandby(connection, error) : null;
  } finally {
    connection.release();
  }
}

/**
 * The `withPgClient` of one instance over the cell's connections to its database. `running` returns the request whose code is
 * running, as far as that is known.
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
  /** The connection held by the `withPgClient` callback that is asking for another one. */
  const holding = new AsyncLocalStorage<Connection>();
  const questions = new RevisionQuestions<Connection>((binding, parent) =>
    whatMoved(sessions, binding, parent),
  );
  /** `error` of a read, or the guard's failure if the schema has changed since the read was planned. */
  const explained = async ({ binding, stop }: RequestScope, error: unknown): Promise<unknown> => {
    if (binding.guard === null || stop.aborted || !looksOutdated(error)) return error;
    return (await questions.moved(binding, holding.getStore())) ?? error;
  };

  /**
   * Runs `work` on a connection and then returns the connection to the pool. On cancellation it is returned at once, without
   * waiting for `work`, which may be waiting for something that never comes. `uncancel` makes the rest of `work` immune to
   * cancellation.
   */
  const withConnection = async <T>(
    scope: RequestScope,
    work: (connection: Connection, uncancel: () => void) => Promise<T>,
    younger?: number,
  ): Promise<T> => {
    const connection = await sessions.acquire(scope.stop, scope.binding, younger, holding.getStore());
    const cancel = (): HostError => {
      connection.cancel();
      return new HostError("CANCELLED");
    };
    try {
      return await unlessAborted(scope.stop, cancel, (uncancel) => work(connection, uncancel));
    } finally {
      connection.release();
    }
  };

  /**
   * Runs `work`, which writes, and repeats it once if its connection takes no writes and a newer one may: nothing of it has been
   * committed then. Throws `DATABASE_READ_ONLY` if no connection takes writes.
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
      // Meanwhile another statement of the request may have failed, or the request may have ended.
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
            if (connection.brokenBy !== null) throw connection.brokenBy;
            // Another statement of the request has failed in a way that makes the host run the whole request again.
            if (scope.hostFailure !== null) throw scope.hostFailure;
            // From here on the write may be committed: it is not cancelled any more, and not repeated if this thread dies.
            uncancel();
            if (guard !== null) onGuardCheck();
            await scope.committing(() => transaction.commit(), mayHaveCommitted);
          }
          return value;
        } catch (error) {
          // The lost connection is the reason, whatever error the callback turned it into.
          const lost = transaction.opened ? connection.lost : null;
          if (transaction.opened) await transaction.rollback();
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
        // Another statement of the request failed while this one waited for a connection.
        if (scope.hostFailure !== null) throw scope.hostFailure;
        const { transaction, guard } = begun(connection, scope, list);
        if (guard !== null) onGuardCheck();
        try {
          // It may stand from the first byte on, and so is never repeated after a thread's death.
          return await scope.committing(() => transaction.only(named), mayHaveCommitted);
        } catch (error) {
          await transaction.rollback();
          if (error instanceof SafeError) throw openEnded(error);
          throw transaction.readOnly ?? transaction.changed ?? error;
        }
      });
    } catch (error) {
      throw toHostFailure(scope, error);
    }
  };

  /**
   * The ordinal above which a connection may do better with a read that failed with `error`; undefined if any may. Throws if
   * there are only standbys.
   */
  const betterThan = async (error: unknown): Promise<number | undefined> => {
    // Whatever ended this connection may have ended all of them unnoticed, so none of the existing ones is used.
    if (error instanceof ConnectionLost) return sessions.lost();
    if (!(error instanceof ReadOnly)) return undefined;
    return await sessions.writable(error).catch(() => {
      // Only standbys are left, so their revisions are the ones that count.
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
        const sentOn = (connection: Connection) => {
          const all = connection.settingsFor(list);
          const guard = readGuard(binding, all);
          return read(connection, all, named, {
            tag: binding.statementTag,
            guard,
            notifies: binding.notifies,
          });
        };
        return await withConnection(scope, (connection) => preparedAnew(connection, sentOn), younger);
      } catch (error) {
        if (isWrite(error)) return await withPgClient(settings, (client) => client.query(query));
        const ranMs = performance.now() - startedMs;
        const reason = attempt < maxReads(error, ranMs) ? error : await explained(scope, error);
        if (scope.stop.aborted || attempt >= maxReads(reason, ranMs))
          throw toHostFailure(scope, reason instanceof ReadOnly ? reason.cause : reason);
        try {
          younger = (await betterThan(reason)) ?? younger;
        } catch (fault) {
          throw toHostFailure(scope, fault);
        }
        await nextTurn();
        // Meanwhile another statement of the request may have failed, or the request may have ended.
        scopeOf(settings, running());
      }
    }
  };

  return Object.assign(withPgClient, { single, singleWrite, release: () => undefined });
}
