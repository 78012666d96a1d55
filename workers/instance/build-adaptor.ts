/** PostGraphile's way to PostgreSQL while it builds: reads only, and the catalogue only as far as the blueprint goes. */
import { QuoteUtils } from "@pgsql/quotes";
import type { PgClientQuery, PgClientResult, WithPgClient } from "postgraphile/@dataplan/pg";
import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { z } from "zod";
import { codeOf, HostError, toHostError } from "../../src/shared/kernel/errors.ts";
import { lifted } from "../../src/shared/postgres/pooler.ts";
import type { BlueprintSpec } from "../../src/shared/protocol/messages.ts";
import type { Connection, Result } from "../postgres/connection.ts";
import type { TenantPool } from "../postgres/connection-pool.ts";
import { saysUnreachable } from "../postgres/outcome.ts";
import type { Statement } from "../postgres/pipeline.ts";
import { builtNames } from "../postgres/schema-placeholders.ts";
import { type Setting, settingsStatement } from "../postgres/settings.ts";
import { StatementNames } from "../postgres/statement-names.ts";
import { rowsOf, transactionOver } from "../postgres/transaction.ts";
import { buildSettings } from "../request/preset-settings.ts";
import { isIntrospectionQuery, namedColumn, objectsColumn, scopedIntrospection } from "./introspection.ts";
import { tagsInLogicalNames } from "./schema-tags.ts";

/** A build has its own limit, a catalogue may be large, and what comes between two queries takes its time as well. */
const untimed = `select ${(
  ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"] as const
)
  .map((timeout) => lifted(timeout, "transaction"))
  .join(", ")}`;

const introspectionRow = z.record(z.string(), z.unknown());

export interface BuildingAdaptor {
  readonly withPgClient: WithPgClient<NodePostgresPgClient>;
  /** Queries sent beside the introspection: rows that the built schema depends on, such as those of enum tables. */
  readonly otherQueries: () => number;
  /** Whether any of them was sent with settings of the preset's: other rows may be seen by these than the shape covers. */
  readonly readBySettings: () => boolean;
  /** What said that a connection was not to be had, or was lost; null where nothing did. Plugins keep no more of it than its text. */
  readonly lost: () => Error | null;
  /** What the catalogue said, once, and only where something is left out; null before the build has asked. */
  readonly takeIntrospected: () => Result | null;
  /** To be called with what requests of the instance must set. */
  readonly needs: (setting: Setting) => void;
}

/**
 * The names of what is there, as far as they are to be known while requests are served, are kept in `names`. `answered` is what the catalogue
 * is to have said, where it is not to be asked.
 */
export function buildingAdaptor(
  sessions: TenantPool,
  spec: BlueprintSpec,
  names = new StatementNames(spec),
  answered: Result | null = null,
): BuildingAdaptor {
  let introspected: Result | null = null;
  let otherQueries = 0;
  let readBySettings = false;
  let lost: Error | null = null;
  const lose = (error: unknown): never => {
    if (saysUnreachable(error)) lost ??= error;
    throw error;
  };
  const scope = { schemas: spec.schemas, sharedSchemas: spec.sharedSchemas, called: builtNames(spec) };

  const introspect = async <TData>(connection: Connection, text: string): Promise<PgClientResult<TData>> => {
    const scoped = scopedIntrospection(text, scope);
    const result = answered ?? (await connection.send([scoped]));
    if (spec.leftOut.length > 0) introspected = result;
    const row = introspectionRow.parse(result.rows[0]);
    names.learn(row[objectsColumn]);
    const named = row[namedColumn];
    if (typeof named !== "string") return await rowsOf<TData>(Promise.resolve(result));
    if (spec.kind === "pooled") {
      throw new HostError(
        "BUILD_NOT_SHAREABLE",
        `a comment names a served schema as the database does: ${named.slice(0, 200)}`,
      );
    }
    const introspection = tagsInLogicalNames(String(row["introspection"]), spec.schemas);
    return await rowsOf<TData>(Promise.resolve({ ...result, rows: [{ ...row, introspection }] }));
  };

  const withPgClient = async <T>(
    given: Record<string, string | undefined> | null,
    callback: (client: NodePostgresPgClient) => T | Promise<T>,
  ): Promise<T> => {
    const connection = await sessions.connect().catch(lose);
    const { client } = connection;
    const settings = buildSettings(given);
    const readsRows = (): void => {
      otherQueries += 1;
      readBySettings ||= settings.length > 0;
      // A function may be what makes them: nobody knows yet whether the tenant's prepare anything.
      connection.lend({ tenant: spec.tenant, prepares: true });
    };
    const run = <TData>(query: PgClientQuery): Promise<PgClientResult<TData>> => {
      if (isIntrospectionQuery(query.text)) return introspect<TData>(connection, query.text).catch(lose);
      readsRows();
      const statement = { text: names.inBuild(query.text), values: query.values };
      return rowsOf<TData>(readAsWhoMay(connection, statement, spec.readers)).catch(lose);
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
          { text: untimed },
          ...(settings.length === 0 ? [] : [unnamed(settingsStatement(settings))]),
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
    readBySettings: () => readBySettings,
    lost: () => lost,
    takeIntrospected: () => {
      const taken = introspected;
      introspected = null;
      return taken;
    },
    needs: (setting) => names.need(setting),
  };
}

/** A build is over before a second statement of its kind comes. */
function unnamed({ text, values }: Statement): Statement {
  return { text, ...(values === undefined ? {} : { values }) };
}

/**
 * What `statement` gives to the connecting role or, where that may not read it, as it rightly may not in tenants' schemas, to the first of
 * the tenant's `readers` that may: the shape of a tenant was asked for in the same way. Throws what the connecting role met where none may.
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
      if (!isDenied(error)) throw error;
      refused ??= error;
    } finally {
      // Whoever the function of a view has made of it since.
      await connection.send([{ text: "rollback to savepoint rowhouse_reader" }]).catch(() => undefined);
    }
  }
  throw refused;
}

const isDenied = (error: unknown): boolean => codeOf(error) === "42501";
