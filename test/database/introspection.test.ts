import { makeIntrospectionQuery } from "pg-introspection";
import { lexicographicSortSchema, printSchema } from "postgraphile/graphql";
import { afterAll, beforeAll, describe, expect, it, type TestContext } from "vitest";
import { type IntrospectionScope, scopedIntrospection } from "../../workers/instance/introspection.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import {
  functionCases,
  type IntrospectionCase,
  sharedEnumSql,
  sharedSql,
  typeCases,
} from "../support/introspection-cases.ts";
import { enumTableCases, relationCases } from "../support/introspection-relation-cases.ts";
import { type Built, buildSdl } from "../support/sdl.ts";

/** Other tenants, enough to notice a lookup by name that finds one of theirs. */
const neighbours = 12;

/** Has no `@enum` tables except those that a test creates. */
let database: TestDatabase;
let withEnumTables: TestDatabase;

beforeAll(async () => {
  database = await createDatabase("introspection");
  withEnumTables = await createDatabase("introspection_enum");
  for (const each of [database, withEnumTables]) {
    await each.execute(sharedSql);
    for (let n = 1; n <= neighbours; n += 1) await each.execute(neighbourSql(`neighbour${n}`));
  }
  await withEnumTables.execute(sharedEnumSql);
});
afterAll(async () => {
  await database.drop();
  await withEnumTables.drop();
});

const neighbourSql = (s: string): string => `
  create schema ${s}; create type ${s}.mood as enum ('${s}'); create domain ${s}.d as text;
  create table ${s}.a (id int primary key, m ${s}.mood, d ${s}.d, c text references shared.country);
  create table ${s}.b (id int primary key, a_id int references ${s}.a); create type ${s}.pair as (x int, y ${s}.a);
  create function ${s}.a_long(a ${s}.a) returns text stable language sql as 'select null::text';
  create function ${s}.country_name(c shared.country) returns text stable language sql as 'select c.label';
  comment on table ${s}.b is '@foreignKey (id) references shared.region (id)';`;

const scopeOf = (schemas: readonly string[]): IntrospectionScope => ({
  schemas: schemas.map((physical, index) => ({ logical: `logical${index}`, physical })),
  sharedSchemas: ["shared", "public"],
});

let made = 0;

/** Creates the case's schemas and returns the names of the served ones. Skips, saying why, if the server lacks an extension. */
async function install(
  on: TestDatabase,
  one: IntrospectionCase,
  skip?: TestContext["skip"],
): Promise<string[]> {
  const available = await on.query<{ name: string }>(
    "select name from pg_available_extensions where name = any ($1)",
    [one.extensions ?? []],
  );
  const missing = (one.extensions ?? []).filter((name) => !available.some((row) => row.name === name));
  skip?.(missing.length > 0, `the server does not have ${missing.join(", ")}`);
  made += 1;
  const name = `case${made}`;
  const expand = (text: string): string => text.replaceAll("$s", name);
  await on.execute(`create schema ${name}; ${expand(one.sql)}`);
  return (one.schemas ?? ["$s"]).map(expand);
}

async function buildBoth(url: string, schemas: string[]): Promise<{ stock: Built; scoped: Built }> {
  const stock = await buildSdl(url, schemas, null);
  const scoped = await buildSdl(url, schemas, scopeOf(schemas));
  expect([stock.introspections, scoped.introspections]).toEqual([["stock"], ["scoped"]]);
  expect(scoped.sql).toEqual(stock.sql);
  expect(scoped.answer).toBe(stock.answer);
  return { stock, scoped };
}

const sorted = (built: Built): string => printSchema(lexicographicSortSchema(built.schema));

describe("scoped introspection builds the schema that stock introspection builds, in the same order, for", () => {
  it.for([...typeCases, ...functionCases, ...relationCases])("$name", async (one, { skip }) => {
    const schemas = await install(database, one, skip);
    if (one.fails) {
      await expect(buildSdl(database.url, schemas, null)).rejects.toThrow(one.fails);
      await expect(buildSdl(database.url, schemas, scopeOf(schemas))).rejects.toThrow(one.fails);
      return;
    }
    const { stock, scoped } = await buildBoth(database.url, schemas);
    if (one.shows) expect(stock.sdl).toMatch(one.shows);
    if (one.hides) expect(stock.sdl).not.toMatch(one.hides);
    expect(scoped.sdl).toBe(stock.sdl);
  });
});

// PostGraphile makes a codec of each `@enum` table of the whole database before anything else. Which promise is
// settled first afterwards, and so the order of the SDL, depends on that: on tables of other tenants (5.1.5).
describe("scoped introspection builds the schema that stock introspection builds, except for the order, for", () => {
  it.for(enumTableCases)("$name", async (one, { skip }) => {
    const schemas = await install(withEnumTables, one, skip);
    const { stock, scoped } = await buildBoth(withEnumTables.url, schemas);
    expect(stock.sdl).toMatch(one.shows ?? /./);
    expect(sorted(scoped)).toBe(sorted(stock));
  });

  it("another tenant with an enum table, which does not change the scoped one at all", async () => {
    const before = await buildSdl(withEnumTables.url, ["neighbour1"], scopeOf(["neighbour1"]));
    await withEnumTables.execute(`
      create table neighbour2.kind (k text primary key); comment on table neighbour2.kind is '@enum';
      insert into neighbour2.kind values ('one');`);
    const { stock, scoped } = await buildBoth(withEnumTables.url, ["neighbour1"]);
    expect(scoped.sdl).toBe(before.sdl);
    expect(sorted(scoped)).toBe(sorted(stock));
  });
});

