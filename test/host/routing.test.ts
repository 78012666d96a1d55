import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("routing");
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [await database.tenant("acme"), await database.tenant("globex")],
      routing: ["path:/t/:tenant", "host", "header:x-tenant"],
      pooling: true,
      graphiql: true,
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

describe("a request", () => {
  it.each(["acme.example", "acme.example:8080", "ACME.Example", "acme.example.", "Acme.EXAMPLE.:443"])(
    "to the host %s goes to its tenant",
    async (name) => {
      const answer = await host.graphql("acme", itemsQuery, { headers: { host: name } });
      expect(answer).toMatchObject({ status: 200, data: itemsOf("acme") });
    },
  );

  it("with a header or a path prefix goes to the tenant that it names", async () => {
    expect(await host.data("globex", itemsQuery)).toEqual(itemsOf("globex"));
    const answer = await host.graphql("globex", itemsQuery, { headers: {}, path: "/t/globex/graphql" });
    expect(answer.data).toEqual(itemsOf("globex"));
  });

  it("goes only to the tenant of the first rule that matches", async () => {
    const path = "/t/globex/graphql";
    const both = await host.graphql("globex", itemsQuery, {
      headers: { host: "acme.example", "x-tenant": "acme" },
      path,
    });
    expect(both.data).toEqual(itemsOf("globex"));
    const unknown = { headers: { host: "acme.example" }, path: "/t/nobody/graphql" };
    expect(await host.graphql("nobody", itemsQuery, unknown)).toMatchObject({
      status: 404,
      code: "TENANT_UNKNOWN",
    });
  });

  it.each([
    ["no name", {}],
    ["an unknown host", { host: "other.example" }],
    ["a part of a host", { host: "example" }],
    ["an unknown id", { "x-tenant": "nobody" }],
    ["an id in another case", { "x-tenant": "ACME" }],
    ["an id that is a path", { "x-tenant": "../acme" }],
  ])("with %s is answered with 404", async (_, headers) => {
    const answer = await host.graphql("nobody", itemsQuery, { headers });
    expect(answer).toMatchObject({ status: 404, code: "TENANT_UNKNOWN", data: undefined });
  });

  it("by GET is refused unless the preset allows it", async () => {
    const query = new URLSearchParams({ query: "{ allItems { totalCount } }" });
    const headers = { "x-tenant": "acme", accept: "application/json" };
    const answer = await host.send(`/graphql?${query}`, { headers });
    expect(answer.status).toBe(405);
    expect(JSON.parse(answer.text).errors[0].extensions.code).toBe("METHOD_NOT_ALLOWED");
  });
});

describe("GraphiQL", () => {
  it.each([
    ["/t/acme/", "/t/acme", {}],
    ["/", "", { host: "acme.example" }],
  ])("at %s loads its assets from there, and queries the same tenant", async (path, base, headers) => {
    const page = await host.send(path, { headers: { ...headers, accept: "text/html" } });
    expect(page).toMatchObject({
      status: 200,
      headers: { "content-type": expect.stringContaining("text/html") },
    });
    expect(page.text).toContain(`${base}/graphql`);
    const assets = [
      ...page.text.matchAll(/(?:src|href)="(\/[^"]+)"|from\s*"(\/[^"]+)"|import\("(\/[^"]+)"\)/g),
    ]
      .flatMap(([, ...found]) => found.filter((each) => each !== undefined))
      .filter((each) => each.includes("ruru-static"));
    expect(assets.length).toBeGreaterThan(0);
    for (const asset of assets) {
      expect(asset.startsWith(`${base}/ruru-static/`)).toBe(true);
      const answer = await host.send(asset, { headers });
      expect({ asset, status: answer.status }).toEqual({ asset, status: 200 });
      expect(answer.text.length).toBeGreaterThan(100);
    }
  });
});
