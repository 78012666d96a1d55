/** What watched tables and published events write, for whom, and what nobody can make them do. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { grantRights } from "../../src/control/rights.ts";
import { tenantShape } from "../../src/control/tenant-migration.ts";
import { Database } from "../../src/postgres/database.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { revisionOf } from "../support/guard-control.ts";

const ignore = (): void => {};
const suffix = process.pid;
const owner = `watch_owner_${suffix}`;
const writer = `watch_writer_${suffix}`;
const stranger = `watch_stranger_${suffix}`;
let database: TestDatabase;
let front: Database;
/** Owns the tables of `shop`, as a migrating role does. */
let owning: Database;
/** May write to them, and publish. */
let writing: Database;
let strange: Database;

const connect = (url: string): Database =>
  new Database({ name: "main", url, applicationName: "rowhouse:test", observe: ignore });

interface Written {
  readonly schema_name: string;
  readonly topic: string;
  readonly payload: string;
}

/** The events since the last call, with payloads parsed. */
async function events(): Promise<{ schema: string; topic: string; payload: unknown }[]> {
  const rows = await database.query<Written>(
    "with gone as (delete from rowhouse.event returning *) select schema_name, topic, payload from gone order by seq",
  );
  return rows.map(({ schema_name, topic, payload }) => ({
    schema: schema_name,
    topic,
    payload: payload.startsWith("{") ? JSON.parse(payload) : payload,
  }));
}

const of = (topic: string, payload: unknown, schema = "shop") => ({ schema, topic, payload });
const run = async (through: Database, ...statements: string[]): Promise<void> => {
  await through.transaction(async (transaction) => {
    for (const each of statements) await transaction.execute(each);
  });
};

beforeAll(async () => {
  database = await createDatabase("realtime_watch");
  front = connect(database.url);
  await installControl(front, ignore);
  for (const role of [owner, writer, stranger]) {
    await database.execute(`create role ${role} login password 'word'`);
  }
  await grantRights(front, owner, "migrate");
  for (const role of [writer, stranger]) await grantRights(front, role, "publish");
  await database.execute(`
    create schema shop authorization ${owner}; create schema other authorization ${stranger};
    grant temporary, create on database ${database.name} to ${owner};
    grant usage on schema shop to ${writer}; set role ${owner};
    create table shop.item (id int primary key, name text);
    create table shop.label (code text, lang text, name text, primary key (lang, code));
    create table shop.log (line text);
    grant all on all tables in schema shop to ${writer}; reset role`);
  owning = connect(database.urlAs(owner, "word"));
  writing = connect(database.urlAs(writer, "word"));
  strange = connect(database.urlAs(stranger, "word"));
  await owning.query(
    "select rowhouse.watch('shop.item'), rowhouse.watch('shop.label'), rowhouse.watch('shop.log')",
  );
});

beforeEach(async () => {
  await database.query("select rowhouse.register_realtime('test', '1 hour')");
  await database.execute("delete from shop.item; delete from shop.label; delete from shop.log");
  await events();
});

afterAll(async () => {
  await Promise.all([front, owning, writing, strange].map((each) => each.close()));
  for (const role of [owner, writer, stranger]) {
    await database.execute(`drop owned by ${role} cascade; drop role ${role}`);
  }
  await database.drop();
});

