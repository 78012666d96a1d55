import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
} from "../support/host-tenants.ts";

/** Like a managed database: with the control schema, but without event triggers. */
let database: TenantDatabase;
const hosts: TestHost[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("untriggered");
  await database.execute(`
    drop event trigger rowhouse_ddl_command_end; drop event trigger rowhouse_sql_drop;
    grant execute on function rowhouse.begin_look, rowhouse.note_look to "${database.name}_host"`);
  const tenants = [await database.tenant("ada"), await database.tenant("bob")];
  const config = {
    databases: { main: { url: database.hostUrl, install: false } },
    tenants,
    pooling: true,
    guardPoll: 200,
  };
  for (let count = 0; count < 2; count += 1) {
    hosts.push(await TestHost.start({ config, connected: database.connected }));
  }
});

afterAll(async () => {
  for (const host of hosts) await host.stop();
  await database.drop();
});

const shown = (host: TestHost) => host.adminJson("/tenants/ada");

describe("without event triggers", () => {
  it("an operator can see how changes are found, and when the host last looked", async () => {
    for (const host of hosts) {
      await expect.poll(async () => (await shown(host)).changes.lookedAt, { timeout: 20_000 }).not.toBeNull();
      expect((await shown(host)).changes).toMatchObject({
        by: "looks",
        looksAt: "catalogue",
        everyMs: 200,
        moves: true,
      });
    }
  });

  it("every host finds a change by hand on its own: reads and writes use it, and other tenants are not affected", async () => {
    for (const host of hosts) expect(await host.data("ada", itemsQuery)).toEqual(itemsOf("ada"));
    const [first] = hosts;
    const bob = (await first?.adminJson("/tenants/bob"))?.revisions;
    await database.change("ada", "alter table item add column seen text default 'yes'");
    for (const host of hosts) {
      await expect
        .poll(async () => (await host.graphql("ada", "{ allItems { nodes { seen } } }")).data, {
          timeout: 20_000,
        })
        .toEqual({ allItems: { nodes: [{ seen: "yes" }, { seen: "yes" }, { seen: "yes" }] } });
    }
    const revisions = await Promise.all(
      hosts.map(async (host) => (await shown(host)).revisions[schemaOf("ada")]),
    );
    expect(new Set(revisions).size).toBe(1);
    expect((await first?.adminJson("/tenants/bob"))?.revisions).toEqual(bob);
    for (const host of hosts) {
      await host.data(
        "ada",
        'mutation { createItem(input: { item: { label: "canary_ada four", seen: "new" } }) { item { seen } } }',
      );
    }
  });

  it("a migration tool's touch_schemas moves the revision when it commits", async () => {
    const [host] = hosts;
    if (host === undefined) throw new Error("no host");
    const before = (await shown(host)).revisions[schemaOf("ada")];
    await database.change(
      "ada",
      `alter table item add column told int; select rowhouse.touch_schemas(array['${schemaOf("ada")}'])`,
    );
    await expect
      .poll(async () => (await shown(host)).revisions[schemaOf("ada")], { timeout: 20_000 })
      .not.toBe(before);
  });
});
