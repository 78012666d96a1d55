import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { kitPreset, probing } from "../support/kit-preset.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("kit");
  for (const tenant of ["ada", "bob"]) {
    await database.execute(workerTenantSql(tenant));
    await database.execute(`
      create table ${tenant}."Odd ""Name" ("select" text); insert into ${tenant}."Odd ""Name" values ('${tenant} odd');
      grant select on ${tenant}."Odd ""Name" to ${tenant}`);
  }
  await database.execute("create table public.shared (n int); grant select on public.shared to ada, bob");
});
afterAll(() => database.drop());

const askAs = async (
  kind: "pooled" | "dedicated",
  tenant: string,
  body: string,
  options: { headers?: Record<string, string>; before?: string; settings?: Record<string, string> } = {},
) => {
  const worker = new Worker(database, { preset: kitPreset(probing(body), options.before) });
  const built = kind === "pooled" ? "ada" : tenant;
  const serv = await worker.build(kind, { app: built });
  const { headers = {}, settings = { role: tenant } } = options;
  const { json } = await worker.ask(serv, { tenant, query: "{ probe }", headers, settings });
  return json;
};

describe("identifiers", () => {
  const body = `const { identifier, kind } = instanceOf(build);
    const rows = await request.query("select " + "\\"select\\" as v from " + identifier("app", 'Odd "Name'));
    return [kind, rows[0].v, identifier("app", "item"), identifier("app", "select"), identifier("public", "shared")].join(" | ");`;

  it("are relative to the request's path in a pooled instance", async () => {
    expect(await askAs("pooled", "bob", body)).toEqual({
      data: { probe: 'pooled | bob odd | item | "select" | public.shared' },
    });
  });

  it("are qualified in a dedicated one", async () => {
    expect(await askAs("dedicated", "bob", body)).toEqual({
      data: { probe: 'dedicated | bob odd | bob.item | bob."select" | public.shared' },
    });
  });

  it.each(["bob", "ada", "pg_rowhouse_1", "pg_catalog", ""])("know no schema named %j", async (schema) => {
    const json = await askAs(
      "pooled",
      "bob",
      `return instanceOf(build).identifier(${JSON.stringify(schema)}, "item");`,
    );
    expect(json.errors[0].message).toMatch(/unknown schema/);
  });

  it("are never empty", async () => {
    const json = await askAs("pooled", "bob", `return instanceOf(build).identifier("app", "");`);
    expect(json.errors[0].message).toMatch(/not a valid PostgreSQL name/);
  });
});

it("a schema's name in the catalogue maps to its logical name, in every phase of a build", async () => {
  const before = `const gathered = perBuild(() => []);
    const Gathering = { name: "Gathering", version: "1.0.0", gather: { hooks: { pgIntrospection_introspection(info, { introspection }) {
      const { logicalSchema } = instanceOf(info);
      gathered(info).push(...introspection.namespaces.map((each) => logicalSchema(each.nspname) ?? "none"));
    } } } };`;
  for (const kind of ["pooled", "dedicated"] as const) {
    const { schemaName } = {
      schemaName: "build.input.pgRegistry.pgResources.person.codec.extensions.pg.schemaName",
    };
    const worker = new Worker(database, {
      preset: kitPreset(
        `Gathering, ${probing(`return [...gathered(build).sort(), instanceOf(build).logicalSchema(${schemaName}), instanceOf(build).schemas].join(" ");`)}`,
        before,
      ),
    });
    const serv = await worker.build(kind, { app: "bob" });
    const { json } = await worker.ask(serv, { tenant: "bob", query: "{ probe }" });
    expect(json).toEqual({ data: { probe: "app none public app app" } });
  }
});

describe("a request", () => {
  it("exposes its tenant, role, settings and headers", async () => {
    const body = `const { tenant, role, settings, headers, binding, signal } = request;
      return JSON.stringify([tenant, role, settings["jwt.claims.id"], headers["accept-language"], binding.searchPath, signal.aborted]);`;
    const settings = { role: "bob", "jwt.claims.id": "7" };
    const json = await askAs("pooled", "bob", body, { settings, headers: { "accept-language": "de" } });
    expect(JSON.parse(json.data.probe)).toEqual(["bob", "bob", "7", "de", ["bob", "public"], false]);
  });

  it("runs SQL with its tenant's path, role and settings, values as parameters", async () => {
    const body = `const sql = "select concat_ws(' ', current_user, current_setting('search_path'), current_setting('jwt.claims.id'), $1::text) as v";
      const [one] = await request.query(sql, ["'; --"]);
      const two = await request.transaction(async (client) => (await client.query(sql, [2]))[0].v);
      return one.v + " / " + two;`;
    const json = await askAs("pooled", "bob", body, { settings: { role: "bob", "jwt.claims.id": "7" } });
    expect(json.data.probe).toBe("bob bob, public, pg_temp 7 '; -- / bob bob, public, pg_temp 7 2");
  });

  it("commits a transaction that returns, and rolls back one that throws", async () => {
    const body = `const insert = "insert into person (name) values ($1) returning name";
      await request.transaction((client) => client.query(insert, ["kept"]));
      await request.transaction(async (client) => { await client.query(insert, ["lost"]); throw new Error("no"); }).catch(() => {});
      await request.query(insert, ["single"]);
      return (await request.query("select name from person where name = any($1)", [["kept", "lost", "single"]])).map((row) => row.name).join();`;
    expect((await askAs("dedicated", "bob", body)).data.probe).toBe("kept,single");
  });

  it("is available while its context is being made", async () => {
    const more = `grafast: { context: (requestContext) => { const { tenant, headers, binding } = tenantOf(requestContext);
      return { mine: [tenant, headers["accept-language"], binding.roles].join(" ") }; } }`;
    const worker = new Worker(database, { preset: kitPreset(probing("return context.mine;"), "", more) });
    const serv = await worker.build("pooled", { app: "ada" });
    const headers = { "accept-language": "de" };
    const { json } = await worker.ask(serv, { tenant: "bob", query: "{ probe }", headers });
    expect(json).toEqual({ data: { probe: "bob de bob" } });
  });

  it.each([
    ["an empty object", "requestOf({})"],
    ["an object that is no request context", "tenantOf({})"],
    [
      "settings without their request",
      "requestOf({ withPgClient: context.withPgClient, pgSettings: { role: 'ada' } })",
    ],
    ["a client of another kind", "requestOf({ pgSettings: context.pgSettings, withPgClient() {} })"],
  ])("cannot be obtained from %s", async (_, call) => {
    const json = await askAs("pooled", "bob", `return String(${call}.tenant);`);
    expect(json.errors[0].message).toMatch(/not a Rowhouse request's context/);
  });
});
