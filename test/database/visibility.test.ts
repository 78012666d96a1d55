import { describe, expect, it } from "vitest";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { searchPathText } from "../../src/shared/postgres/search-path.ts";
import { freshInput, freshSchemas } from "../support/fresh-schemas.ts";

const fresh = freshSchemas("visibility");
const { hiddenAfter } = fresh;

const returningInt = "returns int language sql as 'select 1'";

const hiddenCases: readonly (readonly [law: string, sql: string, hidden: readonly string[]])[] = [
  ["a table named like a catalogue table", "create table one.pg_class (id int)", ["table one.pg_class"]],
  ["a view named like one", "create view two.pg_roles as select 1 as id", ["view two.pg_roles"]],
  [
    "a materialized view named like one",
    "create materialized view one.pg_stats as select 1 as id",
    ["materialized view one.pg_stats"],
  ],
  [
    "a partitioned table named like one",
    "create table one.pg_am (id int) partition by list (id)",
    ["table one.pg_am"],
  ],
  [
    "a table whose row type is named like a built-in type",
    "create table one.name (id int)",
    ["type one.name"],
  ],
  ["an enum named like a built-in type", "create type one.date as enum ('a')", ["type one.date"]],
  ["a domain named like one", "create domain two.text as varchar", ["type two.text"]],
  [
    "the later of two relations of one name in two served schemas",
    "create table one.users (id int); create table two.users (id int)",
    ["table two.users"],
  ],
  [
    "a table hidden by a sequence of an earlier schema",
    "create sequence one.users; create table two.users (id int)",
    ["table two.users"],
  ],
  [
    "the later of two types of one name in two served schemas",
    "create type one.mood as enum ('a'); create domain two.mood as int",
    ["type two.mood"],
  ],
  [
    "the later of two functions with equal arguments in two served schemas",
    `create function one.f(int) ${returningInt}; create function two.f(int) ${returningInt}`,
    ["function two.f(integer)"],
  ],
  [
    "functions of one name and different arguments in two served schemas, both of them",
    `create function one.f(int) ${returningInt}; create function two.f(text) ${returningInt}`,
    ["function one.f(integer)", "function two.f(text)"],
  ],
  [
    "a function that might be confused with a shared one",
    `create function one.f(anyelement) ${returningInt}; create function public.f(text) ${returningInt}`,
    ["function one.f(anyelement)"],
  ],
  [
    "a function named like a built-in one, whatever its arguments",
    `create domain one.email as text; create function one.lower(one.email) ${returningInt}`,
    ["function one.lower(one.email)"],
  ],
  [
    "an operator named like a built-in one",
    `create type one.mood as enum ('a'); create function one.same(one.mood, one.mood) returns boolean language sql as 'select true';
     create operator one.= (function = one.same, leftarg = one.mood, rightarg = one.mood)`,
    ["operator one.=(one.mood, one.mood)"],
  ],
  [
    "a column's type outside the search path",
    "create type private.mood as enum ('a'); create table one.t (mood private.mood)",
    ["type private.mood"],
  ],
  [
    "such a type in an array",
    "create type private.mood as enum ('a'); create table one.t (moods private.mood[])",
    ["type private.mood"],
  ],
  [
    "such a type under a domain",
    "create type private.mood as enum ('a'); create domain one.good as private.mood",
    ["type private.mood"],
  ],
  [
    "such a type within a range",
    "create type private.part as enum ('a', 'b'); create type one.parts as range (subtype = private.part)",
    ["type private.part"],
  ],
  [
    "such a type within a shared composite",
    "create type private.mood as enum ('a'); create type public.pair as (mood private.mood); create table one.t (pair public.pair)",
    ["type private.mood"],
  ],
  [
    "a table outside the search path whose rows a function returns",
    "create table private.t (id int); create function one.f() returns setof private.t language sql as 'select 1'",
    ["type private.t"],
  ],
];

const visibleCases: readonly (readonly [law: string, sql: string])[] = [
  ["unique names", `create table one.users (id int); create function one.f(one.users) ${returningInt}`],
  ["a name that only a later schema has too", "create table two.a (id int); create table public.a (id int)"],
  [
    "overloads within one schema",
    `create function one.f(int) ${returningInt}; create function one.f(text) ${returningInt}`,
  ],
  [
    "a function that a later schema repeats",
    `create function one.f(int) ${returningInt}; create function public.f(int) ${returningInt}`,
  ],
  [
    "types of pg_catalog and of a shared schema",
    "create domain public.d as text; create table one.t (d public.d, n int[])",
  ],
  [
    "a table that only a foreign key reaches",
    "create table private.t (id int primary key); create table one.t (id int references private.t)",
  ],
  ["an index or a sequence hidden by an earlier one", "create sequence one.s; create sequence two.s"],
  ["a temporary table of the same name", "create table one.t (id int); create temp table t (id int)"],
  [
    "a trigger function, which is called by oid",
    "create function one.lower() returns trigger language plpgsql as 'begin end'",
  ],
  ["an extension's functions and operators", "create extension citext schema two"],
  [
    "an operator with a unique name",
    "create operator one.=== (function = int4eq, leftarg = int, rightarg = int)",
  ],
  [
    "an array type hidden by an earlier type",
    "create type one._t as enum ('a'); create type two.t as enum ('a')",
  ],
];

