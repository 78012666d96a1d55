import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { revisionsOf } from "../../src/control/revisions.ts";
import { parseShape, shapeQuery } from "../../src/shape/shape.ts";
import { closureCases, closureSharedSql, closureTenantSql } from "../support/closure-cases.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { ddlCases } from "../support/ddl-cases.ts";
import { installGuard } from "../support/guard-control.ts";
import {
  dropRolesSql,
  inTenant,
  sharedSql,
  tenantOf,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

/**
 * Behind many ALTER commands of its transaction, what a command has changed is looked for in the catalogue at the end, among the rows
 * that the transaction wrote. This finds what a command does that leaves no such row.
 */
const acme = uniqueTenant("late");
const many = "alter table busy.t set (fillfactor = 90);".repeat(65);

let database: TestDatabase;
let client: Client;
let revisions: Readonly<Record<string, string>>;

beforeAll(async () => {
  database = await createDatabase("late_commands");
  await installGuard(database);
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query(inTenant(acme, sharedSql + closureSharedSql));
  await client.query(`begin; ${inTenant(acme, tenantSql + closureTenantSql)}; commit`);
  await client.query(
    inTenant(
      acme,
      `create schema busy; create table busy.t ();
      create table :app.bare_parent (); create table :app.bare_child () inherits (:app.bare_parent);
      create extension postgres_fdw; create server nowhere foreign data wrapper postgres_fdw;
      create foreign table :app.far () inherits (:app.bare_parent) server nowhere;
      create table :app.numbers (id int); create sequence :app.owned owned by :app.numbers.id;
      create table :app.child_orders () inherits (:app.customers);`,
    ),
  );
  await client.query("begin");
  const { text, values } = shapeQuery(tenantOf(acme), { revisions: true });
  ({ revisions } = parseShape((await client.query(text, values)).rows[0]));
  await client.query("rollback");
});

afterAll(async () => {
  await client.end();
  await database.execute(inTenant(acme, dropRolesSql));
  await database.drop();
});

/** Which of the tenant's revisions a statement moves, as a commit would, behind other commands of its transaction. */
async function movedBy(statement: string, before = ""): Promise<string[]> {
  await client.query("begin");
  try {
    await client.query(before + inTenant(acme, statement));
    await client.query("set constraints all immediate");
    const now = await revisionsOf(client, Object.keys(revisions));
    return Object.entries(revisions)
      .filter(([name, revision]) => now[name] !== revision)
      .map(([name]) => name);
  } finally {
    await client.query("rollback");
  }
}

describe("what a command moves by itself it moves also behind many others of its transaction", () => {
  /** What only deletes rows of the catalogue, or writes none of the kinds that a shape is made of. */
  const traceless = [
    "alter table :app.bare_child no inherit :app.bare_parent",
    "alter table :app.child_orders no inherit :app.customers",
    "alter foreign table :app.far no inherit :app.bare_parent",
    "do $$ begin begin alter table :app.bare_child no inherit :app.bare_parent; exception when division_by_zero then null; end; end $$",
    "alter sequence :app.owned owned by none",
    "alter table :app.orders disable trigger all",
    "alter table :app.customers disable trigger all",
    "alter table :app.orders drop constraint orders_customer_fkey",
    "alter table :app.customers drop constraint customers_email_key",
    "alter table :crm.contacts drop constraint contacts_seat_excl",
    "alter table :app.orders alter column doubled drop expression",
    "alter table :app.orders reset (fillfactor)",
    "alter domain :app.email drop constraint email_check",
    "alter table :app.customers alter column created drop default",
    "alter policy seen on :app.orders to :editor",
    "alter index :app.orders_customer reset (fillfactor)",
    "alter table :app.orders alter column note reset (n_distinct)",
    "alter table :app.orders alter column note set statistics 7",
    "alter type :app.address drop attribute street",
  ];
  /** Nothing is written to a child when its parent is renamed. Whoever serves the child has proven the parent's revision as well. */
  const besides = new Map([["alter table lib.vehicles rename to conveyances", `${acme}_app`]]);
  const statements = new Set([
    ...[...ddlCases, ...closureCases].map(([statement]) => statement),
    ...traceless,
  ]);

  it.each([...statements])("%s", async (statement) => {
    const alone = await movedBy(statement);
    const expected = alone.filter((name) => name !== besides.get(statement));
    expect(await movedBy(statement, many)).toEqual(expect.arrayContaining(expected));
    expect(expected.length > 0).toBe(alone.length > 0);
  });
});
