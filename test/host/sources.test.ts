import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

let database: TenantDatabase;
const databases = () => ({ main: { url: database.hostUrl, install: false } });

beforeAll(async () => {
  database = await createTenantDatabase("sources");
});

afterAll(() => database.drop());

const soon = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 20_000, interval: 50 });

describe("tenants of the control table", () => {
  let host: TestHost;
  const records: Record<string, TenantRecord> = {};

  const insert = ({ id, hosts, schemas, roles }: TenantRecord) =>
    database.query("insert into rowhouse.tenant (id, hosts, schemas, roles) values ($1, $2, $3, $4)", [
      id,
      hosts,
      JSON.stringify(schemas),
      JSON.stringify(roles),
    ]);

  beforeAll(async () => {
    for (const id of ["acme", "globex", "initech"]) records[id] = await database.tenant(id);
    host = await TestHost.start({
      config: { databases: databases(), tenants: { table: { database: "main" } }, pooling: true },
      connected: database.connected,
    });
  });
  afterAll(() => host.stop());

  it("are served as soon as they are added, without a restart", async () => {
    expect(await host.graphql("acme", itemsQuery)).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
    await insert(records["acme"] as TenantRecord);
    await soon(async () => expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme")));
    const byHost = await host.graphql("acme", itemsQuery, { headers: { host: "acme.example" } });
    expect(byHost.data).toEqual(itemsOf("acme"));
  });

  it("are served from other schemas as soon as their row says so", async () => {
    await insert(records["globex"] as TenantRecord);
    await soon(async () => expect(await host.data("globex", itemsQuery)).toEqual(itemsOf("globex")));
    const { schemas, roles } = records["initech"] as TenantRecord;
    await database.query("update rowhouse.tenant set schemas = $1, roles = $2 where id = 'globex'", [
      JSON.stringify(schemas),
      JSON.stringify(roles),
    ]);
    // Not with `graphql`: the sentinel would take initech's rows for a leak.
    await soon(async () => {
      const answer = await host.send("/graphql", {
        method: "POST",
        tenant: ["globex", "initech"],
        headers: { "x-tenant": "globex", "content-type": "application/json" },
        body: JSON.stringify({ query: itemsQuery }),
      });
      expect(JSON.parse(answer.text).data).toEqual(itemsOf("initech"));
    });
    expect(await host.adminJson("/tenants/globex")).toMatchObject({ schemas: { app: "canary_initech" } });
  });

  it("are unknown once they are disabled or deleted", async () => {
    await database.query("update rowhouse.tenant set enabled = false where id = 'acme'");
    await soon(async () =>
      expect(await host.graphql("acme", itemsQuery)).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" }),
    );
    expect(await host.graphql("acme", itemsQuery, { headers: { host: "acme.example" } })).toMatchObject({
      status: 404,
    });
    await database.query("update rowhouse.tenant set enabled = true where id = 'acme'");
    await soon(async () => expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme")));
    await database.query("delete from rowhouse.tenant where id = 'acme'");
    await soon(async () => expect(await host.graphql("acme", itemsQuery)).toMatchObject({ status: 404 }));
  });

  it("whose schema does not exist get SCHEMA_NOT_FOUND, and are served once it does", async () => {
    await insert({
      id: "later",
      hosts: [],
      schemas: { app: "canary_later" },
      roles: { anonymous: "nobody_yet" },
    });
    await soon(async () =>
      expect(await host.graphql("later", itemsQuery)).toMatchObject({
        status: 404,
        code: "SCHEMA_NOT_FOUND",
      }),
    );
    expect(await host.admin("/tenants/later")).toMatchObject({ status: 404 });
    const { roles } = await database.tenant("later");
    await database.query("update rowhouse.tenant set roles = $1 where id = 'later'", [JSON.stringify(roles)]);
    await soon(async () => expect(await host.data("later", itemsQuery)).toEqual(itemsOf("later")));
    await database.query("drop schema canary_later cascade");
    await soon(async () =>
      expect(await host.graphql("later", itemsQuery)).toMatchObject({
        status: 404,
        code: "SCHEMA_NOT_FOUND",
      }),
    );
  });
});

describe("tenants of a module", () => {
  it("are exactly those to which it resolves a request", async () => {
    const hooli = await database.tenant("hooli");
    const module = `
      const tenant: object = ${JSON.stringify({ ...hooli, hosts: undefined })};
      interface Facts { host: string | null; header(name: string): string | null }
      export async function resolve(facts: Facts): Promise<object | null> {
        return facts.host?.startsWith("shop.") && facts.header("x-key") === "let me in" ? tenant : null;
      }
      export async function list(): Promise<object[]> { return [tenant]; }
    `;
    const host = await TestHost.start({
      config: { databases: databases(), tenants: { module: "./tenants.ts" }, pooling: true },
      files: { "tenants.ts": module },
      connected: database.connected,
    });
    const ask = (headers: Record<string, string>) => host.graphql("hooli", itemsQuery, { headers });
    expect((await ask({ host: "shop.example", "x-key": "let me in" })).data).toEqual(itemsOf("hooli"));
    for (const headers of [{ host: "shop.example" }, { "x-tenant": "hooli" }, { "x-key": "let me in" }]) {
      expect(await ask(headers)).toMatchObject({ status: 404, code: "TENANT_UNKNOWN" });
    }
    expect(await host.adminJson("/tenants/hooli")).toMatchObject({ id: "hooli", kind: "pooled" });
    await host.stop();
  });
});
