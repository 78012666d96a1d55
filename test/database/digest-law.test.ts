import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { digestQuery } from "../../src/control/digest.ts";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { closureCases, closureSharedSql, closureTenantSql } from "../support/closure-cases.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { ddlCases, type Effect } from "../support/ddl-cases.ts";
import {
  dropRolesSql,
  inTenant,
  sharedSql,
  tenantOf,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

/** Changes of a shape that are in no catalogue row that a digest covers, nor in any schema. */
const exceptions = new Set([
  "grant :editor to :host",
  "alter role :host superuser",
  "alter role :editor rename to law_editor",
  "grant insert on :app.animals to :editor; grant :editor to :host",
]);
/** Rows of tables, which a digest of the catalogue does not cover. */
const isRows = (statement: string): boolean => /^(insert|update|delete) /.test(statement);

const acme = uniqueTenant("acme");

let database: TestDatabase;
let client: Client;
let proven: readonly string[];
let before: ReadonlyMap<string, string>;

async function digests(): Promise<Map<string, string>> {
  const { rows } = await client.query<{ name: string; digest: string }>(
    `select name, digest::text from (${digestQuery}) seen`,
  );
  return new Map(rows.map(({ name, digest }) => [name, digest]));
}

/** The schemas whose digest differs after `sql`, which is rolled back. */
async function differing(sql: string): Promise<string[]> {
  await client.query("begin");
  try {
    await client.query(inTenant(acme, sql));
    const after = await digests();
    return [...new Set([...before.keys(), ...after.keys()])]
      .filter((name) => before.get(name) !== after.get(name))
      .sort();
  } finally {
    await client.query("rollback");
  }
}

beforeAll(async () => {
  database = await createDatabase("digest_law");
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query("set jit = off");
  await client.query(inTenant(acme, sharedSql + closureSharedSql));
  await client.query(`begin; ${inTenant(acme, tenantSql + closureTenantSql)}; commit`);
  const { text, values } = shapeQuery(tenantOf(acme));
  proven = Object.keys(parseShape((await client.query(text, values)).rows[0]).revisions);
  before = await digests();
});

afterAll(async () => {
  await client.end();
  await database.execute(inTenant(acme, dropRolesSql));
  await database.drop();
});

describe("if a DDL command changes the shape's hash, the digest of a schema that the shape depends on changes", () => {
  const known = new Map<string, Effect>([...ddlCases, ...closureCases]);
  const telling = [...known].flatMap(([statement, effect]) =>
    effect === "none" || exceptions.has(statement) || isRows(statement) ? [] : [statement],
  );

  it.each(telling)("%s", async (statement) => {
    const seen = await differing(statement);
    expect(seen.filter((name) => proven.includes(name))).not.toEqual([]);
  });
});

describe("a command that changes no definition changes no digest", () => {
  it.each([
    "insert into :app.customers (name) values ('Ann')",
    "truncate :crm.contacts",
    "refresh materialized view :app.totals",
    "analyze",
    "reindex table :app.orders",
    "create temp table scratch (id int primary key)",
    "select nextval(':app.animals_id_seq')",
    "lock table :app.orders",
    "create table elsewhere.fans (id int references :app.customers)",
  ])("%s", async (statement) => {
    const seen = await differing(statement);
    expect(seen.filter((name) => name !== "elsewhere")).toEqual([]);
  });
});
