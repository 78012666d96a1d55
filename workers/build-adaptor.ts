/** PostGraphile's way to PostgreSQL while it builds: reads only, and the catalogue only as far as the blueprint goes. */
import type { PoolClient } from "pg";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { HostError, toHostError } from "../src/kernel/errors.ts";
import type { BlueprintSpec } from "../src/protocol/messages.ts";
import { isIntrospectionQuery, namedColumn, objectsColumn, scopedIntrospection } from "./introspection.ts";
import { saysUnreachable } from "./losses.ts";
import { builtNames } from "./schema-names.ts";
import { tagsInLogicalNames } from "./schema-tags.ts";
import type { Sessions } from "./sessions.ts";
import type { Setting } from "./settings.ts";
import { StatementNames } from "./statement-names.ts";
import { rowsOf, transactionOver } from "./transaction.ts";

export interface BuildingAdaptor {
  readonly withPgClient: WithPgClient<NodePostgresPgClient>;
  /** Queries sent beside the introspection: rows that the built schema depends on, such as those of enum tables. */
  readonly otherQueries: () => number;
  /** What said that a connection was not to be had, or was lost; null where nothing did. Plugins keep no more of it than its text. */
  readonly lost: () => Error | null;
  /** To be called with what requests of the instance must set. */
  readonly needs: (setting: Setting) => void;
}

/** The names of what is there, as far as they are to be known while requests are served, are kept in `names`. */
export function buildingAdaptor(
  sessions: Sessions,
  spec: BlueprintSpec,
  names = new StatementNames(spec),
): BuildingAdaptor {
  let otherQueries = 0;
  let lost: Error | null = null;
  const lose = (error: unknown): never => {
    if (error instanceof Error && saysUnreachable(error)) lost ??= error;
    throw error;
  };
  const scope = { schemas: spec.schemas, sharedSchemas: spec.sharedSchemas, called: builtNames(spec) };

  const introspect = async <TData>(client: PoolClient, text: string): Promise<PgClientResult<TData>> => {
    const scoped = scopedIntrospection(text, scope);
    const result = await client.query(scoped.text, scoped.values);
    const [row] = result.rows;
    names.learn(row?.[objectsColumn]);
    const named: unknown = row?.[namedColumn];
    if (typeof named !== "string") return result;
    if (spec.kind === "pooled") {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `a comment names a served schema as the database does: ${named.slice(0, 200)}`,
      );
    }
    const introspection = tagsInLogicalNames(String(row?.["introspection"]), spec.schemas);
    return { ...result, rows: [{ ...row, introspection }] };
  };

  const withPgClient = async <T>(
    _settings: Record<string, string | undefined> | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const connection = await sessions.connect().catch(lose);
    const { client } = connection;
    const readsRows = (): void => {
      otherQueries += 1;
      // A function may be what makes them: nobody knows yet whether the tenant's prepare anything.
      connection.lend({ tenant: spec.tenant, prepares: true });
    };
    const run = <TData>(query: PgClientQuery): Promise<PgClientResult<TData>> => {
      if (isIntrospectionQuery(query.text)) return introspect<TData>(client, query.text).catch(lose);
      readsRows();
      return rowsOf<TData>(client.query(names.inBuild(query.text), query.values)).catch(lose);
    };
    const building: NodePostgresPgClient = {
      get rawClient() {
        readsRows();
        return client;
      },
      query: run,
      withTransaction: (inner) => inner(building),
    };
    try {
      // One snapshot of the catalogue and of the rows read beside it; a build never writes.
      await connection
        .send([
          { text: "begin isolation level repeatable read read only" },
          // A build has its own limit, and a catalogue may be large.
          { text: "set local statement_timeout = 0" },
        ])
        .catch(lose);
      return await callback(building);
    } finally {
      // Whatever a function of the tenant's set for the session goes.
      if (connection.doubt === null) {
        await connection
          .send(transactionOver)
          .catch((fault: unknown) => connection.condemn(toHostError(fault)));
      }
      connection.release();
    }
  };

  return {
    withPgClient,
    otherQueries: () => otherQueries,
    lost: () => lost,
    needs: (setting) => names.need(setting),
  };
}
