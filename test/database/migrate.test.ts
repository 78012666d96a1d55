import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { shapeHash } from "../../src/shared/kernel/ids.ts";
import { migratedTenant, migrationDatabase } from "../support/migration-database.ts";

const main = migrationDatabase();

const role = `migrating_${randomBytes(4).toString("hex")}`;
beforeAll(() => main.test.execute(`create role ${role} login password 'word'`));
afterAll(() => main.test.execute(`drop owned by ${role} cascade; drop role ${role}`));

describe("a migration", () => {
  test("applies several statements under the tenant's search path, and reports shapes and revisions", async () => {
    const before = await main.seen();
    const others = await main.seen(migratedTenant("globex"));
    const done = await main.migrate(
      "alter table item add column extra int; create table more (id int); insert into item values (1, 'one', 2);",
    );
    const after = await main.seen();
    expect(done).toEqual({
      tenant: "acme",
      from: before.shape,
      to: after.shape,
      revisions: after.revisions,
      ms: expect.any(Number),
      applied: true,
    });
    expect(after.shape).not.toBe(before.shape);
    expect(BigInt(after.revisions["acme_app"] ?? "")).toBeGreaterThan(
      BigInt(before.revisions["acme_app"] ?? ""),
    );
    expect(after.revisions["shared"]).toBe(before.revisions["shared"]);
    expect(await main.test.query("select extra from acme_app.item")).toEqual([{ extra: 2 }]);
    expect(await main.seen(migratedTenant("globex"))).toEqual(others);
  });

  test("runs its SQL under default planner settings, after the probe of the shape before it", async () => {
    await main.migrate(`
      create table planned as select name, setting = reset_val as usual, current_setting('search_path') as path from pg_settings
      where name like 'enable\\_%' or name in ('join_collapse_limit', 'from_collapse_limit', 'plan_cache_mode')`);
    const rows = await main.test.query(
      "select name from acme_app.planned where not usual or path not like '%acme_app%'",
    );
    expect(rows).toEqual([]);
    expect((await main.test.query("select from acme_app.planned")).length).toBeGreaterThan(10);
  });

  test("brings tenants of one shape to one new shape", async () => {
    const sql = "create type mood as enum ('calm'); alter table item add column mood mood";
    const [one, other] = [await main.migrate(sql), await main.migrate(sql, {}, migratedTenant("globex"))];
    expect([other.from, other.to]).toEqual([one.from, one.to]);
  });

  test("moves a revision once, notifies at the commit, and moves nothing if it changes no schema", async () => {
    const listener = await main.connect();
    const heard: string[] = [];
    listener.on("notification", ({ payload = "" }) => heard.push(payload));
    await listener.query("listen rowhouse_schema");
    const before = await main.seen();
    const idle = await main.migrate("insert into item values (7)");
    expect(idle.revisions).toEqual(before.revisions);
    expect(idle.to).toBe(idle.from);
    const done = await main.migrate("alter table item add column a int; alter table item add column b int");
    await expect
      .poll(() => heard.map((payload) => JSON.parse(payload)))
      .toEqual([{ schema: "acme_app", revision: done.revisions["acme_app"] }]);
  });

  test("moves the revision if it changes the rows of an enum table, which are part of the shape", async () => {
    await main.test.execute(
      "create table acme_app.kind (name text primary key); comment on table acme_app.kind is '@enum'; insert into acme_app.kind values ('one')",
    );
    const before = await main.seen();
    const done = await main.migrate("insert into kind values ('two')");
    expect(done.to).not.toBe(before.shape);
    expect(done.revisions["acme_app"]).not.toBe(before.revisions["acme_app"]);
    expect(await main.seen()).toEqual({ shape: done.to, revisions: done.revisions });
  });

  test("that expects another shape is refused with the current one, and changes nothing", async () => {
    const before = await main.seen();
    const expected = shapeHash("0".repeat(64));
    const error = await main
      .migrate("create table never (id int)", { expect: expected })
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "SCHEMA_CHANGED", status: 409, details: { shape: before.shape } });
    expect(error instanceof HostError ? error.publicText : "").toContain(before.shape);
    expect(await main.seen()).toEqual(before);
    expect(await main.migrate("create table now (id int)", { expect: before.shape })).toMatchObject({
      from: before.shape,
    });
  });

  test("fails if the tenant's schema is missing before or after it", async () => {
    await expect(
      main.migrate("create table never (id int)", {}, migratedTenant("nobody")),
    ).rejects.toMatchObject({
      code: "SCHEMA_NOT_FOUND",
    });
    const before = await main.seen();
    await expect(main.migrate("drop schema acme_app cascade")).rejects.toMatchObject({
      code: "MIGRATION_FAILED",
    });
    expect(await main.seen()).toEqual(before);
  });

  test("with `once` is applied to a tenant once, but again after its schema was dropped and created anew", async () => {
    const sql = "create table only_once (id int)";
    const done = await main.migrate(sql, { once: true });
    const again = await main.migrate(sql, { once: true, expect: done.from });
    expect(again).toMatchObject({ applied: false, from: done.to, to: done.to, revisions: done.revisions });
    expect(await main.migrate(sql, { once: true }, migratedTenant("globex"))).toMatchObject({
      applied: true,
    });
    await expect(main.migrate(sql)).rejects.toMatchObject({ details: { sqlState: "42P07" } });
    await main.test.execute("drop schema acme_app cascade; create schema acme_app");
    expect(await main.migrate(sql, { once: true })).toMatchObject({ applied: true });
  });

  test("leaves no session state behind, and its settings do not affect its own end", async () => {
    await main.test.execute(`grant create, usage on schema acme_app to ${role}`);
    const before = await main.seen();
    const done = await main.migrate(
      `select pg_advisory_lock(4711); create temp table scratch (id int); set role ${role}; set search_path = elsewhere;
       set lock_timeout = '1ms'; set jit = on; create table acme_app.by_role (id int)`,
    );
    expect(done).toMatchObject({ from: before.shape, to: (await main.seen()).shape });
    expect(
      await main.test.query("select from pg_locks where locktype = 'advisory' and objid = 4711"),
    ).toEqual([]);
    expect(await main.test.query("select from pg_class where relname = 'scratch'")).toEqual([]);
    const { rows } = await main.database.query(
      "select current_user <> $1 as reset, current_setting('search_path') as path, (select tableowner from pg_tables where tablename = 'by_role') as owner",
      [role],
    );
    expect(rows).toEqual([{ reset: true, path: '"$user", public', owner: role }]);
  });
});

