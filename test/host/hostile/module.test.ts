import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../../support/host.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../../support/host-tenants.ts";
import { look, type Untouched } from "../../support/hostile-host.ts";

let database: TenantDatabase;
let acme: TenantRecord;
let host: TestHost;
let before: Untouched;

/** A request chooses the module's answer by its name. */
const module = (tenant: string): string => `
const acme = ${tenant};
const answers = {
  acme: () => acme,
  throws: () => { throw new Error("the module's secret"); },
  "throws nothing": () => { throw undefined; },
  rejects: () => Promise.reject(new Error("the module's secret")),
  hangs: () => new Promise(() => {}),
  null: () => null,
  undefined: () => undefined,
  false: () => false,
  number: () => 7,
  text: () => "acme",
  list: () => [acme],
  function: () => () => acme,
  empty: () => ({}),
  "another id": () => ({ ...acme, id: "../acme" }),
  "an id of SQL": () => ({ ...acme, id: 'acme"; drop schema canary_acme cascade; --' }),
  "no schemas": () => ({ ...acme, schemas: {} }),
  "a schema of SQL": () => ({ ...acme, id: "odd", schemas: { app: 'x"; drop schema canary_acme cascade; --' } }),
  "a schema with a newline": () => ({ ...acme, id: "odd", schemas: { app: "canary_acme\\n" } }),
  "a schema with a NUL": () => ({ ...acme, id: "odd", schemas: { app: "canary\\0acme" } }),
  "a schema of dollars": () => ({ ...acme, id: "odd", schemas: { app: "$$canary_acme$$" } }),
  "a schema of a comma": () => ({ ...acme, id: "odd", schemas: { app: 'canary_acme", "canary_globex' } }),
  "PostgreSQL's schema": () => ({ ...acme, schemas: { app: "pg_catalog" } }),
  "the control schema": () => ({ ...acme, schemas: { app: "rowhouse" } }),
  "another database": () => ({ ...acme, database: "other" }),
  "a key of nobody's": () => ({ ...acme, superuser: true }),
  "a role of SQL": () => ({ ...acme, id: "odd", roles: { anonymous: 'x"; set role postgres; --' } }),
  "the superuser's role": () => ({ ...acme, id: "odd", roles: { anonymous: "postgres" } }),
  "a getter that throws": () => ({ get id() { throw new Error("the module's secret"); } }),
  "a proxy": () => new Proxy({}, { get() { throw new Error("the module's secret"); } }),
  "a thenable that throws": () => ({ then() { throw new Error("the module's secret"); } }),
  "a thenable that never ends": () => ({ then() {} }),
  "a circle": () => { const value = { ...acme }; value.settings = { value }; return value; },
};
export const resolve = (facts) => answers[facts.header("x-answer")]?.() ?? null;
export const list = () => [acme, { id: 7 }, null, "x"];
`;

beforeAll(async () => {
  database = await createTenantDatabase("modules");
  acme = await database.tenant("acme");
  const { hosts: _, ...record } = acme;
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: { module: "./tenants.mjs" },
    },
    files: { "tenants.mjs": module(JSON.stringify(record)) },
    connected: database.connected,
  });
  expect(await ask("acme", "acme")).toMatchObject({ status: 200, data: itemsOf("acme") });
  before = await look({ database, host, tenants: [acme] });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

const ask = (answer: string, tenant = "nobody") =>
  host.graphql(tenant, itemsQuery, { headers: { "x-answer": answer } });
const internal = [500, "INTERNAL"] as const;
const unknown = [404, "TENANT_UNKNOWN"] as const;
const missing = [404, "SCHEMA_NOT_FOUND"] as const;

describe("a tenants module with the answer", () => {
  it.each<[string, number, string]>([
    ["throws", ...internal],
    ["throws nothing", ...internal],
    ["rejects", ...internal],
    ["hangs", ...internal],
    ["null", ...unknown],
    ["undefined", ...unknown],
    ["nobody", ...unknown],
    ["__proto__", ...internal],
    ["toString", ...internal],
    ["false", ...internal],
    ["number", ...internal],
    ["text", ...internal],
    ["list", ...internal],
    ["function", ...internal],
    ["empty", ...internal],
    ["another id", ...internal],
    ["an id of SQL", ...internal],
    ["no schemas", ...internal],
    ["a schema of SQL", ...missing],
    ["a schema with a newline", ...missing],
    ["a schema with a NUL", ...internal],
    ["a schema of dollars", ...missing],
    ["a schema of a comma", ...missing],
    ["PostgreSQL's schema", ...internal],
    ["the control schema", ...internal],
    ["another database", ...internal],
    ["a key of nobody's", ...internal],
    ["a getter that throws", ...internal],
    ["a proxy", ...internal],
    ["a thenable that throws", ...internal],
    ["a thenable that never ends", ...internal],
    ["a circle", ...internal],
  ])("%j fails the request with %i %s, without details", async (answer, status, code) => {
    const refused = await ask(answer);
    expect(refused).toMatchObject({ status, code, data: undefined });
    expect(refused.text).not.toMatch(/secret|module|schema "/);
    expect(await ask("acme", "acme")).toMatchObject({ status: 200, data: itemsOf("acme") });
  });

  it.each(["a role of SQL", "the superuser's role"])("%j gets no data", async (answer) => {
    const refused = await ask(answer);
    expect(refused.data?.allItems ?? null).toBeNull();
    expect(refused.errors?.length).toBeGreaterThan(0);
    expect(await ask("acme", "acme")).toMatchObject({ status: 200, data: itemsOf("acme") });
  });

  it("hangs, fifty times at once, does not hold up other requests", async () => {
    const hanging = Array.from({ length: 50 }, () => ask("hangs"));
    expect(await ask("acme", "acme")).toMatchObject({ status: 200, data: itemsOf("acme") });
    for (const answer of await Promise.all(hanging)) expect(answer).toMatchObject({ status: 500 });
    expect(await host.adminJson("/tenants/acme")).toMatchObject({ id: "acme" });
    await host.process.line("config.warning");
  });
});

it("none of this changes the database, a decision or acme's instance", async () => {
  const after = await look({ database, host, tenants: [acme] });
  // The tenants with invalid roles got instances of their own; acme's is unchanged.
  expect({ ...after, cells: [] }).toEqual({ ...before, cells: [] });
  expect(JSON.stringify(after.cells)).toContain(JSON.parse(JSON.stringify(before.tenants))[0].key);
  expect(host.process.stderr).toBe("");
});