describe("a watched table", () => {
  it("tells of each statement's rows by their keys, as texts, whoever writes", async () => {
    await run(
      writing,
      "insert into shop.item values (1, 'a'), (2, 'b')",
      "update shop.item set id = 3 where id = 2",
      "delete from shop.item where id = 1",
      "insert into shop.item values (3, 'c') on conflict (id) do update set name = 'd'",
      "truncate shop.item",
    );
    const [inserted, updated, deleted, merged, truncated] = (await events()).map(({ payload }) => payload);
    expect(inserted).toEqual({ op: "INSERT", by: ["id"], keys: [["1"], ["2"]] });
    expect(updated).toMatchObject({ op: "UPDATE", keys: expect.arrayContaining([["2"], ["3"]]) });
    expect(deleted).toEqual({ op: "DELETE", by: ["id"], keys: [["1"]] });
    expect(merged).toEqual({ op: "UPDATE", by: ["id"], keys: [["3"]] });
    expect(truncated).toEqual({ op: "TRUNCATE", many: true });
  });

  it("is silent where a statement changes no row, and while no host is registered", async () => {
    await run(
      writing,
      "update shop.item set name = ''",
      "delete from shop.log",
      "insert into shop.item select 1, '' where false",
    );
    await database.query("select rowhouse.unregister_realtime('test')");
    await run(writing, "insert into shop.item values (1, '')", "select rowhouse.publish('t', 'p', 'shop')");
    expect(await events()).toEqual([]);
  });

  it("tells no keys of a table without any, of more than a hundred, and of too long ones", async () => {
    await run(
      writing,
      "insert into shop.log values ('')",
      "insert into shop.item select n, '' from generate_series(1, 100) n",
      "insert into shop.item select n, '' from generate_series(101, 201) n",
      "insert into shop.label values (repeat('x', 2000), 'en', ''), (e'\\u0001\"', 'de', '')",
      "insert into shop.label select repeat(md5(n::text), 30) || n, 'en', '' from generate_series(1, 99) n",
    );
    const told = (await events()).map(({ topic, payload }) => [topic, JSON.stringify(payload).slice(0, 60)]);
    expect(told).toEqual([
      ["log", '{"op":"INSERT","many":true}'],
      ["item", expect.stringMatching(/^{"op":"INSERT","by":\["id"\],"keys":\[\["1"\]/)],
      ["item", '{"op":"INSERT","many":true}'],
      ["label", expect.stringMatching(/^{"op":"INSERT","by":\["lang","code"\],"keys":\[\["en","x/)],
      ["label", '{"op":"INSERT","many":true}'],
    ]);
  });

  it("is found by its present name, schema and columns", async () => {
    await run(
      owning,
      "create table shop.moved (id int primary key, code text)",
      "select rowhouse.watch('shop.moved')",
      "alter table shop.moved rename to gone",
      "create schema shop_archive",
      "alter table shop.gone set schema shop_archive",
      "insert into shop_archive.gone values (1, '')",
      "alter table shop_archive.gone rename id to number",
      "insert into shop_archive.gone values (2, '')",
      "alter table shop_archive.gone drop constraint moved_pkey, add primary key (code, number)",
      "select rowhouse.watch('shop_archive.gone')",
      "insert into shop_archive.gone values (3, 'c')",
      "select rowhouse.unwatch('shop_archive.gone')",
      "insert into shop_archive.gone values (4, '')",
      "drop schema shop_archive cascade",
    );
    expect(await events()).toEqual([
      of("gone", { op: "INSERT", by: ["id"], keys: [["1"]] }, "shop_archive"),
      of("gone", { op: "INSERT", many: true }, "shop_archive"),
      of("gone", { op: "INSERT", by: ["code", "number"], keys: [["c", "3"]] }, "shop_archive"),
    ]);
  });

  it("has its partitions' changes told as its own", async () => {
    await run(
      owning,
      "create table shop.part (id int, at int, primary key (id, at)) partition by range (at)",
      "create table shop.part_1 partition of shop.part for values from (0) to (10)",
      "select rowhouse.watch('shop.part')",
      "insert into shop.part values (1, 1)",
      "insert into shop.part_1 values (2, 2)",
    );
    expect(await events()).toEqual([
      of("part", { op: "INSERT", by: ["id", "at"], keys: [["1", "1"]] }),
      of("part", { op: "INSERT", by: ["id", "at"], keys: [["2", "2"]] }),
    ]);
    await run(owning, "select rowhouse.unwatch('shop.part')", "drop table shop.part");
  });

  it("tells of changes by cascade, by COPY's statements and by definer functions", async () => {
    await run(
      owning,
      "create table shop.child (id int primary key, item int references shop.item on delete cascade)",
      "select rowhouse.watch('shop.child')",
      "insert into shop.item values (1, '')",
      "insert into shop.child values (5, 1)",
      "delete from shop.item",
      "drop table shop.child",
    );
    expect((await events()).slice(-2).map(({ topic, payload }) => [topic, payload])).toEqual(
      expect.arrayContaining([
        ["item", { op: "DELETE", by: ["id"], keys: [["1"]] }],
        ["child", { op: "DELETE", by: ["id"], keys: [["5"]] }],
      ]),
    );
  });

  it("moves the revision of its schema when it is watched, once, and never its shape", async () => {
    await run(owning, "create table shop.fresh (id int primary key)");
    const tenant = parseTenant({ id: "shop", schemas: ["shop"] }, { database: "main", databases: ["main"] });
    const shape = await tenantShape(front, tenant);
    const revisions = [await revisionOf(database, "shop")];
    for (const change of ["watch", "watch", "unwatch", "unwatch"]) {
      await owning.query(`select rowhouse.${change}('shop.fresh')`);
      revisions.push(await revisionOf(database, "shop"));
    }
    const [before, watched, again, unwatched, unwatchedAgain] = revisions;
    expect([
      watched === before,
      again === watched,
      unwatched === again,
      unwatchedAgain === unwatched,
    ]).toEqual([false, true, false, true]);
    await owning.query("select rowhouse.watch('shop.fresh')");
    expect(await tenantShape(front, tenant)).toBe(shape);
    await run(owning, "drop table shop.fresh");
  });

  it("may only be watched by who may create triggers on it, and has to be a tenant's table", async () => {
    await grantRights(front, stranger, "migrate");
    await database.execute(`grant usage on schema shop to ${stranger}`);
    await expect(strange.query("select rowhouse.watch('shop.item'::regclass)")).resolves.toBeDefined();
    await expect(strange.query("select rowhouse.unwatch('shop.item')")).rejects.toMatchObject({
      code: "42501",
    });
    await run(owning, "create table shop.plain (id int)", "create view shop.seen as select * from shop.item");
    await expect(strange.query("select rowhouse.watch('shop.plain')")).rejects.toMatchObject({
      code: "42501",
    });
    await expect(owning.query("select rowhouse.watch('shop.seen')")).rejects.toThrow(/not a table/);
    await expect(front.query("select rowhouse.watch('rowhouse.tenant')")).rejects.toThrow(/no tenant/);
    await expect(
      run(owning, "create temporary table scratch (id int)", "select rowhouse.watch('scratch')"),
    ).rejects.toThrow(/no tenant/);
    await run(owning, "drop view shop.seen", "drop table shop.plain");
    await database.execute(`revoke usage on schema shop from ${stranger}`);
  });

  it("runs nobody's code with the rights of the control schema's owner", async () => {
    await run(
      owning,
      "create type shop.kind as enum ('a', 'b')",
      "create function shop.leak(shop.kind) returns json language plpgsql as $$ begin raise exception 'as %', current_user; end $$",
      "create function shop.leak_text(shop.kind) returns text language plpgsql as $$ begin raise exception 'as %', current_user; end $$",
      "create cast (shop.kind as json) with function shop.leak(shop.kind)",
      "create cast (shop.kind as text) with function shop.leak_text(shop.kind) as implicit",
      "create table shop.kinds (kind shop.kind primary key)",
      "select rowhouse.watch('shop.kinds')",
      "insert into shop.kinds values ('a')",
    );
    expect(await events()).toEqual([of("kinds", { op: "INSERT", by: ["kind"], keys: [["a"]] })]);
    await run(owning, "drop table shop.kinds", "drop type shop.kind cascade");
    // A trigger of one's own, which shows no rows: the names must not be found elsewhere.
    await expect(
      run(
        owning,
        "create table shop.trap (id int primary key)",
        "create function pg_temp.leak() returns int language plpgsql as $$ begin raise exception 'as %', current_user; end $$",
        "create temporary view new_rows as select pg_temp.leak() as id",
        "create trigger trap after insert on shop.trap for each statement execute function rowhouse.note_change('id')",
        "insert into shop.trap values (1)",
        "drop table shop.trap",
      ),
    ).resolves.toBeUndefined();
    expect(await events()).toEqual([of("trap", { op: "INSERT", many: true })]);
  });

  it("writes at most a thousand events in a transaction, and one more for each table with further changes", async () => {
    const loop = (table: string): string =>
      `do $$ begin for n in 1..700 loop insert into shop.${table} values (n, ''); end loop; end $$`;
    await run(
      owning,
      "create table shop.more (id int primary key, name text)",
      `grant insert, update on shop.more to ${writer}`,
      "select rowhouse.watch('shop.more')",
    );
    await run(
      writing,
      loop("item"),
      loop("more"),
      "update shop.item set name = 'x'",
      "update shop.more set name = 'x'",
    );
    const told = await events();
    expect(told).toHaveLength(1_002);
    expect(told.slice(-2)).toEqual([
      of("more", { op: "MANY", many: true }),
      of("item", { op: "MANY", many: true }),
    ]);
    // The next transaction of the same connection has all of them again.
    await run(writing, "delete from shop.item where id <= 2", loop("more").replace("700", "0"));
    expect(await events()).toMatchObject([{ payload: { op: "DELETE" } }]);
    await run(owning, "drop table shop.more");
  });

  it("lets serializable transactions that write different rows commit", async () => {
    const open = [owning, writing].map((through, index) =>
      through.transaction(async (transaction) => {
        await transaction.query("set transaction isolation level serializable");
        await transaction.query("select from shop.item where id = $1", [index]);
        await transaction.query("insert into shop.log values ($1)", [String(index)]);
        started[index]?.resolve();
        await Promise.all(started.map(({ promise }) => promise));
      }),
    );
    const started = open.map(() => Promise.withResolvers<void>());
    await expect(Promise.all(open)).resolves.toBeDefined();
    expect(await events()).toHaveLength(2);
  });

  it("tells of a change in a transaction whose snapshot shows a registration that has been renewed since", async () => {
    await database.query("update rowhouse.realtime_host set until = now() + interval '2 seconds'");
    await writing.transaction(async (transaction) => {
      await transaction.query("set transaction isolation level repeatable read");
      await transaction.query("select from shop.item");
      await database.query("select rowhouse.register_realtime('test', '1 hour')");
      // Until the registration that it sees has run out.
      await transaction.query("select pg_sleep(2.1)");
      await transaction.query("insert into shop.item values (1, '')");
    });
    expect(await events()).toHaveLength(1);
  });
});

describe("rowhouse.publish", () => {
  it("publishes in the caller's first schema, or another that its role may use", async () => {
    await run(writing, "set local search_path = shop", "select rowhouse.publish('t', 'p')");
    await run(writing, "select rowhouse.publish('t', 'q', 'shop')");
    await run(
      front,
      `set local role ${writer}`,
      "set local search_path = shop",
      "select rowhouse.publish('t', 'r')",
    );
    expect(await events()).toEqual([of("t", "p"), of("t", "q"), of("t", "r")]);
  });

  it.each([
    ["another tenant's schema", "select rowhouse.publish('t', 'p', 'shop')"],
    ["a search path that names it", "set local search_path = shop; select rowhouse.publish('t', 'p')"],
    ["a definer's function", "select shop_open.forge()"],
    ["a schema of PostgreSQL", "select rowhouse.publish('t', 'p', 'pg_catalog')"],
    [
      "the temporary schema",
      "create temporary table t (); select rowhouse.publish('t', 'p', pg_my_temp_schema()::regnamespace::text)",
    ],
    ["the control schema", "select rowhouse.publish('t', 'p', 'rowhouse')"],
    ["a schema that does not exist", "select rowhouse.publish('t', 'p', 'nowhere')"],
    ["the table", "insert into rowhouse.event (schema_name, topic, payload) values ('shop', 't', 'p')"],
    ["the table of hosts", "insert into rowhouse.realtime_host values ('x', now(), '1 day')"],
    ["a host's function", "select rowhouse.unregister_realtime('test')"],
  ])("is refused to a stranger: %s", async (_, sql) => {
    await database.execute(`
      create schema if not exists shop_open; grant usage on schema shop_open to public;
      create or replace function shop_open.forge() returns void language plpgsql security definer
        as $$ begin perform rowhouse.publish('t', 'p', 'shop'); end $$`);
    await expect(
      front.transaction(async (transaction) => {
        await transaction.execute(`set local role ${stranger}; ${sql}`);
      }),
    ).rejects.toThrow(/may not publish|permission denied|needs a topic/);
    expect(await events()).toEqual([]);
  });

  it.each([
    ["a topic of no length", "select rowhouse.publish('', '', 'shop')"],
    ["a topic too long", "select rowhouse.publish(repeat('é', 128), '', 'shop')"],
    ["a payload too long", "select rowhouse.publish('t', repeat('x', 65537), 'shop')"],
    [
      "too many events",
      "do $$ begin for n in 1..1001 loop perform rowhouse.publish('t', n::text, 'shop'); end loop; end $$",
    ],
  ])("is refused: %s", async (_, sql) => {
    await expect(run(writing, sql)).rejects.toMatchObject({ code: "54000" });
    expect(await events()).toEqual([]);
  });

  it("accepts a thousand in each transaction of a connection, with the longest payload", async () => {
    const loop =
      "do $$ begin for n in 1..1000 loop perform rowhouse.publish('t', '', 'shop'); end loop; end $$";
    await run(writing, loop);
    await run(writing, loop);
    await run(writing, "select rowhouse.publish('t', repeat('x', 65536), 'shop')");
    expect(await events()).toHaveLength(2_001);
  });
});

it("whoever may publish takes no tenant's lock", async () => {
  await expect(strange.query("select rowhouse.begin_write('shop', '{}', '{}')")).rejects.toMatchObject({
    code: "42501",
  });
});
