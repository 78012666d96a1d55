import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard } from "../support/guard-control.ts";
import { movedBy } from "../support/moved-schemas.ts";

let database: TestDatabase;
let first: Client;
let second: Client;
const roles = [`moved_one_${process.pid}`, `moved_two_${process.pid}`] as const;
/** Past the number from which ALTER commands are not told apart. */
const many = "alter table busy.t set (fillfactor = 90);".repeat(65);

beforeAll(async () => {
  database = await createDatabase("moved_elsewhere");
  await installGuard(database);
  await database.execute(
    `create schema busy; create table busy.t (); create role ${roles[0]}; create role ${roles[1]}`,
  );
  first = new Client({ connectionString: database.url });
  second = new Client({ connectionString: database.url });
  for (const each of [first, second]) await each.connect();
});

afterEach(async () => {
  for (const each of [first, second]) await each.query("rollback");
  await database.execute("drop schema if exists a, b, c, d cascade");
});

afterAll(async () => {
  await first.end();
  await second.end();
  await database.execute(`drop owned by ${roles.join(", ")}; drop role ${roles.join(", ")}`);
  await database.drop();
});

const moved = (work: () => Promise<unknown>) => movedBy(database, work);

describe("a command whose schema is not the one that it reports moves the revision of", () => {
  it("both, for a view that has been moved and then replaced, among many commands", async () => {
    await database.execute("create schema a; create schema b; create view a.v as select 1 as x");
    const commands = `begin; ${many} alter table a.v rename column x to y; alter table a.v set schema b;
      create or replace view b.v as select 1 as y; commit`;
    expect(await moved(() => first.query(commands))).toEqual(expect.arrayContaining(["a", "b"]));
  });

  it("both, for what is moved to pg_catalog", async () => {
    await database.execute(
      "create schema a; create function a.moved_away() returns int language sql as 'select 1'",
    );
    expect(await moved(() => first.query("alter function a.moved_away() set schema pg_catalog"))).toContain(
      "a",
    );
    await database.execute("set allow_system_table_mods = on; drop function pg_catalog.moved_away()");
  });

  it("the schema under the name that it has by the time of the commit", async () => {
    await database.execute("create schema a; create table a.t (id int)");
    const revision = async () =>
      (await database.query("select revision from rowhouse.schema_revision where schema_name = 'd'"))[0];
    await first.query("begin; alter table a.t add column late int");
    await second.query("alter schema a rename to d");
    const before = await revision();
    await first.query("commit");
    expect(before).toBeDefined();
    expect(await revision()).not.toEqual(before);
  });

  it("the table of a policy from which DROP OWNED takes a role", async () => {
    await database.execute(
      `create schema a; create table a.t (id int); create policy p on a.t to ${roles.join(", ")}`,
    );
    expect(await moved(() => first.query(`drop owned by ${roles[0]}`))).toEqual(["a"]);
  });
});

describe("under a snapshot from before, DDL moves the revision of", () => {
  it("a schema that was created since", async () => {
    await first.query("begin isolation level serializable; select 1");
    await second.query("create schema c; create table c.t (id int)");
    expect(
      await moved(async () => {
        await first.query("lock table pg_class in access share mode; alter table c.t add column x int");
        // It is moved, or the transaction does not serialize.
        await first.query("commit").catch((error: unknown) => expect(error).toMatchObject({ code: "40001" }));
      }).then(
        async (schemas) =>
          schemas.includes("c") ||
          (await database.query("select from information_schema.columns where table_schema = 'c'")).length ===
            1,
      ),
    ).toBe(true);
  });

  it("the schema of a table that was created since, for its policy", async () => {
    await database.execute("create schema a");
    await first.query("begin isolation level repeatable read; select 1");
    await second.query("create table a.n (id int)");
    const policies = "select from pg_policies where schemaname = 'a'";
    const schemas = await moved(async () => {
      await first.query("lock table pg_class in access share mode; create policy p on a.n using (true)");
      await first.query("commit").catch((error: unknown) => expect(error).toMatchObject({ code: "40001" }));
    });
    expect(schemas.includes("a") || (await database.query(policies)).length === 0).toBe(true);
  });
});

it("a transaction that does not count its changes is asked about each command", async () => {
  await database.execute("create schema a; create table a.p (); create table a.c () inherits (a.p)");
  const commands = `begin; ${many} set local track_counts = off; alter table a.c no inherit a.p; commit`;
  expect(await moved(() => first.query(commands))).toContain("a");
});
