import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { readRevisions } from "../../src/control/revisions.ts";
import { Database } from "../../src/postgres/database.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { movedBy as moved } from "../support/moved-schemas.ts";

let database: TestDatabase;
let front: Database;
const role = `plain_${process.pid}`;

beforeAll(async () => {
  database = await createDatabase("revisions");
  front = new Database({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: () => {},
  });
  await installControl(front, () => {});
  await database.execute(`
    create role ${role};
    create schema a; create schema b; create schema bystander;
    create table a.t (id int primary key, name text);
    create table a.parent (id int);
    create table b.child () inherits (a.parent);
    create type a.of_type as (x int);
    create table b.typed of a.of_type;
    create table b.u (id int primary key, t_id int);
    create view b.v as select * from a.t;
    create materialized view a.m as select 1 as one;
    create function a.f() returns int language sql as 'select 1';
    create function a.trg() returns trigger language plpgsql as 'begin return new; end';
    create procedure a.p() language sql as '';
    create sequence a.s;
    create table a.with_default (n int default nextval('a.s'));
    create table b.with_default (n int default nextval('a.s'));
    create type a.mood as enum ('good');
    create domain a.email as text;
    create trigger tr before insert on a.t for each row execute function a.trg();
    create policy po on a.t using (true);
    create rule ru as on delete to b.v do instead nothing;
    create function bystander.rename_dynamically() returns void language plpgsql as
      $$ begin execute 'alter table b.u set schema a'; execute 'alter table a.u set schema b'; end $$;`);
});

afterAll(async () => {
  await front.close();
  await database.drop();
  const other = await createDatabase("revisions_roles");
  await other.execute(`drop role if exists ${role}`);
  await other.drop();
});

const movedBy = (work: () => Promise<unknown>): Promise<string[]> => moved(database, work);

async function revisions(): Promise<Map<string, bigint>> {
  const rows = await database.query<{ schema_name: string }>(
    "select schema_name from rowhouse.schema_revision",
  );
  return readRevisions(
    front,
    rows.map(({ schema_name }) => schema_name),
  );
}

const everything = ["a", "b", "bystander", "public"];

describe("a DDL command moves the revisions of the schemas that it touches, and no others", () => {
  test.each<[string, string[]]>([
    ["create table a.new_table (id int)", ["a"]],
    ["create table a.from_query as select 1 as one", ["a"]],
    ["create table b.fk (t_id int references a.t)", ["b"]],
    ["alter table a.t add column extra int", ["a"]],
    ["alter table a.t rename column extra to other", ["a"]],
    ["alter table a.t alter column other set not null", ["a"]],
    ["alter table a.t drop column other", ["a"]],
    ["alter table a.t add constraint positive check (id > 0)", ["a"]],
    ["alter table a.t enable row level security", ["a"]],
    ["alter table a.t rename to t2", ["a"]],
    ["alter table a.t2 rename to t", ["a"]],
    [`alter table a.t owner to ${role}`, ["a"]],
    ["alter table a.parent add column inherited int", ["a", "b"]],
    ["alter table a.parent drop column inherited", ["a", "b"]],
    ["alter type a.of_type add attribute y int cascade", ["a", "b"]],
    ["create index on a.t (name)", ["a"]],
    ["create index concurrently by_name on a.t (name)", ["a"]],
    ["drop index a.by_name", ["a"]],
    ["create view a.w as select 1 as one", ["a"]],
    ["create or replace view a.w as select 1 as one, 2 as two", ["a"]],
    ["create function a.g(x int) returns int language sql as 'select x'", ["a"]],
    ["create or replace function a.g(x int) returns int language sql as 'select x + 1'", ["a"]],
    ["alter function a.g(int) volatile", ["a"]],
    ["alter function a.g(int) rename to h", ["a"]],
    ["drop function a.h(int)", ["a"]],
    ["alter procedure a.p() security definer", ["a"]],
    ["alter sequence a.s increment 2", ["a"]],
    ["alter type a.mood add value 'bad'", ["a"]],
    ["alter type a.mood rename value 'bad' to 'worse'", ["a"]],
    ["alter domain a.email add constraint at check (value like '%@%')", ["a"]],
    ["create type a.span as range (subtype = int)", ["a"]],
    ["create operator a.=== (leftarg = int, rightarg = int, function = int4eq)", ["a"]],
    ["comment on table a.t is 'x'", ["a"]],
    ["comment on column a.t.name is 'x'", ["a"]],
    ["comment on function a.f() is 'x'", ["a"]],
    ["comment on type a.mood is 'x'", ["a"]],
    ["comment on constraint positive on a.t is 'x'", ["a"]],
    ["comment on constraint at on domain a.email is 'x'", ["a"]],
    ["comment on trigger tr on a.t is 'x'", ["a"]],
    ["comment on policy po on a.t is 'x'", ["a"]],
    ["comment on rule ru on b.v is 'x'", ["b"]],
    ["comment on schema a is 'x'", ["a"]],
    ["create policy po2 on a.t using (false)", ["a"]],
    ["alter policy po2 on a.t using (true)", ["a"]],
    ["drop policy po2 on a.t", ["a"]],
    ["create trigger tr2 before insert on a.t for each row execute function a.trg()", ["a"]],
    ["drop trigger tr2 on a.t", ["a"]],
    ["drop rule ru on b.v", ["b"]],
    [`grant select on a.t to ${role}`, ["a"]],
    [`grant select (id) on a.t to ${role}`, ["a"]],
    [`grant select (id) on a.t to ${role} /* column ( */; grant select on b.u to ${role}`, ["a", "b"]],
    [`revoke /* ( */ select on a.t from ${role}`, ["a"]],
    [`grant execute on function a.f() to ${role}`, ["a"]],
    [`grant execute on all functions in schema a to ${role}`, ["a"]],
    [`grant usage on type a.mood to ${role}`, ["a"]],
    [`grant usage on sequence a.s to ${role}`, ["a"]],
    [`grant usage on schema a to ${role}`, ["a"]],
    [`grant select on all tables in schema a to ${role}`, ["a"]],
    [`alter default privileges in schema a grant select on tables to ${role}`, ["a"]],
    [`alter default privileges in schema a, b grant insert on tables to ${role}`, ["a", "b"]],
    [`alter default privileges in schema b revoke insert on tables from ${role}`, ["b"]],
    [`alter default privileges in schema a revoke all on tables from ${role}`, ["a"]],
    [
      `do $$ begin begin grant select on b.v to ${role}; exception when division_by_zero then null; end; end $$`,
      ["b"],
    ],
    [`alter schema bystander owner to ${role}`, ["bystander"]],
    [`create table bystander.owned (id int); alter table bystander.owned owner to ${role}`, ["bystander"]],
    [
      `alter table a.t owner to current_user; alter schema bystander owner to current_user; alter table bystander.owned owner to current_user`,
      ["a", "bystander"],
    ],
    [`drop owned by ${role}`, ["a", "b"]],
    ["alter table b.u set schema a", everything],
    ["alter table a.u set /* back */ schema b", everything],
    ["select bystander.rename_dynamically()", everything],
    ["drop sequence a.s cascade", ["a", "b"]],
    ["drop table a.t cascade", ["a", "b"]],
    ["create extension hstore schema a", ["a"]],
    ["comment on extension hstore is 'x'", ["a"]],
    ["drop extension hstore", ["a"]],
    ["create schema fresh create table inside (id int)", ["fresh"]],
    ["alter schema fresh rename to renamed", ["fresh", "renamed"]],
    ["drop schema renamed cascade", ["renamed"]],
    ["create table public.shared (id int)", ["public"]],
  ])("%s", async (ddl, expected) => {
    expect(await movedBy(() => database.execute(ddl))).toEqual(expected);
  });
});

