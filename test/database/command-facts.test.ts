import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard } from "../support/guard-control.ts";
import { movedBy } from "../support/moved-schemas.ts";

let database: TestDatabase;
const role = `facts_${process.pid}`;
const everything = ["a", "b", "bystander", "public"];

beforeAll(async () => {
  database = await createDatabase("command_facts");
  await installGuard(database);
  await database.execute(`
    create role ${role};
    create schema a; create schema b; create schema bystander;
    create table a.t (id int primary key, name text); create table a.u (id int);
    create table b.t (id int);
    create function a.f() returns int language sql as 'select 1';
    create function bystander.run(sql text) returns void language plpgsql as $$ begin execute sql; end $$;
    create function bystander.run_caught(sql text) returns void language plpgsql as
      $$ begin begin execute sql; exception when division_by_zero then null; end; end $$;`);
});

afterAll(async () => {
  await database.execute(`drop owned by ${role}; drop role ${role}`);
  await database.drop();
});

const moved = (sql: string): Promise<string[]> =>
  movedBy(database, () =>
    database.execute(sql).catch(async (error: unknown) => {
      await database.execute("rollback");
      throw error;
    }),
  );

describe("only the schemas that a command touches move, whatever its text mentions", () => {
  it.each<[string, string[]]>([
    ["/* flyway: set schema version 7 */ alter table a.t add column n1 int", ["a"]],
    ["-- set schema b\nalter table a.t add column n2 int", ["a"]],
    ["/* outer /* set schema */ b set schema b */ alter table a.t add column n3 int", ["a"]],
    ["select 'alter table a.t set schema b'; alter table a.t add column n4 int", ["a"]],
    [`select $x$ set schema b $x$, E'\\'set schema b'; alter table a.t add column n5 int`, ["a"]],
    [`alter table a.t add column "set schema b" int`, ["a"]],
    [`alter table a.t rename column "set schema b" to n6`, ["a"]],
    [`comment on table a.t is 'set schema b'; alter function a.f() stable`, ["a"]],
    [
      `do $$ /* set schema b */ begin execute 'alter table a.t add column n7 int -- set schema b'; end $$`,
      ["a"],
    ],
    [`grant select on b.t to ${role} /* select ( */; alter function a.f() volatile`, ["a", "b"]],
    ["alter function a.f() set search_path = a /* set schema b */", ["a"]],
    ["set local schema 'b'; alter table a.t add column n8 int", ["a"]],
  ])("%s", async (sql, expected) => {
    expect(await moved(sql)).toEqual(expected);
  });
});

