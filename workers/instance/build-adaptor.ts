/** PostGraphile's access to PostgreSQL while it builds: read-only, with an introspection limited to the blueprint's schemas. */

import { QuoteUtils } from "@pgsql/quotes";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { z } from "zod";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import type { Statement } from "../../src/shared/postgres/pipeline.ts";
import { lifted } from "../../src/shared/postgres/pooler.ts";
import { hasState } from "../../src/shared/postgres/sqlstate.ts";
import type { Connection, Result } from "../postgres/connection.ts";
import type { TenantPool } from "../postgres/connection-pool.ts";
import { saysUnreachable } from "../postgres/outcome.ts";
import { builtNames } from "../postgres/schema-placeholders.ts";
import { type Setting, settingsStatement } from "../postgres/settings.ts";
import { StatementNames } from "../postgres/statement-names.ts";
import { rowsOf } from "../postgres/transaction.ts";
import { buildSettings } from "../request/preset-settings.ts";
import { coreCatalogue } from "./core-catalogue.ts";
import { isIntrospectionQuery, namedColumn, objectsColumn, scopedIntrospection } from "./introspection.ts";
import { tagsInLogicalNames } from "./schema-tags.ts";

/** Lifts the timeouts: a build has its own limit, a catalogue may be large, and the work between two queries takes time as well. */
const untimed = `select ${(
  ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"] as const
)
  .map((timeout) => lifted(timeout, "transaction"))
  .join(", ")}`;

const introspectionRow = z.record(z.string(), z.unknown());

export interface BuildingAdaptor {
  readonly withPgClient: WithPgClient<NodePostgresPgClient>;
  /**
   * The number of queries sent beside the introspection: they read rows that the built schema depends on, such as those of enum
   * tables.
   */
  readonly otherQueries: () => number;
  /** Whether any of them was sent with settings of the preset, under which other rows may be visible than the shape covers. */
  readonly readBySettings: () => boolean;
  /** The error that said that no connection was to be had, or that it was lost; null if there was none. Plugins keep only its text. */
  readonly lost: () => Error | null;
  /** What the catalogue said, once, and only where something is left out; null before the build has asked. */
  readonly takeIntrospected: () => Result | null;
  /** To be called with what requests of the instance must set. */
  readonly needs: (setting: Setting) => void;
}

/** Records in `names` the names of objects that requests will need. `answered` is a result of introspection to use in place of a query. */
export function buildingAdaptor(
  sessions: TenantPool,
  spec: BlueprintSpec,
  names = new StatementNames(spec),
  answered: Result | null = null,
): BuildingAdaptor {
  const reads = new BuildReads(spec, names, answered);
  const withPgClient = async <T>(
    given: Record<string, string | undefined> | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const settings = buildSettings(given);
    const connection = await sessions.acquire().catch(reads.lose);
    try {
      // One snapshot for the catalogue and the rows read beside it; a build never writes.
      await connection
        .send([
          { text: "begin isolation level repeatable read read only" },
          { text: untimed },
          ...(settings.length === 0 ? [] : [unnamed(settingsStatement(settings))]),
        ])
        .catch(reads.lose);
      return await callback(reads.clientOf(connection, settings.length > 0));
    } finally {
      // Also removes what a tenant's function set for the session.
      await connection.endTransaction();
      connection.release();
    }
  };
  return {
    withPgClient,
    otherQueries: () => reads.otherQueries,
    readBySettings: () => reads.bySettings,
    lost: () => reads.lost,
    takeIntrospected: () => reads.takeIntrospected(),
    needs: (setting) => names.need(setting),
  };
}

/** What a build has read, and of what its result depends. */
class BuildReads {
  otherQueries = 0;
  bySettings = false;
  lost: Error | null = null;
  readonly #spec: BlueprintSpec;
  readonly #names: StatementNames;
  readonly #answered: Result | null;
  #introspected: Result | null = null;

  constructor(spec: BlueprintSpec, names: StatementNames, answered: Result | null) {
    this.#spec = spec;
    this.#names = names;
    this.#answered = answered;
  }

