import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseShape, probeSettings, shapeQuery } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

/** Each case is proved twice: by what the probe reports, and by what PostgreSQL does when the function is called. */
let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createDatabase("preparers");
  await database.execute(`
    create schema one; create schema other; create schema "two;--";
    create function public.watch() returns event_trigger language plpgsql as 'begin end';
    create event trigger rowhouse_ddl_command_end on ddl_command_end execute function public.watch();`);
  client = new Client({ connectionString: database.url });
  await client.connect();
});
beforeEach(async () => {
  await client.query("begin; set local check_function_bodies = off");
  return () => client.query("rollback; deallocate all");
});
afterAll(async () => {
  await client.end();
  await database.drop();
});

const input = {
  schemas: [
    { logical: "app", physical: "one" },
    { logical: "odd", physical: "two;--" },
  ],
  sharedSchemas: ["public"],
  roles: { anonymous: null, authenticated: null },
};

const told = async (): Promise<boolean> => {
  await client.query(`savepoint asking; ${probeSettings}`);
  const { prepares } = parseShape((await client.query(shapeQuery(input))).rows[0]);
  await client.query("rollback to savepoint asking");
  return prepares;
};
const prepared = async (): Promise<number> =>
  (await client.query("select from pg_prepared_statements where from_sql")).rows.length;

const sql = (body: string, more = ""): string =>
  `create function one.f() returns void ${more} language sql as $f$${body}$f$`;
const plpgsql = (body: string, more = ""): string =>
  `create function one.f() returns void ${more} language plpgsql as $f$begin ${body}; end$f$`;

const able: [law: string, make: string, call?: string][] = [
  ["in SQL", sql("prepare mine as select 1")],
  ["in SQL, with capitals and comments", sql("/* prepa */PREPARE/**/mine as select 1")],
  ["in PL/pgSQL", plpgsql("prepare mine as select 1")],
  ["from a string", plpgsql("execute 'pre' || 'pare mine as select 1'")],
  ["from an escaped string", plpgsql(String.raw`execute E'\x70repare mine as select 1'`)],
  [
    "by a function that it creates",
    // In SQL too, since PostgreSQL 18 analyses each statement only when its turn comes.
    plpgsql(
      String.raw`create or replace function one.g() returns void language sql as E'\x70repare mine as select 1'; perform one.g()`,
    ),
  ],
  ["by an anonymous block", sql(String.raw`do E'begin \x70repare mine as select 1; end'`)],
  [
    "by an anonymous block with a named language",
    sql(String.raw`do language plpgsql E'begin \x70repare mine as select 1; end'`),
  ],
  [
    "in a trigger",
    `create table one.t (id int);
     create function one.f() returns trigger language plpgsql as 'begin prepare mine as select 1; return new; end';
     create trigger prepares before insert on one.t for each row execute function one.f()`,
    "insert into one.t values (1)",
  ],
  [
    "in a procedure",
    "create procedure one.p() language plpgsql as 'begin prepare mine as select 1; end'",
    "call one.p()",
  ],
  [
    "in a shared schema",
    "create function public.run(command text) returns void language plpgsql as 'begin execute command; end'",
    "select public.run('prepare mine as select 1')",
  ],
  [
    "in a schema with an odd name",
    `create function "two;--".f() returns void language sql as 'prepare mine as select 1'`,
    `select "two;--".f()`,
  ],
  [
    "by a function of the extension xml2",
    "create schema elsewhere; create extension xml2 schema elsewhere; savepoint made",
    "select * from elsewhere.xpath_table('1', '1', 'pg_class', '/', 'true; prepare mine as select 1') as t(i int)",
  ],
];

describe("a function that could prepare a statement is recognised:", () => {
  it.each(able)("%s", async (_, make, call) => {
    expect(await told()).toBe(false);
    await client.query(make);
    expect(await told()).toBe(true);
    // The one of xml2 has prepared its statement by the time it fails.
    await client.query(call ?? "select one.f()").catch(() => client.query("rollback to savepoint made"));
    expect(await prepared()).toBe(1);
  });

  it.each<[string, string]>([
    ["that executes dynamic text", plpgsql("execute name", "volatile").replace("f()", "f(name text)")],
    ["that explains a prepared statement", sql("explain execute mine")],
    [
      "in an unknown language",
      "create language other handler plpgsql_call_handler; create function one.f() returns void language other as ''",
    ],
    [
      "in C, outside an extension",
      "create function one.f() returns trigger language c as '$libdir/plpgsql', 'plpgsql_call_handler'",
    ],
    ["always, without the event trigger", "drop event trigger rowhouse_ddl_command_end"],
    ["always, with the event trigger disabled", "alter event trigger rowhouse_ddl_command_end disable"],
  ])("%s", async (_, make) => {
    await client.query(make);
    expect(await told()).toBe(true);
  });
});

describe("what cannot prepare a statement is not flagged:", () => {
  it.each<[string, string]>([
    ["a function that is not volatile, in SQL", sql("prepare mine as select 1", "stable")],
    [
      "a function that is not volatile, from a string",
      plpgsql("execute 'prepare mine as select 1'", "immutable"),
    ],
    [
      "PostgreSQL's own functions that run a string",
      sql("select query_to_xml('pre' || 'pare mine as select 1', true, false, '')"),
    ],
    [
      "PostgreSQL's own functions that open a cursor",
      sql("select ts_stat('pre' || 'pare mine as select 1')"),
    ],
    [
      "conflicts and temporary tables",
      plpgsql(
        "create temp table if not exists t (id int primary key); insert into t values (1) on conflict do nothing; insert into t values (1) on conflict (id) do update set id = 2",
      ),
    ],
    ["words that contain keywords", plpgsql("perform 1 as prepared, 2 as executes, 3 as done")],
  ])("%s", async (_, make) => {
    await client.query(make);
    expect(await told()).toBe(false);
    await client.query("savepoint calling");
    await client.query("select one.f()").catch(() => client.query("rollback to savepoint calling"));
    expect(await prepared()).toBe(0);
  });

  it("a function with a body in SQL standard form", async () => {
    const made = client.query(
      "create function one.f() returns void language sql begin atomic; prepare mine as select 1; end",
    );
    await expect(made).rejects.toThrow("not yet supported in unquoted SQL function body");
    await client.query("rollback; begin");
    await client.query(
      "create function one.f() returns text language sql begin atomic; select 'prepare'; end",
    );
    expect(await told()).toBe(false);
  });

  it("a function in an extension, unless its owner is no superuser, who may have put it there", async () => {
    await client.query(
      `${plpgsql("execute 'prepare mine as select 1'")}; alter extension plpgsql add function one.f()`,
    );
    expect(await told()).toBe(false);
    await client.query(
      "create role adder; grant all on schema one to adder; alter function one.f() owner to adder",
    );
    expect(await told()).toBe(true);
  });

  it("an extension's functions, and those of schemas off the path", async () => {
    await client.query(`create extension tablefunc schema public;
      create function other.f() returns void language plpgsql as 'begin execute 1; end'`);
    expect(await told()).toBe(false);
    await client.query("savepoint calling");
    const crosstab = client.query("select * from crosstab('prepare mine as select 1') as t(a text, b text)");
    await expect(crosstab).rejects.toThrow("PREPARE is not allowed in a non-volatile function");
    await client.query("rollback to savepoint calling");
    expect(await prepared()).toBe(0);
  });
});