describe("an object is hidden if its bare name does not find it", () => {
  it.each(hiddenCases)("hidden: %s", async (_law, sql, hidden) => {
    expect(await hiddenAfter(sql)).toEqual(hidden);
  });

  it.each(visibleCases)("not hidden: %s", async (_law, sql) => {
    expect(await hiddenAfter(sql)).toEqual([]);
  });

  it("each is reported with what its bare name finds instead", async () => {
    await fresh.client.query(`create schema aside; create type aside.coin as enum ('a');
      create table one.users (id int); create table two.users (id int);
      create table one.pg_class (id int, coin aside.coin); create type two.date as enum ('a');
      create function one.current_user() ${returningInt};
      create function one.f(a int) ${returningInt}; create function two.f(a text) ${returningInt}`);
    const { hidden, found } = parseShape((await fresh.client.query(shapeQuery(freshInput))).rows[0]);
    expect(Object.fromEntries(hidden.map((object, index) => [object, found[index]]))).toEqual({
      'function one."current_user"()': 'pg_catalog."current_user"',
      "function one.f(a integer)": "two.f",
      "function two.f(a text)": "one.f",
      "table one.pg_class": "pg_catalog.pg_class",
      "table two.users": "one.users",
      "type aside.coin": null,
      "type two.date": "pg_catalog.date",
    });
  });

  it("names are quoted where SQL requires it", async () => {
    await fresh.client.query('create schema "My App"; create table "My App"."pg_class" (id int)');
    const schemas = [{ logical: "app", physical: "My App" }];
    const probe = parseShape((await fresh.client.query(shapeQuery({ ...freshInput, schemas }))).rows[0]);
    expect(probe.hidden).toEqual(['table "My App".pg_class']);
  });

  it.each([...hiddenCases, ...visibleCases].map(([law, sql]) => [law, sql] as const))(
    "PostgreSQL itself finds every object that is not reported: %s",
    async (_law, sql) => {
      const hidden = await hiddenAfter(sql);
      await fresh.client.query("select set_config('search_path', $1, true)", [
        searchPathText(["one", "two", "public"]),
      ]);
      const { rows } = await fresh.client.query<{ name: string }>(
        `with own(oid, nspname) as (select oid, nspname from pg_namespace where nspname in ('one', 'two'))
       select nspname || '.' || relname as name from pg_class join own on own.oid = relnamespace
       where relkind in ('r', 'v', 'm', 'f', 'p') and not pg_table_is_visible(pg_class.oid)
       union select nspname || '.' || typname from pg_type join own on own.oid = typnamespace
       where typcategory <> 'A' and not pg_type_is_visible(pg_type.oid)
       union select nspname || '.' || proname from pg_proc join own on own.oid = pronamespace
       where prorettype <> 'trigger'::regtype and not pg_function_is_visible(pg_proc.oid)`,
      );
      const known = hidden.map((name) => name.replace(/^.* /, "").replace(/\(.*/, ""));
      for (const { name } of rows) expect(known).toContain(name);
    },
  );

  it("a host without rights on the tenant's schemas gets the same result", async () => {
    const role = `nobody_${fresh.name}`;
    await fresh.client.query(`create role ${role}`);
    expect(await hiddenAfter("create table one.a (id int); create table one.pg_class (id int)")).toEqual(
      await hiddenAfter(`set local role ${role}`),
    );
  });
});

describe("a hidden object counts as needed, as far as can be seen without a build,", () => {
  const version = `create function one.version() ${returningInt}`;
  const neededAfter = async (sql: string): Promise<Record<string, boolean | undefined>> => {
    await fresh.client.query(sql);
    const { hidden, needed } = parseShape((await fresh.client.query(shapeQuery(freshInput))).rows[0]);
    return Object.fromEntries(hidden.map((object, index) => [object, needed[index]]));
  };

  it.each([
    ["", true],
    ["@behavior -*", false],
    ["@behavior -queryField -mutationField", false],
    ["  @behavior\t+a -*", false],
    ["@omit", false],
    ["@omit *", false],
    ["@omit execute", false],
    ["@omit create, execute", false],
    ["@omit :XF", false],
    ["@name other\n@omit\r\nA text.", false],
    ["\n@behavior -*\nA text.", false],
    ["@omit filter", true],
    ["@behavior -filterBy", true],
    ["@behavior +queryField", true],
    ["@omitted", true],
    ["@name -*", true],
    ["A text.\n@omit", true],
    ["see @omit", true],
  ])("if it is a function with the comment %j: %s", async (comment, needed) => {
    const said = fresh.client.escapeLiteral(comment);
    expect(await neededAfter(`${version}; comment on function one.version is ${said}`)).toEqual({
      "function one.version()": needed,
    });
  });

  it("if it is a relation, unless a tag on it or on its type leaves it out", async () => {
    expect(
      await neededAfter(`create table one.pg_class (id int); create table one.pg_type (id int); create view one.pg_roles as select 1 as id;
        comment on table one.pg_class is '@behavior -*'; comment on type one.pg_type is '@omit read';
        comment on column one.pg_roles.id is '@omit'`),
    ).toEqual({ "table one.pg_class": false, "table one.pg_type": false, "view one.pg_roles": true });
  });

  it("if it is a type, only when a table or function that is not left out uses it", async () => {
    expect(
      await neededAfter(`create type private.a as enum ('a'); create type private.b as enum ('b'); create type private.c as enum ('c');
        create domain one.c_domain as private.c; create type one.date as enum ('d');
        create function one.f(private.a[]) ${returningInt}; create table one.t (b private.b, c one.c_domain);
        create function one.g(private.b) ${returningInt};
        comment on function one.f is '@omit'; comment on function one.g is '@omit'`),
    ).toEqual({
      "type private.a": false,
      "type private.b": true,
      "type private.c": true,
      "type one.date": false,
    });
  });

  it("if it is a function, unless it is variadic or overloaded, which PostGraphile leaves out by itself", async () => {
    expect(
      await neededAfter(`create aggregate one.max(text) (sfunc = text_larger, stype = text);
        create function one.lower(int) ${returningInt}; create function one.lower(text) ${returningInt};
        create function two.abs(int) ${returningInt}; create function one.concat(variadic a int[]) ${returningInt}`),
    ).toEqual({
      "function one.concat(VARIADIC a integer[])": false,
      "function one.lower(integer)": false,
      "function one.lower(text)": false,
      "function one.max(text)": true,
      "function two.abs(integer)": true,
    });
  });

  it("and one that is not needed is described without the tenant's physical names", async () => {
    const dispensableOf = async (schemas: readonly string[]) => {
      const [one = "", two = ""] = schemas;
      await fresh.client.query(`create domain ${one}.email as text; create function ${one}.lower(${one}.email, text) ${returningInt};
        comment on function ${one}.lower is '@omit'`);
      const input = {
        ...freshInput,
        schemas: [
          { logical: "app", physical: one },
          { logical: "crm", physical: two },
        ],
      };
      return parseShape((await fresh.client.query(shapeQuery(input))).rows[0]).dispensable;
    };
    await fresh.client.query("create schema three");
    const [first] = await dispensableOf(["one", "two"]);
    const [second] = await dispensableOf(["three", "two"]);
    expect(first).toMatchObject({
      kind: "function",
      schema: "one",
      name: "lower",
      finds: "pg_catalog.lower",
    });
    expect(second).toMatchObject({ schema: "three", arguments: first?.arguments });
    expect(first?.arguments).toMatch(/app\.email/);
  });
});

describe("the search path", () => {
  it("of the session is not changed, and has no effect", async () => {
    await fresh.client.query("set local search_path = two, one");
    expect(await hiddenAfter("create table one.users (id int); create table two.users (id int)")).toEqual([
      "table two.users",
    ]);
    expect((await fresh.client.query("show search_path")).rows).toEqual([{ search_path: "two, one" }]);
  });

  it("finds schemas with names that PostgreSQL would fold, split or read as keywords", async () => {
    const odd = ["Fold", "a,b", "select", 'quo"te', "sp ace", "ünïcode"];
    await fresh.client.query("select set_config('search_path', $1, true)", [searchPathText(odd)]);
    for (const schema of odd)
      await fresh.client.query(`create schema ${JSON.stringify(schema).replace('\\"', '""')}`);
    const { rows } = await fresh.client.query("select current_schemas(false)::text[] as found");
    expect(rows).toEqual([{ found: odd }]);
  });
});
