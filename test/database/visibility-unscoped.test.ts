import { expect, it } from "vitest";
import { freshSchemas } from "../support/fresh-schemas.ts";

const { hiddenAfter } = freshSchemas("visibility_unscoped");

const type = "information_schema.sql_identifier";

it.each([
  ["a column has", `create table one.t (name ${type})`],
  ["a column has in an array", `create table one.t (names ${type}[])`],
  [
    "a column has in a composite",
    `create type two.pair as (name ${type}); create table one.t (pair two.pair)`,
  ],
  ["is under a domain", `create domain one.d as ${type}`],
  ["is within a range", `create type one.names as range (subtype = ${type})`],
  ["a function takes", `create function one.f(${type}) returns int language sql as 'select 1'`],
  ["a function returns", `create function one.f() returns ${type} language sql as 'select null'`],
])(
  "hidden, though outside any tenant's scope: a type of PostgreSQL's own, outside pg_catalog, that %s",
  async (_how, sql) => {
    expect(await hiddenAfter(sql)).toEqual([`type ${type}`]);
  },
);