describe("an object that leaves its schema moves every schema, however the command is written", () => {
  const there = "alter table a.u set schema b";
  const back = "alter table b.u set schema a";

  it.each<[string, string]>([
    ["in capitals, over lines, with comments", "ALTER TABLE a.u\n  SET /* x */ -- y\n  SCHEMA\n b"],
    ["without the words in the client's text", "select bystander.run('alter table a.u set sch' || 'ema b')"],
    ["in a subtransaction", `select bystander.run_caught('${there}')`],
    ["in a savepoint that is released", `begin; savepoint s; ${there}; release s; commit`],
    ["behind thousands of other commands", `${"comment on table a.t is 'x';".repeat(2_000)} ${there}`],
    [
      "by a statement with a role of its own",
      `begin; create role ${role}_x; ${there}; drop role ${role}_x; commit`,
    ],
    ["by an extended query", there],
  ])("%s", async (what, sql) => {
    const run = what.includes("extended") ? () => database.query(`${sql}`, []) : () => database.execute(sql);
    expect(await movedBy(database, run)).toEqual(everything);
    await database.execute(back);
  });

  it("even if it was altered earlier in the same transaction", async () => {
    expect(await moved(`begin; alter table a.u add column before int; ${there}; commit`)).toEqual(everything);
    await database.execute(back);
  });

  it.each<[string, string, string]>([
    ["view", "create view a.x as select 1 as one", "view"],
    ["materialized view", "create materialized view a.x as select 1 as one", "materialized view"],
    ["sequence", "create sequence a.x", "sequence"],
    ["function", "create function a.x() returns int language sql as 'select 1'", "function"],
    ["procedure", "create procedure a.x() language sql as ''", "procedure"],
    ["aggregate", "create aggregate a.x(int) (sfunc = int4pl, stype = int)", "aggregate x(int)"],
    ["enum", "create type a.x as enum ('a')", "type"],
    ["composite", "create type a.x as (n int)", "type"],
    ["range", "create type a.x as range (subtype = int)", "type"],
    ["domain", "create domain a.x as int", "domain"],
    ["collation", "create collation a.x (provider = icu, locale = 'de')", "collation"],
    [
      "operator",
      "create operator a.=== (leftarg = int, rightarg = int, function = int4eq)",
      "operator ===(int, int)",
    ],
    ["statistics", "create statistics a.x on id, name from a.t", "statistics"],
    ["dictionary", "create text search dictionary a.x (template = simple)", "text search dictionary"],
    ["extension", "create extension hstore schema a", "extension hstore"],
  ])("a %s", async (_, create, kind) => {
    const [word = "", name = "x"] = kind.split(/ (?=[^ ]*\(|hstore)/);
    const named = word === "extension" ? name : `a.${name}`;
    expect(await moved(create)).toEqual(["a"]);
    expect(await moved(`alter ${word} ${named} set schema b`)).toEqual(everything);
    await database.execute(`drop ${word} ${named.replace(/^a\./, "b.")} cascade`);
  });
});

describe("an object created in the same transaction moves only the schemas that it was in", () => {
  it.each<[string, string[]]>([
    ["create table a.n (id int); alter table a.n add column x int; drop table a.n", ["a"]],
    ["create table a.n (id serial primary key, x int generated always as identity); drop table a.n", ["a"]],
    ["create table a.n (id int); alter table a.n set schema b; drop table b.n", ["a", "b"]],
    ["select 1 as one into a.n; alter table a.n add column x int; drop table a.n", ["a"]],
    ["create table a.n as select 1 as one; alter table a.n add column x int; drop table a.n", ["a"]],
    [
      "create schema n create table n.t (id int); alter table n.t add column x int; drop schema n cascade",
      [],
    ],
    [
      "create or replace function a.f() returns int language sql as 'select 2'; alter function a.f() set schema b; alter function b.f() set schema a",
      ["a", "b"],
    ],
    ["create type a.n as enum ('x'); alter type a.n add value 'y'; drop type a.n", ["a"]],
    [
      "select bystander.run_caught('create table a.n (id int)'); alter table a.n add column x int; drop table a.n",
      ["a"],
    ],
  ])("%s", async (sql, expected) => {
    expect(await moved(`begin; ${sql}; commit`)).toEqual(expected);
    expect(await database.query("select from rowhouse.schema_touch")).toEqual([]);
  });

  it("an object created by a transaction that began later and has committed moves only its own schema", async () => {
    const other = new Client({ connectionString: database.url });
    await other.connect();
    try {
      const touched = await movedBy(database, async () => {
        await other.query("begin; create table bystander.first (id int)");
        await database.execute("create table a.latecomer (id int)");
        await other.query("alter table a.latecomer add column n int; commit");
      });
      expect(touched).toEqual(["a", "bystander"]);
    } finally {
      await other.end();
    }
  });

  it("after a rollback to the savepoint in which an object was created, objects that leave move every schema", async () => {
    const sql =
      "begin; savepoint s; create table a.n (id int); rollback to s; alter table a.u set schema b; commit";
    expect(await moved(sql)).toEqual(everything);
    await database.execute("alter table b.u set schema a");
  });
});

describe("a grant moves the schema of its object, columns included", () => {
  const columns = `grant select (id), update (name) on a.t to ${role}`;
  it.each<[string, string[]]>([
    [columns, ["a"]],
    [`revoke update (name) on a.t from ${role}`, ["a"]],
    [`do $$ begin execute 'grant ins' || 'ert (id) on a.t to ${role}'; end $$`, ["a"]],
    [`select bystander.run_caught('grant references (id) on a.t to ${role}')`, ["a"]],
    [`begin; alter table b.t add column x int; grant select (id) on a.t to ${role}; commit`, ["a", "b"]],
    [
      `begin; savepoint s; grant select (x) on b.t to ${role}; rollback to s; grant insert (name) on a.t to ${role}; commit`,
      ["a"],
    ],
    [`revoke all on a.t from ${role}`, ["a"]],
    [`grant usage on schema b to ${role}`, ["b"]],
  ])("%s", async (sql, expected) => {
    expect(await moved(sql)).toEqual(expected);
  });
});

describe("among so many commands that their schemas are determined at the end", () => {
  /** Commands on a schema that moves anyway, more than the number up to which commands are recorded one by one. */
  const many = "alter table bystander.busy set (fillfactor = 90);".repeat(80);

  beforeAll(async () => {
    await database.execute(`
      create table bystander.busy (id int); create schema c; create schema d;
      create table c.parent (id int, name text); create table d.child () inherits (c.parent);
      create type c.row as (x int); create table d.typed of c.row;
      create type c.mood as enum ('calm'); create domain c.email as text; create sequence c.s;
      create function c.f() returns int language sql as 'select 1';
      create function c.trg() returns trigger language plpgsql as 'begin return new; end';
      create table c.t (id int primary key, name text default 'x', checked int check (checked > 0));
      create index by_name on c.t (name); create view c.v as select 1 as one; create materialized view c.m as select 1 as one;
      create trigger tr before insert on c.t for each row execute function c.trg(); create policy po on c.t using (true)`);
  });
  afterAll(() => database.execute("drop schema c, d cascade; drop table bystander.busy"));

  it.each<[string, string[]]>([
    ["", []],
    ["alter table c.t add column n int", ["c"]],
    ["alter table c.t rename column n to m", ["c"]],
    ["alter table c.t drop column m", ["c"]],
    ["alter table c.t alter column name drop default", ["c"]],
    ["alter table c.t alter column name set not null", ["c"]],
    ["alter table c.t drop constraint t_checked_check", ["c"]],
    ["alter table c.t enable row level security", ["c"]],
    [`alter table c.t owner to ${role}`, ["c"]],
    ["alter table c.t disable trigger tr", ["c"]],
    ["alter table c.t cluster on t_pkey", ["c"]],
    ["alter table c.parent add column more int", ["c", "d"]],
    ["alter table d.child no inherit c.parent", ["d"]],
    ["alter type c.row add attribute y int cascade", ["c", "d"]],
    ["alter type c.mood add value 'keen'", ["c"]],
    ["alter type c.mood rename value 'calm' to 'still'", ["c"]],
    ["alter domain c.email set not null", ["c"]],
    ["alter domain c.email add constraint at check (value like '%@%')", ["c"]],
    ["alter sequence c.s increment 2", ["c"]],
    ["alter function c.f() stable", ["c"]],
    ["alter index c.by_name rename to by_names", ["c"]],
    ["alter view c.v rename to w", ["c"]],
    ["alter view c.w alter column one set default 2", ["c"]],
    ["alter materialized view c.m rename to n", ["c"]],
    ["alter trigger tr on c.t rename to tr2", ["c"]],
    ["alter policy po on c.t using (false)", ["c"]],
    ["comment on table c.t is 'x'", ["c"]],
    ["comment on table c.t is null", ["c"]],
    [`grant select (id) on c.t to ${role}`, ["c"]],
    ["drop index c.by_names", ["c"]],
    [
      "create table c.made (id int); alter table c.made add column x int; alter table c.made set schema d; drop table d.made",
      ["c", "d"],
    ],
    [
      "create or replace function c.f() returns int language sql as 'select 3'; alter function c.f() volatile",
      ["c"],
    ],
    ["alter schema c rename to e", ["c", "e"]],
    ["alter schema e rename to c", ["c", "e"]],
  ])("%s", async (sql, expected) => {
    const after = await moved(`begin; ${many} ${sql}; ${many} commit`);
    expect(after).toEqual([...expected, "bystander"].sort());
    expect(await database.query("select from rowhouse.schema_touch")).toEqual([]);
  });

  it.each([
    "alter table c.t set schema d; alter table d.t set schema c",
    "alter function c.f() set schema d; alter function d.f() set schema c",
    "alter table c.w set schema d; create or replace view d.w as select 1 as one; alter table d.w set schema c",
    "alter type c.mood set schema d; alter type d.mood set schema c",
    "do $$ begin begin alter table c.t set schema d; exception when division_by_zero then null; end; end $$; alter table d.t set schema c",
  ])("an object that leaves its schema moves every schema: %s", async (sql) => {
    expect(await moved(`begin; ${many} ${sql}; commit`)).toEqual([...everything, "c", "d"].sort());
  });

  it("only touched schemas move, also with immediate constraints, and after a rollback to a savepoint", async () => {
    const immediate = `begin; set constraints all immediate; ${many} alter table c.t add column im int; ${many} commit`;
    expect(await moved(immediate)).toEqual(["bystander", "c"]);
    const undone = `begin; savepoint s; ${many} rollback to s; alter table c.t add column sa int; commit`;
    expect(await moved(undone)).toEqual(["c"]);
  });

  it("a touched schema moves even if somebody has set the counter to anything", async () => {
    for (const count of ["x".repeat(100), "", "'"]) {
      const sql = `begin; select set_config('rowhouse.commands', $x$${count}$x$, true); alter table c.t set (fillfactor = 70); commit`;
      expect(await moved(sql)).toEqual(["c"]);
    }
  });
});

test("a text of thousands of commands is not copied for each of them", async () => {
  // Asserts the work, not the time: reading either of these in a command's trigger copies the whole text.
  const [{ source } = { source: "" }] = await database.query<{ source: string }>(
    "select prosrc as source from pg_proc where oid = 'rowhouse.on_ddl_command_end'::regproc",
  );
  expect(source).not.toMatch(/current_query|pg_context/);
});
