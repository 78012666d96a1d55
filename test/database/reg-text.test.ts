import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { Worker } from "../support/worker-instance.ts";

const columns = [
  "class",
  "own_class",
  "type",
  "list_type",
  "own_type",
  "proc",
  "overloaded",
  "procedure",
  "own_procedure",
  "oper",
  "operator",
  "config",
  "dictionary",
  "none",
  "unknown",
  "classes",
  "types",
];

let database: TestDatabase;
/** As text on a connection without a search path of its own. */
let plain: Record<string, unknown>;

beforeAll(async () => {
  database = await createDatabase("reg_text");
  await database.execute(`
    create schema zoe; create schema lent;
    do $$ begin create role zoe; exception when duplicate_object then null; end $$;
    create table zoe."Odd name" (id int primary key);
    create type zoe.mood as enum ('a');
    create table public.shared (id int);
    create table lent.thing (id int);
    create function zoe.one() returns int immutable language sql as 'select 1';
    create function zoe.two(int) returns int immutable language sql as 'select 1';
    create function zoe.two(text) returns int immutable language sql as 'select 1';
    create function zoe.takes(m zoe.mood, l zoe.mood[], n int, t lent.thing) returns int immutable language sql as 'select 1';
    create function zoe.minus(a zoe.mood, b zoe.mood) returns int immutable language sql as 'select 1';
    create operator zoe.<-> (function = zoe.minus, leftarg = zoe.mood, rightarg = zoe.mood);
    create text search configuration zoe.words (copy = pg_catalog.simple);
    create text search dictionary zoe.plain (template = pg_catalog.simple);
    create table zoe.names (
      id int primary key, class regclass, own_class regclass, type regtype, list_type regtype, own_type regtype, proc regproc,
      overloaded regproc, procedure regprocedure, own_procedure regprocedure, oper regoper, operator regoperator, config regconfig,
      dictionary regdictionary, none regclass, unknown regclass, classes regclass[], types regtype[]
    );
    insert into zoe.names values (
      1, 'public.shared', 'zoe."Odd name"', 'int4', 'zoe.mood[]', 'zoe.mood', 'zoe.one', 'pg_catalog.now', 'pg_catalog.abs(int4)',
      'zoe.takes(zoe.mood, zoe.mood[], int4, lent.thing)', 'zoe.<->', 'zoe.<->(zoe.mood, zoe.mood)', 'zoe.words', 'zoe.plain',
      null, '99999'::oid::regclass, array['zoe.names'::regclass, null, 'lent.thing'::regclass], array['zoe.mood'::regtype, 'text']
    );
    update zoe.names set overloaded = (select oid from pg_proc where proname = 'two' limit 1);
    create function zoe.says() returns regclass stable language sql as $$ select 'zoe.names'::regclass $$;
    grant usage on schema zoe, lent to zoe; grant select on zoe.names to zoe`);
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const texts = columns.map((name) => `${name}::text${/^(?:classes|types)$/.test(name) ? "[]" : ""}`);
  plain = (await client.query(`select ${texts.join(", ")} from zoe.names`)).rows[0];
  await client.end();
});
afterAll(() => database.drop());

const field = (name: string): string => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

async function served(kind: "pooled" | "dedicated"): Promise<Record<string, unknown>> {
  const worker = new Worker(database);
  const serv = await worker.build(kind, { app: "zoe" }, { sharedSchemas: ["public", "lent"] });
  const ask = { tenant: "zoe", searchPath: ["zoe", "public", "lent"] };
  const query = `{ says nameByRowId(rowId: 1) { ${columns.map(field).join(" ")} } }`;
  // From the second time on, the statement is a cached one.
  await worker.ask(serv, { ...ask, query });
  await worker.ask(serv, { ...ask, query });
  const { json } = await worker.ask(serv, { ...ask, query });
  expect(json.errors).toBeUndefined();
  return { ...json.data.nameByRowId, says: json.data.says };
}

describe("the text of a regclass and its like", () => {
  it("includes the schema in a dedicated instance, as PostgreSQL writes it without a search path", async () => {
    const { says, ...names } = await served("dedicated");
    expect(says).toBe("zoe.names");
    expect(names).toEqual(Object.fromEntries(columns.map((name) => [field(name), plain[name]])));
    expect(names).toMatchObject({
      ownClass: 'zoe."Odd name"',
      listType: "zoe.mood[]",
      class: "shared",
      procedure: "abs(integer)",
    });
    expect(names).toMatchObject({
      ownProcedure: "zoe.takes(zoe.mood,zoe.mood[],integer,lent.thing)",
      none: null,
    });
  });

  it("has no schema in a pooled instance, since it would be a single tenant's", async () => {
    // PostgreSQL itself adds the schema to a function or an operator whose name is ambiguous.
    const { overloaded: _function, oper: _operator, ...names } = await served("pooled");
    expect(JSON.stringify(names)).not.toMatch(/zoe/);
  });
});
