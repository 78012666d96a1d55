import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ShapeProbe } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { ddlCases, type Effect } from "../support/ddl-cases.ts";
import {
  type Api,
  buildApi,
  inTenant,
  probe,
  sharedSql,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

const acme = uniqueTenant("acme");
const globex = uniqueTenant("globex");

const mostTooFine = 12;

let database: TestDatabase;
let client: Client;
let shape: ShapeProbe;
let api: Api;

/** Each statement runs in the same transaction and is rolled back, so fresh tenants cost nothing. */
async function undone<T>(work: () => Promise<T>): Promise<T> {
  await client.query("savepoint fresh");
  try {
    return await work();
  } finally {
    await client.query("rollback to savepoint fresh; release savepoint fresh");
  }
}

beforeAll(async () => {
  database = await createDatabase("shape_law");
  client = new Client({ connectionString: database.url });
  await client.connect();
  // Roles belong to the cluster; uncommitted, they are visible to no other test.
  await client.query("begin");
  await client.query(sharedSql);
  for (const tenant of [acme, globex]) await client.query(inTenant(tenant, tenantSql));
  shape = await probe(client, acme);
  api = await buildApi(client, acme);
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

describe("if the SDL or the generated SQL differs, the shape hash differs", () => {
  it("over more than 60 statements that change the API", () => {
    expect(ddlCases.length).toBeGreaterThan(60);
    expect(ddlCases.filter(([, effect]) => effect === "api").length).toBeGreaterThan(60);
    expect(new Set(ddlCases.map(([statement]) => statement)).size).toBe(ddlCases.length);
  });

  it("compared by documents that send SQL of every kind", () => {
    expect(api.sql.length).toBeGreaterThan(40);
    for (const verb of ["select", "insert into", "update", "delete from"]) {
      expect(api.sql.some((text) => text.includes(verb))).toBe(true);
    }
    expect(api.sql.filter((text) => text.includes("_app"))).toEqual([]);
  });

  it.each(ddlCases)("%s: %s", async (statement, expected) => {
    const changed = await undone(async () => {
      await client.query(inTenant(acme, statement));
      const after = await probe(client, acme);
      // The builds of known plugins are not shown more than the core shape covers, to the same effect.
      const built = await buildApi(client, acme, { base: api, shape: "core" });
      return {
        after,
        full: after.shape !== shape.shape,
        core: after.core !== shape.core,
        api: built.sdl !== api.sdl || built.sql.join() !== api.sql.join(),
      };
    });
    // The law itself, whatever the table of cases expects.
    if (changed.api) expect(changed).toMatchObject({ full: true, core: true });
    if (changed.core) expect(changed.full).toBe(true);
    const effect: Effect = changed.api ? "api" : changed.core ? "hash" : changed.full ? "full" : "none";
    expect(effect).toBe(expected);

    // Its other half: the same statement in another tenant yields the same shape.
    const elsewhere = await undone(async () => {
      await client.query(inTenant(globex, statement));
      return await probe(client, globex);
    });
    const same = !/@foreignKey .* references :app/.test(statement);
    expect(elsewhere.shape === changed.after.shape).toBe(same);
    expect(elsewhere.core === changed.after.core).toBe(same);
  });

  it("the core shape differs, and the API does not, in at most six of a hundred statements", () => {
    const tooFine = ddlCases.filter(([, effect]) => effect === "hash");
    // Each costs tenants that differ in it an instance; the number may only shrink.
    expect(tooFine.length).toBeLessThanOrEqual(mostTooFine);
    expect(tooFine.length / ddlCases.length).toBeLessThanOrEqual(0.06);
  });
});
