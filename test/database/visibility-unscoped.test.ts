import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createDatabase("visibility_unscoped");
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query("begin; create schema one; create schema two; savepoint fresh");
});

beforeEach(async () => {
  await client.query("rollback to savepoint fresh");
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const input = {
  schemas: [
    { logical: "app", physical: "one" },
    { logical: "crm", physical: "two" },
  ],
  sharedSchemas: ["public"],
  roles: { anonymous: null, authenticated: null },
};

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
  ["a function gives", `create function one.f() returns ${type} language sql as 'select null'`],
])(
  "hidden, though it is in no tenant's scope: a type of PostgreSQL's own, but not of pg_catalog, that %s",
  async (_how, sql) => {
    await client.query(sql);
    expect(parseShape((await client.query(shapeQuery(input))).rows[0]).hidden).toEqual([`type ${type}`]);
  },
);
