import { afterAll, beforeAll, expect, test } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import { buildingAdaptor } from "../../workers/instance/build-adaptor.ts";
import { TenantPool } from "../../workers/postgres/connection-pool.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let sessions: TenantPool;

beforeAll(async () => {
  database = await createDatabase("build_session");
  await database.execute(`
    create schema sly;
    create function sly.trick() returns text language plpgsql as $$ begin
      perform pg_catalog.set_config('statement_timeout', '7', false), pg_catalog.set_config('search_path', 'sly', false),
        pg_catalog.set_config('default_transaction_read_only', 'on', false), pg_catalog.pg_advisory_lock(7);
      return 'a';
    end $$;
    create view sly.kinds as select sly.trick() as kind`);
  sessions = new TenantPool({
    url: database.url,
    poolSize: 1,
    poolReserve: 0,
    applicationName: "rowhouse:build-session-test",
    resultBytes: 1_000_000,
    statementTimeoutMs: 30_000,
    log: () => undefined,
  });
});
afterAll(async () => {
  await sessions.close();
  await database.drop();
});

test("a statement that a function prepared while a build read an enum's rows is gone when the next tenant is served", async () => {
  const borrower = { tenant: "other", prepares: false };
  const prepared = async (): Promise<readonly unknown[]> => {
    const connection = await sessions.acquire(undefined, borrower);
    try {
      return (
        await connection.send([{ text: "select name from pg_prepared_statements where name = 'left_over'" }])
      ).rows;
    } finally {
      connection.release();
    }
  };
  // The same tenant was served last: only the build in between makes the connection another's.
  await prepared();
  await database.execute(`
    create function sly.prepares() returns text language plpgsql as $$ begin execute 'prepare left_over as select 1'; return 'a'; end $$`);
  const { withPgClient } = buildingAdaptor(sessions, specOf("pooled", { app: "sly" }, 1));
  await withPgClient(null, async (client) => {
    await client.query({ text: "select sly.prepares()" });
    const { rows } = await client.query({
      text: "select from pg_prepared_statements where name = 'left_over'",
    });
    expect(rows).toHaveLength(1);
  });
  expect(await prepared()).toEqual([]);
});

async function session(): Promise<unknown> {
  const connection = await sessions.acquire();
  try {
    const text = `select pg_catalog.pg_backend_pid() as pid, current_setting('statement_timeout') as timeout, current_setting('search_path') as path,
      current_setting('default_transaction_read_only') as read_only,
      (select pg_catalog.count(*)::int from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid()) as locks`;
    return (await connection.send([{ text }])).rows[0];
  } finally {
    connection.release();
  }
}

test.each(["", "selec"])(
  "no session state that a function left while a build read an enum's rows outlives the build %s",
  async (failing) => {
    const before = await session();
    const { withPgClient } = buildingAdaptor(sessions, specOf("pooled", { app: "sly" }, 1));
    let kinds: readonly unknown[] = [];
    const build = withPgClient(null, async (client) => {
      ({ rows: kinds } = await client.query({ text: "select kind from sly.kinds" }));
      if (failing !== "") await client.query({ text: failing });
    });
    if (failing === "") await build;
    else await expect(build).rejects.toMatchObject({ code: "42601" });
    expect(kinds).toEqual([{ kind: "a" }]);
    expect(await session()).toEqual(before);
    expect(before).toMatchObject({ timeout: "30s", locks: 0, read_only: "off" });
  },
);

test("a build whose settings are refused takes no connection", async () => {
  const { withPgClient } = buildingAdaptor(sessions, specOf("pooled", { app: "sly" }, 1));
  const build = withPgClient({ "app.flag": "a\0b" }, () => undefined);
  await expect(build).rejects.toMatchObject({ code: "BUILD_FAILED" });
  // The pool has one connection: it is free for the next.
  expect(await session()).toMatchObject({ locks: 0 });
});