describe("scoped introspection yields the permissions that stock introspection yields, for", () => {
  const role = (name: string): string => `${database.name}_${name}`;

  beforeAll(async () => {
    await database.execute(`
      create schema grants;
      create table grants.a (id int primary key, open text, shut text, given text);
      create table grants.unseen (id int primary key);
      create table grants.owned (id int primary key, c text references shared.country);
      create function grants.callable() returns int stable language sql as 'select 1';
      create function grants.forbidden() returns int stable language sql as 'select 1';
      revoke execute on function grants.forbidden() from public;
      ${["reader", "caller", "group", "group_of_groups", "heir", "stranger", "owner", "boss"]
        .map((name) => `create role ${role(name)} login password 'x';`)
        .join("\n")}
      create role ${role("proxy")} login password 'x' noinherit;
      alter role ${role("boss")} superuser;
      grant ${role("group_of_groups")} to ${role("group")}; grant ${role("group")} to ${role("heir")}, ${role("proxy")};
      grant ${role("boss")} to ${role("stranger")};
      grant usage on schema grants to public;
      grant select (id, open), update (open) on grants.a to ${role("reader")}, ${role("group_of_groups")};
      grant insert (given) on grants.a to ${role("group_of_groups")};
      grant execute on function grants.forbidden() to ${role("caller")}, ${role("group_of_groups")};
      alter table grants.owned owner to ${role("owner")};`);
  });

  it.for(["reader", "caller", "heir", "proxy", "owner", "stranger"])("%s", async (name) => {
    const url = database.urlAs(role(name), "x");
    const { stock, scoped } = await buildBoth(url, ["grants"]);
    expect(scoped.sdl).toBe(stock.sdl);
    expect(/forbidden/.test(stock.sdl)).toBe(name !== "reader" && name !== "owner");
    expect(/type Unseen/.test(stock.sdl)).toBe(name === "stranger");
    expect(/deleteOwned/.test(stock.sdl)).toBe(name === "owner" || name === "stranger");
  });

  it("a user who is a member of every tenant's role, without bringing those in", async () => {
    for (let n = 0; n < 20; n += 1) {
      await database.execute(
        `create role ${role(`tenant${n}`)}; grant ${role(`tenant${n}`)} to ${role("heir")};`,
      );
    }
    await database.execute(`grant delete on grants.a to ${role("tenant7")}`);
    const { stock, scoped } = await buildBoth(database.urlAs(role("heir"), "x"), ["grants"]);
    expect(stock.sdl).toMatch(/deleteA\(/);
    expect(scoped.sdl).toBe(stock.sdl);
    const { roles } = await introspect(["grants"]);
    const names = roles?.map((row) => row["rolname"]);
    expect(names).toContain(role("tenant7"));
    expect(names).not.toContain(role("tenant8"));
  });
});

type Rows = Record<string, Record<string, unknown>[]>;

async function introspect(schemas: string[] | null): Promise<Rows> {
  const stock = makeIntrospectionQuery();
  const { text, values } =
    schemas === null ? { text: stock, values: [] } : scopedIntrospection(stock, scopeOf(schemas));
  const [row] = await database.query<{ introspection: string }>(text, values);
  return JSON.parse(row?.introspection ?? "{}");
}

/** The keys that tie a row to a schema, or to something in one. Attributes are compared through the SDL: not all are kept. */
const ownerKeys = [
  ...["relnamespace", "connamespace", "pronamespace", "typnamespace", "enumtypid", "indrelid", "inhrelid"],
  ...["polrelid", "rngtypid", "objid", "objoid"],
];

describe("a scoped introspection's answer", () => {
  it("is a subset of the stock rows, unchanged and in the same order, with all those of the served schemas", async () => {
    const schemas: string[] = [];
    for (const one of [...typeCases, ...functionCases, ...relationCases]) {
      if (!one.extensions && !one.schemas) schemas.push(...(await install(database, one)));
    }
    const everything = await introspect(null);
    const some = await introspect(schemas);
    expect(Object.keys(some)).toEqual(Object.keys(everything));
    const served = new Set<unknown>(
      everything["namespaces"]?.flatMap((row) =>
        schemas.includes(String(row["nspname"])) ? row["_id"] : [],
      ),
    );
    for (const [list, rows] of Object.entries(everything)) {
      if (!Array.isArray(rows)) {
        expect(some[list]).toEqual(rows);
        continue;
      }
      const kept = new Set(some[list]?.map((row) => JSON.stringify(row)));
      expect(rows.filter((row) => kept.has(JSON.stringify(row)))).toEqual(some[list]);
      for (const row of rows) {
        if (!ownerKeys.some((key) => served.has(row[key]))) continue;
        served.add(row["_id"] ?? row);
        if (!kept.has(JSON.stringify(row))) expect.fail(`${list} lack ${JSON.stringify(row)}`);
      }
    }
    expect(some["classes"]?.length).toBeGreaterThan(100);
  });

  it("has no rows of other tenants, nor unrelated ones of a shared schema", async () => {
    // In pg_depend this looks like a function of that schema.
    await database.execute(`create function neighbour4.elsewhere() returns text stable language sql
      begin atomic select 'neighbour3'::regnamespace::text; end`);
    const { namespaces, classes, types, procs } = await introspect(["neighbour3"]);
    expect(namespaces?.map((row) => row["nspname"])).toEqual([
      "neighbour3",
      "pg_catalog",
      "public",
      "shared",
    ]);
    expect(classes?.map((row) => row["relname"])).not.toContain("unrelated");
    expect(procs?.map((row) => row["proname"])).toEqual(["a_long", "country_name"]);
    expect(types?.length).toBeLessThan(25);
  });
});
