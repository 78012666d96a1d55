import { describe, expect, it } from "vitest";
import { listSource } from "../../src/tenants/list-source.ts";
import {
  createRouter,
  parseRoutingRule,
  type RequestFacts,
  type TenantLookup,
} from "../../src/tenants/router.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";

const tenants = ["acme", "globex"].map((id) =>
  parseTenant({ id, hosts: [`${id}.example`], schemas: [id] }, { database: "main", databases: ["main"] }),
);
const source = listSource(tenants);
/** The same, by answers that come later. */
const slow: TenantLookup = {
  byId: async (id) => source.byId(id),
  byHost: async (host) => source.byHost(host),
  resolve: null,
};

function facts({ path = "/graphql", host = null as string | null, headers = {} as Record<string, string> }) {
  return {
    method: "POST",
    path,
    query: "",
    host,
    header: (name) => headers[name.toLowerCase()] ?? null,
    remoteAddress: null,
  } satisfies RequestFacts;
}

function router(rules: readonly string[], of: TenantLookup) {
  return createRouter(
    rules.map((text) => {
      const rule = parseRoutingRule(text);
      if (rule === undefined) throw new Error(`no rule: ${text}`);
      return rule;
    }),
    of,
  );
}

async function routed(rules: string[], request: Parameters<typeof facts>[0]) {
  const asked = facts(request);
  const [atOnce, later] = [router(rules, source), router(rules, slow)];
  const found = [atOnce.route(asked), later.route(asked), atOnce.route(asked), later.route(asked)];
  const [first, ...others] = (await Promise.all(found)).map(
    (each) => each && [each.tenant.id, each.path, each.basePath],
  );
  // Whether a source answers at once, and whether the router has seen the host before, makes no difference.
  for (const other of others) expect(other).toEqual(first);
  return first ?? null;
}

describe("a routing rule", () => {
  it.each([
    "host",
    "header:x-tenant",
    "header: X-Tenant",
    "path:/t/:tenant",
    "path:/:tenant",
    "path:/a/:tenant/api",
  ])("may be %s", (text) => {
    expect(parseRoutingRule(text)).toBeDefined();
  });

  it.each([
    "",
    "Host",
    "hosts",
    "header:",
    "header:a b",
    "path:t/:tenant",
    "path:/t",
    "path:/",
    "path:/:tenant/:tenant",
    "path:/../:tenant",
    "path:/t//:tenant",
    "path:/t/:other",
    "path:/t/:tenant/",
    "cookie:x",
  ])("cannot be %s", (text) => {
    expect(parseRoutingRule(text)).toBeUndefined();
  });
});

describe("by host", () => {
  it.each(["acme.example", "ACME.example", "acme.example:5678", "acme.example.", "Acme.Example.:443"])(
    "%s finds acme",
    async (host) => {
      expect(await routed(["host"], { host })).toEqual(["acme", "/graphql", ""]);
    },
  );

  it.each([
    null,
    "",
    "other.example",
    "acme.example.evil.example",
    "acme.example, globex.example",
    "acme.example@globex.example",
  ])("%s finds nobody", async (host) => {
    expect(await routed(["host"], { host })).toBeNull();
  });
});

describe("by header", () => {
  const rules = ["header:x-tenant"];

  it("the tenant with that id is found", async () => {
    expect(await routed(rules, { headers: { "x-tenant": "globex" } })).toEqual(["globex", "/graphql", ""]);
  });

  it.each(["", "nobody", "GLOBEX", "acme, globex", "../acme", "a\0"])("%j finds nobody", async (value) => {
    expect(await routed(rules, { headers: { "x-tenant": value } })).toBeNull();
  });
});

describe("by path", () => {
  const rules = ["path:/t/:tenant"];

  it.each([
    ["/t/acme/graphql", ["acme", "/graphql", "/t/acme"]],
    ["/t/acme", ["acme", "/", "/t/acme"]],
    ["/t/acme/", ["acme", "/", "/t/acme"]],
    ["/t/acme/a%2Fb", ["acme", "/a%2Fb", "/t/acme"]],
    ["/t/%61cme/graphql", ["acme", "/graphql", "/t/acme"]],
    ["/%74/acme/graphql", ["acme", "/graphql", "/t/acme"]],
    ["/t/acme/t/globex/graphql", ["acme", "/t/globex/graphql", "/t/acme"]],
  ])("%s is split at the tenant", async (path, expected) => {
    expect(await routed(rules, { path })).toEqual(expected);
  });

  it.each([
    "/graphql",
    "/t",
    "/t/",
    "/t//graphql",
    "/T/acme/graphql",
    "/x/t/acme/graphql",
    "/t/%zz/graphql",
    "/t/%2561cme/graphql",
    "/t%2Facme/graphql",
    "/t/..%2Facme/graphql",
    "t/acme/graphql",
    "//t/acme/graphql",
  ])("%s finds nobody", async (path) => {
    expect(await routed(rules, { path })).toBeNull();
  });

  it("a prefix may have segments after the tenant", async () => {
    expect(await routed(["path:/api/:tenant/v1"], { path: "/api/acme/v1/graphql" })).toEqual([
      "acme",
      "/graphql",
      "/api/acme/v1",
    ]);
  });
});

describe("several rules", () => {
  it("are tried in order: the first that finds a tenant wins", async () => {
    const request = { host: "acme.example", headers: { "x-tenant": "globex" } };
    expect((await routed(["host", "header:x-tenant"], request))?.[0]).toBe("acme");
    expect((await routed(["header:x-tenant", "host"], request))?.[0]).toBe("globex");
  });

  it("skip a host that belongs to nobody", async () => {
    const request = { host: "127.0.0.1:5678", headers: { "x-tenant": "globex" } };
    expect((await routed(["host", "header:x-tenant"], request))?.[0]).toBe("globex");
  });

  it("never serve a request for one tenant as another", async () => {
    const byHeader = { host: "acme.example", headers: { "x-tenant": "nobody" } };
    expect(await routed(["header:x-tenant", "host"], byHeader)).toBeNull();
    const byPath = { host: "acme.example", path: "/t/nobody/graphql" };
    expect(await routed(["path:/t/:tenant", "host"], byPath)).toBeNull();
  });
});

describe("a source that chooses for itself", () => {
  const rules = [{ kind: "host" }, { kind: "path", segments: ["t", null] }] as const;
  const [acme = null] = tenants;
  const choosing = createRouter(rules, { ...source, resolve: async () => acme });

  it("decides whatever the rules say", async () => {
    expect((await choosing.route(facts({ host: "globex.example" })))?.tenant.id).toBe("acme");
    const none = createRouter(rules, { ...source, resolve: async () => null });
    expect(await none.route(facts({ host: "acme.example" }))).toBeNull();
  });

  it("has a prefix removed only if it names the chosen tenant", async () => {
    expect(await choosing.route(facts({ path: "/t/acme/graphql" }))).toMatchObject({
      path: "/graphql",
      basePath: "/t/acme",
    });
    expect(await choosing.route(facts({ path: "/t/globex/graphql" }))).toMatchObject({
      path: "/t/globex/graphql",
      basePath: "",
    });
  });
});
