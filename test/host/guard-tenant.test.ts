import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { countOf, create, deafUrl, gatedMutation, Hand, held } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

const first = "{ itemByRowId(rowId: 1) { label } }";
const sameShape = "alter table item set (fillfactor = 90)";

let database: TenantDatabase;
let host: TestHost;
let hand: Hand;

/** A host on the control table without notifications: it learns of changes only from its guard. */
beforeAll(async () => {
  database = await createTenantDatabase("guard_tenant");
  for (const id of ["ada", "bob", "eve"]) {
    const { hosts, schemas, roles } = await database.tenant(id, gatedMutation);
    await database.query("insert into rowhouse.tenant (id, hosts, schemas, roles) values ($1, $2, $3, $4)", [
      id,
      hosts,
      JSON.stringify(schemas),
      JSON.stringify(roles),
    ]);
  }
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, listenUrl: deafUrl(database), install: false } },
      tenants: { table: { database: "main" } },
      pooling: true,
    },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});
beforeEach(async () => {
  hand = await Hand.open(database, "ada");
});
afterEach(() => hand.close());

describe("a write whose schema moved while it waited", () => {
  it("goes to the schema that the tenant's record names by then, and to no other", async () => {
    await host.data("ada", `mutation { ${create("before")} }`);
    const stored = await database.query(
      "select schemas, roles from rowhouse.tenant where id in ('ada', 'eve') order by id",
    );
    await hand.beginMigration();
    const writing = host.send("/graphql", {
      method: "POST",
      tenant: ["ada", "eve"],
      headers: { "x-tenant": "ada", "content-type": "application/json" },
      body: JSON.stringify({ query: `mutation { ${create("moved")} }` }),
    });
    await held(database);
    // The tenant moves to the schema that was eve's.
    await hand.run("update rowhouse.tenant set enabled = false where id = 'eve'");
    await hand.run(
      "update rowhouse.tenant set (schemas, roles) = (select schemas, roles from rowhouse.tenant where id = 'eve') where id = 'ada'",
    );
    await hand.run(sameShape);
    await hand.run("commit");
    expect(await writing).toMatchObject({
      status: 200,
      text: '{"data":{"made":{"item":{"label":"moved"}}}}',
    });
    expect([await countOf(database, "ada", "moved"), await countOf(database, "eve", "moved")]).toEqual([
      0, 1,
    ]);
    const [ada] = stored;
    await database.query("update rowhouse.tenant set schemas = $1, roles = $2 where id = 'ada'", [
      JSON.stringify(ada?.["schemas"]),
      JSON.stringify(ada?.["roles"]),
    ]);
    // No notification arrives; the host learns of it with the next change of the schema that it writes to.
    await database.change("eve", sameShape);
    await host.data("ada", `mutation { ${create("home again")} }`);
    expect([
      await countOf(database, "ada", "home again"),
      await countOf(database, "eve", "home again"),
    ]).toEqual([1, 0]);
    expect(await host.data("ada", first)).toEqual({ itemByRowId: { label: "canary_ada one" } });
  });

  it("gets TENANT_UNKNOWN if the record is gone, as do later requests; other tenants are still served", async () => {
    await host.data("ada", `mutation { ${create("still here")} }`);
    await hand.beginMigration();
    const writing = [1, 2, 3].map((n) => host.graphql("ada", `mutation { ${create(`gone ${n}`)} }`));
    await held(database, 3);
    await hand.run("delete from rowhouse.tenant where id = 'ada'");
    await hand.run(sameShape);
    await hand.run("commit");
    for (const answer of await Promise.all(writing)) {
      expect(answer).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
    }
    expect(await host.graphql("ada", "{ __typename }")).toMatchObject({
      status: 404,
      code: "TENANT_UNKNOWN",
    });
    const rows = await database.query(`select from ${schemaOf("ada")}.item where label like 'gone %'`);
    expect(rows).toEqual([]);
    await host.data("bob", `mutation { ${create("untouched")} }`);
    expect(await countOf(database, "bob", "untouched")).toBe(1);
    expect(await host.data("bob", first)).toEqual({ itemByRowId: { label: "canary_bob one" } });
  });
});