describe("SQL that PostgreSQL refuses leaves nothing, and the error quotes PostgreSQL", () => {
  const first = "create table never (id int);\n";
  test.each<[string, string, Record<string, unknown>, RegExp]>([
    [
      "a syntax error",
      "-- ünïcödé 🎉\ncreate tabel x ();",
      { sqlState: "42601", line: 3, column: 8 },
      /syntax error at or near "tabel" \(42601\) at line 3, column 8/,
    ],
    [
      "an unknown name",
      "select 'ü🎉', nothing from item",
      { sqlState: "42703", line: 2, column: 14 },
      /column "nothing" does not exist/,
    ],
    [
      "an error while it runs",
      "do $$ begin perform 1 / 0; end $$",
      { sqlState: "22012" },
      /division by zero/,
    ],
    [
      "a violated constraint",
      "insert into item values (1); insert into item values (1)",
      { sqlState: "23505" },
      /duplicate key/,
    ],
    [
      "a violated deferred constraint",
      "alter table item add constraint later foreign key (id) references never2 deferrable initially deferred; insert into item values (1)",
      { sqlState: "23503" },
      /foreign key/,
    ],
    [
      "CREATE INDEX CONCURRENTLY",
      "create index concurrently on item (label)",
      { sqlState: "25001" },
      /run this statement by itself/,
    ],
    ["VACUUM", "vacuum item", { sqlState: "25001" }, /run this statement by itself/],
    ["CREATE DATABASE", "create database never", { sqlState: "25001" }, /run this statement by itself/],
    [
      "ALTER SYSTEM",
      "alter system set work_mem = '4MB'",
      { sqlState: "25001" },
      /run this statement by itself/,
    ],
    [
      "COMMIT",
      "commit; create table after_commit (id int)",
      { sqlState: "0A000" },
      /may not contain transaction control/,
    ],
    ["END", "end", { sqlState: "0A000" }, /may not contain transaction control/],
    [
      "ROLLBACK",
      "rollback; create table after_rollback (id int)",
      { sqlState: "0A000" },
      /may not contain transaction control/,
    ],
    ["BEGIN", "begin", { sqlState: "0A000" }, /may not contain transaction control/],
    ["SAVEPOINT", "savepoint s", { sqlState: "0A000" }, /may not contain transaction control/],
    [
      "a COMMIT in a block",
      "do $$ begin commit; end $$",
      { sqlState: "2D000" },
      /may not contain transaction control/,
    ],
    [
      "SELECT INTO",
      "select 1 as one into never3",
      { sqlState: "0A000" },
      /SELECT ... INTO is not implemented \(0A000\); nothing was changed$/,
    ],
  ])("%s", async (_, sql, details, words) => {
    await main.test.execute("create table acme_app.never2 (id int primary key)");
    const before = await main.seen();
    const tables = await main.test.query(
      "select oid from pg_class where relnamespace = 'acme_app'::regnamespace order by 1",
    );
    const error = await main.migrate(first + sql).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "MIGRATION_FAILED", status: 400 });
    expect(error instanceof HostError ? error.details : {}).toEqual(details);
    expect(String(error)).toMatch(words);
    expect(String(error)).not.toContain("postgres://");
    expect(await main.seen()).toEqual(before);
    expect(
      await main.test.query(
        "select oid from pg_class where relnamespace = 'acme_app'::regnamespace order by 1",
      ),
    ).toEqual(tables);
    expect(await main.test.query("select from rowhouse.applied")).toEqual([]);
  });
});
