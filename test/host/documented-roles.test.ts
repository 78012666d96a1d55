import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

/** An enum table, and a function that sends a notification during a read. */
const more = (grant: string): string => `
create table kind (name text primary key, description text);
comment on table kind is '@enum';
insert into kind values ('plain', 'As it is'), ('fancy', 'With more');
alter table item add column kind text references kind default 'plain';
create function read_aloud(what text) returns text language plpgsql stable as
  $$ begin perform pg_notify('read_aloud', current_schema() || ' ' || what); return what; end $$;
${grant}`;
const toAll = "grant select on kind to :role;";

const query = `{ allItems(first: 1, orderBy: PRIMARY_KEY_ASC) { nodes { label kind } } __type(name: "Kind") { enumValues { name description } } }`;
const answerOf = (id: string) => ({
  allItems: { nodes: [{ label: `canary_${id} one`, kind: "plain" }] },
  __type: {
    enumValues: [
      { name: "plain", description: "As it is" },
      { name: "fancy", description: "With more" },
    ],
  },
});

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("documented");
  const tenants = [
    await database.tenant("ada", more(toAll)),
    await database.tenant("bob", more(toAll)),
    await database.tenant("eve", more("")),
  ];
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      pooling: true,
    },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

describe("a host without rights of its own in tenants' schemas", () => {
  it("builds enums from tables that the tenants' roles may read, and pools those tenants", async () => {
    for (const tenant of ["ada", "bob"]) expect(await host.data(tenant, query)).toEqual(answerOf(tenant));
    const views = await Promise.all(["ada", "bob"].map((tenant) => host.adminJson(`/tenants/${tenant}`)));
    expect(views.map(({ kind, key }) => [kind, key])).toEqual([
      ["pooled", views[0].key],
      ["pooled", views[0].key],
    ]);
  });

  it("logs what to grant if nobody may read an enum table, and serves the tenant once that is done", async () => {
    expect(await host.graphql("eve", query)).toMatchObject({ status: 500, code: "BUILD_FAILED" });
    expect(host.process.output).toContain(
      "no role may read the rows of the enum table canary_eve.kind: grant select (name, description) on canary_eve.kind",
    );
    await database.change("eve", toAll);
    await expect.poll(async () => (await host.graphql("eve", query)).data).toEqual(answerOf("eve"));
  });

  it("delivers a STABLE function's notification, once", async () => {
    const heard: string[] = [];
    const listener = new Client({ connectionString: database.url });
    await listener.connect();
    listener.on("notification", ({ payload = "" }) => heard.push(payload));
    await listener.query("listen read_aloud");
    for (const tenant of ["ada", "bob"]) {
      expect(await host.data(tenant, `{ readAloud(what: "${tenant}'s") }`)).toEqual({
        readAloud: `${tenant}'s`,
      });
    }
    await expect.poll(() => heard).toEqual(["canary_ada ada's", "canary_bob bob's"]);
    await listener.end();
  });
});
