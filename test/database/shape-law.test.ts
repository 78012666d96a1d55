import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ShapeProbe } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { ddlCases, type Effect } from "../support/ddl-cases.ts";
import { labelledCatalogue } from "../support/labelled-catalogue.ts";
import {
  type Api,
  buildApi,
  coreCatalogueOf,
  inTenant,
  probe,
  sharedSql,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

const acme = uniqueTenant("acme");
const globex = uniqueTenant("globex");

const mostTooFine = 14;

let database: TestDatabase;
let client: Client;
let shape: ShapeProbe;
let api: Api;
/** What a build by the core shape is shown. */
let shown: ReturnType<typeof labelledCatalogue>;

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
  shown = labelledCatalogue(await coreCatalogueOf(client, acme));
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

const namedTwice = `
  create table :app.pairs (one int, other int, unique (one, other));
  create table :app.twins (twin int, foreign key (twin, twin) references :app.pairs (one, other));
  grant all on :app.pairs, :app.twins to :host`;

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
      const built = await buildApi(client, acme, { base: api });
      const differs = built.sdl !== api.sdl || built.sql.join() !== api.sql.join();
      const byCore = differs ? await buildApi(client, acme, { base: api, shape: "core", run: false }) : built;
      return {
        after,
        catalogue: await coreCatalogueOf(client, acme),
        full: after.shape !== shape.shape,
        core: after.core !== shape.core,
        api: differs,
        sdl: [built.sdl, byCore.sdl],
      };
    });
    // The law itself, whatever the table of cases expects.
    if (changed.api) expect(changed).toMatchObject({ full: true, core: true });
    if (changed.core) expect(changed.full).toBe(true);
    const effect: Effect = changed.api ? "api" : changed.core ? "hash" : changed.full ? "full" : "none";
    expect(effect).toBe(expected);
    // Builds are shown the same where the core shape is the same, and what they are not shown makes no difference.
    if (!changed.core) expect(labelledCatalogue(changed.catalogue)).toEqual(shown);
    expect(changed.sdl[1]).toBe(changed.sdl[0]);

    // Its other half: the same statement in another tenant yields the same shape.
    const elsewhere = await undone(async () => {
      await client.query(inTenant(globex, statement));
      return { ...(await probe(client, globex)), catalogue: await coreCatalogueOf(client, globex) };
    });
    const same = !/@foreignKey .* references :app/.test(statement);
    expect(elsewhere.shape === changed.after.shape).toBe(same);
    expect(elsewhere.core === changed.after.core).toBe(same);
    if (same) expect(labelledCatalogue(elsewhere.catalogue)).toEqual(labelledCatalogue(changed.catalogue));
  });

  it("an expression in an index tells only where a foreign key names a column twice", async () => {
    const built = (index: string) =>
      undone(async () => {
        await client.query(inTenant(acme, `${namedTwice}; create index on :app.twins ${index}`));
        const full = await buildApi(client, acme, { base: api, run: false });
        const core = await buildApi(client, acme, { base: api, shape: "core", run: false });
        expect(core.sdl).toBe(full.sdl);
        const catalogue = labelledCatalogue(await coreCatalogueOf(client, acme));
        return { sdl: full.sdl, hash: (await probe(client, acme)).core, catalogue };
      });
    const narrow = await built("(twin)");
    const wide = await built("(twin, (twin + 1))");
    expect(wide.sdl).not.toBe(narrow.sdl);
    expect(wide.hash).not.toBe(narrow.hash);
    const other = await built("((twin + 1), twin)");
    expect(other).toEqual(wide);
  });

  it("the core shape differs, and the API does not, in at most 65 of a thousand statements", () => {
    const tooFine = ddlCases.filter(([, effect]) => effect === "hash");
    // Each costs tenants that differ in it an instance; the number may only shrink.
    expect(tooFine.length).toBeLessThanOrEqual(mostTooFine);
    expect(tooFine.length / ddlCases.length).toBeLessThanOrEqual(0.065);
  });
});