test.each([
  "create temp table scratch (id int); create index on scratch (id); drop table scratch",
  "create temp table gone (id int) on commit drop",
  "refresh materialized view a.m",
  "reindex table a.m",
  `alter default privileges grant select on tables to ${role}`,
  `alter default privileges revoke select on tables from ${role}`,
  "insert into a.with_default values (1)",
  "create table rowhouse.own (id int); drop table rowhouse.own",
  "set schema 'public'",
  "begin; create table a.rolled_back (id int); rollback",
  "begin; savepoint s; create table a.rolled_back (id int); rollback to s; commit",
])("no revision moves by: %s", async (sql) => {
  expect(await movedBy(() => database.execute(sql))).toEqual([]);
});

test("a schema dropped and created again never gets an old revision", async () => {
  await database.execute("create schema phoenix");
  const before = (await revisions()).get("phoenix") ?? 0n;
  await database.execute("drop schema phoenix");
  expect((await revisions()).has("phoenix")).toBe(false);
  await database.execute("create schema phoenix");
  expect((await revisions()).get("phoenix")).toBeGreaterThan(before);
  await database.execute("begin; drop schema phoenix; create schema phoenix; commit");
  expect((await revisions()).get("phoenix")).toBeGreaterThan(before + 1n);
});

test("a role without rights on the control schema can run DDL, which moves revisions", async () => {
  await database.execute(
    `grant create, usage on schema a to ${role}; grant temp on database ${database.name} to ${role}`,
  );
  const touched = await movedBy(() =>
    database.execute(`begin; set local role ${role};
      create temp table mine (id int); create table a.by_role (id int); comment on table a.by_role is 'x'; commit`),
  );
  expect(touched).toEqual(["a"]);
  await expect(
    database.execute(`begin; set local role ${role}; select * from rowhouse.schema_revision`),
  ).rejects.toMatchObject({ code: "42501" });
  await database.execute("rollback");
});

test("concurrent DDL of two transactions on one schema neither waits nor deadlocks before the commit", async () => {
  const other = new Database({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: () => {},
  });
  try {
    await front.transaction(async (first) => {
      await first.query("create table a.of_first (id int)");
      await first.query("create table b.of_first (id int)");
      // This would wait for ever if the first held the revisions' rows, since the first commits later.
      await other.transaction(async (second) => {
        await second.query("set local lock_timeout = '5s'");
        await second.query("create table b.of_second (id int)");
        await second.query("create table a.of_second (id int)");
      });
    });
  } finally {
    await other.close();
  }
  expect(await database.query("select from rowhouse.schema_touch")).toEqual([]);
});

test("revisions move even under session_replication_role = replica", async () => {
  const touched = await movedBy(() =>
    database.execute(
      "begin; set local session_replication_role = replica; create table a.replicated (id int); commit",
    ),
  );
  expect(touched).toEqual(["a"]);
});

test("the control schema can be dropped", async () => {
  await database.execute("begin; drop schema rowhouse cascade");
  await database.execute("create table a.after_all (id int); rollback");
});
