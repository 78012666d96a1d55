/** Throwaway databases on the test run's server: one per test file, so that files never see each other's rows. */
import { randomBytes } from "node:crypto";
import { Client, escapeIdentifier, type QueryResultRow } from "pg";
import { inject } from "vitest";

/**
 * `sql` in the dialect of the server under test. Since PostgreSQL 16 the grant of a role says whether its rights are inherited;
 * before that, an attribute of the receiving role says so.
 */
const asTaken = (sql: string): string =>
  inject("postgresMajor") >= 16 ? sql : sql.replaceAll(/ with inherit (?:true|false)(?:, set true)?/g, "");

export interface TestDatabase {
  readonly name: string;
  /** Connects as superuser. */
  readonly url: string;
  query<Row extends QueryResultRow = QueryResultRow>(sql: string, values?: unknown[]): Promise<Row[]>;
  /** Runs several statements as psql would run a file: without parameters, in one implicit transaction. */
  execute(sqlText: string): Promise<void>;
  /** The URL for another role on the same database. */
  urlAs(user: string, password: string): string;
  drop(): Promise<void>;
}

/** Creates an empty database; `name` only helps to recognise it, as a random suffix makes it unique. */
export async function createDatabase(
  name = "test",
  clusterUrl = inject("clusterUrl"),
): Promise<TestDatabase> {
  const unique = `${name}_${randomBytes(5).toString("hex")}`;
  await onCluster(clusterUrl, `create database ${escapeIdentifier(unique)}`);
  const url = new URL(clusterUrl);
  url.pathname = `/${unique}`;
  const client = new Client({ connectionString: url.href, application_name: "rowhouse:test" });
  // `drop` cuts this connection too, and tests may cut it by terminating every backend.
  client.on("error", () => {});
  await client.connect();
  return {
    name: unique,
    url: url.href,
    query: async <Row extends QueryResultRow>(sql: string, values: unknown[] = []) =>
      (await client.query<Row>(asTaken(sql), values)).rows,
    execute: async (sqlText) => {
      await client.query(asTaken(sqlText));
    },
    urlAs: (user, password) => {
      const other = new URL(url);
      other.username = user;
      other.password = password;
      return other.href;
    },
    drop: async () => {
      await client.end().catch(() => {});
      await onCluster(clusterUrl, `drop database if exists ${escapeIdentifier(unique)} with (force)`);
    },
  };
}

/** The advisory locks that are being waited for in that database; pg_locks lists those of the whole server. */
export function advisoryWaits(database: TestDatabase, objid: number | null = null): Promise<object[]> {
  return database.query(
    `select objid from pg_locks where locktype = 'advisory' and not granted and objid = coalesce($1, objid)
      and database = (select oid from pg_database where datname = current_database())`,
    [objid],
  );
}

async function onCluster(clusterUrl: string, sql: string): Promise<void> {
  const client = new Client({ connectionString: clusterUrl });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