  readonly lose = (error: unknown): never => {
    if (saysUnreachable(error)) this.lost ??= error;
    throw error;
  };

  takeIntrospected(): Result | null {
    const taken = this.#introspected;
    this.#introspected = null;
    return taken;
  }

  /** A client for plugins. `withSettings`: whether settings of the preset apply to what it reads. */
  clientOf(connection: Connection, withSettings: boolean): NodePostgresPgClient {
    const { tenant, readers } = this.#spec;
    const { client } = connection;
    const readsRows = (): void => {
      this.otherQueries += 1;
      this.bySettings ||= withSettings;
      // Rows may be computed by a function, and whether the tenant's functions prepare statements is not known yet.
      connection.acquire({ tenant, prepares: true });
    };
    const run = <TData>(query: PgClientQuery): Promise<PgClientResult<TData>> => {
      if (isIntrospectionQuery(query.text)) {
        return this.#introspect<TData>(connection, query.text).catch(this.lose);
      }
      readsRows();
      const statement = { text: this.#names.inBuild(query.text), values: query.values };
      return rowsOf<TData>(readAsWhoMay(connection, statement, readers)).catch(this.lose);
    };
    const building: NodePostgresPgClient = {
      get rawClient() {
        readsRows();
        return client;
      },
      query: run,
      withTransaction: (inner) => inner(building),
    };
    return building;
  }

  async #introspect<TData>(connection: Connection, text: string): Promise<PgClientResult<TData>> {
    const { schemas, sharedSchemas, leftOut, kind } = this.#spec;
    const scoped = scopedIntrospection(text, { schemas, sharedSchemas, called: builtNames(this.#spec) });
    const result = this.#answered ?? (await connection.send([scoped]));
    if (leftOut.length > 0) this.#introspected = result;
    const row = introspectionRow.parse(result.rows[0]);
    this.#names.learn(row[objectsColumn]);
    const named = row[namedColumn];
    if (typeof named !== "string") {
      return await rowsOf<TData>(Promise.resolve(shownTo(this.#spec, result, row)));
    }
    if (kind === "pooled") {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `a smart tag uses a served schema's physical name: ${named.slice(0, 200)}`,
      );
    }
    const introspection = tagsInLogicalNames(String(row["introspection"]), schemas);
    return await rowsOf<TData>(Promise.resolve({ ...result, rows: [{ ...row, introspection }] }));
  }
}

/** What the catalogue said, as far as the shape of `spec` covers it. */
function shownTo({ shape }: BlueprintSpec, result: Result, row: Readonly<Record<string, unknown>>): Result {
  if (shape === "full") return result;
  const introspection = coreCatalogue(String(row["introspection"]));
  return { ...result, rows: [{ ...row, introspection }] };
}

/** Drops the name: a build is over before a second statement of its kind comes. */
function unnamed({ text, values }: Statement): Statement {
  return { text, ...(values === undefined ? {} : { values }) };
}

/**
 * The result of `statement` for the connecting role or, if that role is denied, as it rightly may be in tenants' schemas, for the
 * first of the tenant's `readers` that is allowed. The tenant's shape was read in the same way. Throws the connecting role's
 * error if all are denied.
 */
async function readAsWhoMay(
  connection: Connection,
  statement: Statement,
  readers: readonly string[],
): Promise<Result> {
  let refused: unknown;
  for (const reader of [null, ...readers]) {
    const asReader =
      reader === null ? [] : [{ text: `set local role ${QuoteUtils.quoteIdentifier(reader)}` }];
    try {
      return await connection.send([{ text: "savepoint rowhouse_reader" }, ...asReader, statement]);
    } catch (error) {
      if (!hasState(error, "insufficient_privilege")) throw error;
      refused ??= error;
    } finally {
      // Also restores the role, which a view's function may have changed since.
      await connection.send([{ text: "rollback to savepoint rowhouse_reader" }]).catch(() => undefined);
    }
  }
  throw refused;
}
