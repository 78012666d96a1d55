import { lexicographicSortSchema, printSchema } from "postgraphile/graphql";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { buildError } from "../../workers/instance/instances.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type Ask, presetUrl, Worker, type WorkerOptions } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("preset");
  for (const tenant of ["ada", "bob"]) await database.execute(workerTenantSql(tenant));
  for (const tenant of ["ada", "bob"]) {
    await database.execute(`
      create schema ${tenant}_extra; create table ${tenant}_extra.person (id int primary key);
      grant usage on schema ${tenant}_extra to ${tenant}; grant select on ${tenant}_extra.person to ${tenant};
      create table ${tenant}.kind (id text primary key, description text);
      comment on table ${tenant}.kind is '@enum'; insert into ${tenant}.kind values ('one'), ('two');
      create table ${tenant}.kinded (id int primary key, kind text references ${tenant}.kind);
      grant select on all tables in schema ${tenant} to ${tenant}`);
  }
});
afterAll(() => database.drop());

const amber = JSON.stringify(import.meta.resolve("postgraphile/presets/amber"));
const graphileBuild = JSON.stringify(import.meta.resolve("postgraphile/grafast"));
/** A preset module that exports `text`. */
const preset = (text: string): string =>
  presetUrl(`import { PostGraphileAmberPreset } from ${amber}; import * as grafast from ${graphileBuild};
    void grafast; export default ${text};`);
/** A field `probe` that returns the result of `body` for its context. */
const probing = (body: string): string => `{
  name: "Probe", version: "1.0.0",
  schema: { hooks: { GraphQLObjectType_fields(fields, build, { Self, scope, fieldWithHooks }) {
    if (!scope.isRootQuery) return fields;
    return { ...fields, probe: { type: build.graphql.GraphQLString, plan() {
      return grafast.lambda(grafast.context(), async (context) => { ${body} });
    } } };
  } } } }`;

const sdl = async (
  options: WorkerOptions,
  more: Partial<BlueprintSpec> = {},
  tenant = "ada",
): Promise<string> => {
  const worker = new Worker(database, options);
  const serv = await worker.build("pooled", { app: tenant }, { enumTables: 1, ...more });
  const schema = await serv.getSchema();
  return schema === null ? "" : printSchema(lexicographicSortSchema(schema));
};
const ask = async (options: WorkerOptions, request: Partial<Ask>) => {
  const worker = new Worker(database, options);
  const serv = await worker.build("pooled", { app: "ada" }, { enumTables: 1 });
  return { worker, serv, ...(await worker.ask(serv, { tenant: "ada", query: "{ probe }", ...request })) };
};

describe("a preset module", () => {
  it("may export a preset, or a function that is given what distinguishes variants and nothing about a tenant", async () => {
    expect(
      await sdl({ preset: preset(`{ extends: [PostGraphileAmberPreset], disablePlugins: ["NodePlugin"] }`) }),
    ).not.toMatch(/interface Node/);
    const told = preset(`(facts) => { globalThis.facts = facts;
      return { extends: [PostGraphileAmberPreset], disablePlugins: facts.settings.slim ? ["NodePlugin"] : [] }; }`);
    const facts = { api: "v2", mode: "admin", settings: { slim: true } };
    expect(await sdl({ preset: told }, facts)).not.toMatch(/interface Node/);
    expect(Reflect.get(globalThis, "facts")).toEqual({ ...facts, schemas: ["app"] });
    expect(await sdl({ preset: told }, {})).toMatch(/interface Node/);
  });

  it.each([
    ["throws", presetUrl(`throw new Error("broken preset")`), /broken preset/],
    ["does not exist", "file:///nowhere/preset.ts", /nowhere/],
    [
      "has a middleware that throws",
      preset(`{ extends: [PostGraphileAmberPreset], plugins: [{ name: "Broken", grafserv: { middleware: {
        setPreset() { throw new Error("broken preset"); } } } }] }`),
      /broken preset/,
    ],
    ["exports nothing", presetUrl("export const x = 1"), /default export of .* is not a preset/],
    ["exports a list", presetUrl("export default []"), /default export of .* is not a preset/],
    [
      "exports a function that throws",
      presetUrl(`export default () => { throw new Error("broken preset"); }`),
      /broken preset/,
    ],
  ])("that %s fails the build", async (_, url, message) => {
    const worker = new Worker(database, { preset: url });
    const error = buildError(
      await worker.build("pooled", { app: "ada" }, { enumTables: 1 }).catch((thrown) => thrown),
      specOf("pooled", { app: "ada" }, 1),
    );
    expect(error).toMatchObject({ code: "BUILD_FAILED", message: expect.stringMatching(message) });
  });

  it("keeps options that it inherits from a preset that it extends", async () => {
    const own = preset(`{ extends: [PostGraphileAmberPreset, { grafserv: {
      maskError: () => ({ message: "masked by another" }) } }], plugins: [${probing(`throw new Error("secret")`)}] }`);
    const { json } = await ask({ preset: own }, {});
    expect(json.errors).toEqual([{ message: "masked by another" }]);
  });

  it("has its pgServices ignored, and keeps its maskError and its grafserv options", async () => {
    const own =
      preset(`{ extends: [PostGraphileAmberPreset], plugins: [${probing(`throw new Error("secret")`)}],
      pgServices: [{ name: "main", schemas: ["bob"], withPgClientKey: "withPgClient", pgSettingsKey: "pgSettings",
        pgSettings: { role: "bob" }, adaptor: { createWithPgClient() { throw new Error("never"); } }, adaptorSettings: {} }],
      grafserv: { maskError: (error) => ({ message: "masked by the preset" }), graphqlPath: "/elsewhere", graphiql: true,
        watch: true, graphqlOverGET: true } }`);
    const { json, serv, worker } = await ask({ preset: own }, {});
    expect(json.errors).toEqual([{ message: "masked by the preset" }]);
    const search = new URLSearchParams({ query: "{ whoami }" }).toString();
    const got = await worker.ask(serv, { tenant: "ada", method: "GET", body: null, search });
    expect(got.json.data.whoami).toBe("ada ada, public, pg_temp");
    await expect(worker.ask(serv, { tenant: "ada", method: "GET", path: "/", body: null })).rejects.toThrow();
  });
});

describe("a preset's change to a request's context", () => {
  const withContext = (context: string, body: string): string =>
    preset(
      `{ extends: [PostGraphileAmberPreset], plugins: [${probing(body)}], grafast: { context: ${context} } }`,
    );
  const role = `const { rows } = await context.withPgClient(context.pgSettings, (client) =>
    client.query({ text: "select concat_ws(' ', current_user, current_setting('search_path'), current_setting('app.x', true)) as v" })); return rows[0].v;`;

  it.each([
    [
      "settings of its own without a role",
      `() => ({ pgSettings: { "app.x": "1" } })`,
      "ada ada, public, pg_temp 1",
    ],
    [
      "settings made from the request's",
      `(_, { contextValue }) => ({ pgSettings: { ...contextValue.pgSettings, "app.x": "2" } })`,
      "ada ada, public, pg_temp 2",
    ],
    [
      "a withPgClient of its own",
      `{ withPgClient: () => { throw new Error("mine"); } }`,
      "ada ada, public, pg_temp",
    ],
    ["nothing", `() => undefined`, "ada ada, public, pg_temp"],
    ["something later", `async () => ({ pgSettings: { "app.x": "3" } })`, "ada ada, public, pg_temp 3"],
  ])("keeps the tenant's role and path, even if it adds %s", async (_, context, expected) => {
    const { json } = await ask({ preset: withContext(context, role) }, { query: "{ probe whoami }" });
    expect(json).toEqual({ data: { probe: expected, whoami: "ada ada, public, pg_temp" } });
  });

  it.each([
    ["another tenant's role", `() => ({ pgSettings: { role: "bob" } })`, /role is reserved for the host/],
    ["a path", `() => ({ pgSettings: { search_path: "bob" } })`, /search_path is reserved for the host/],
  ])("is refused for %s", async (_, context, message) => {
    const asking = ask({ preset: withContext(context, role) }, { query: "{ probe whoami }" });
    await expect(asking).rejects.toMatchObject({
      code: "SETTING_RESERVED",
      message: expect.stringMatching(message),
    });
  });

  it("cannot override the host's settings, however late it is made", async () => {
    const claim = "current_setting('jwt.claims.id', true)";
    const body = role.replace("current_setting('app.x', true)", `current_setting('app.x', true), ${claim}`);
    const late =
      preset(`{ extends: [PostGraphileAmberPreset], plugins: [${probing(body)}, { name: "Late", grafast: {
      middleware: { async prepareArgs(next, { args }) {
        const result = await next();
        args.contextValue.pgSettings = { "app.x": "4", "jwt.claims.id": "8" };
        args.contextValue.withPgClient = () => { throw new Error("mine"); };
        return result;
      } } } }] }`);
    const settings = { role: "ada", "jwt.claims.id": "7" };
    const { json } = await ask({ preset: late }, { settings });
    expect(json.data).toEqual({ probe: "ada ada, public, pg_temp 4 7" });
  });

  it("that fails is masked in production like any error", async () => {
    const failing = withContext(`() => { throw new Error("secret"); }`, "return 1");
    expect((await ask({ preset: failing }, {})).json.errors[0].message).toBe("secret");
    const { json, worker } = await ask({ preset: failing, production: true }, {});
    expect(JSON.stringify(json)).not.toMatch(/secret/);
    expect(worker.log.join()).toMatch(/secret/);
  });

  it.each([
    ["null", "context.withPgClient(null, (client) => client.query({ text: 'select 1' }))"],
    [
      "settings of its own",
      "context.withPgClient({ role: 'ada' }, (client) => client.query({ text: 'select 1' }))",
    ],
    [
      "null through the service",
      "(globalThis.service.adaptor.createWithPgClient())(null, (client) => client.query({ text: 'select 1' }))",
    ],
  ])("yields no client for %s", async (_, call) => {
    const grabbing =
      preset(`{ extends: [PostGraphileAmberPreset], plugins: [${probing(`await ${call}; return "got one";`)},
      { name: "Grab", gather: { hooks: { pgIntrospection_introspection(info) { globalThis.service = info.resolvedPreset.pgServices[0]; } } } }] }`);
    const { json } = await ask({ preset: grabbing }, {});
    expect(json.data).toEqual({ probe: null });
    expect(json.errors[0].message).toMatch(/without the request's settings/);
  });

  it("ends with the request: settings kept beyond it get no client", async () => {
    const keeping = preset(
      `{ extends: [PostGraphileAmberPreset], plugins: [${probing(`globalThis.kept = { ...context }; return "";`)}] }`,
    );
    await ask({ preset: keeping }, {});
    const kept = Reflect.get(globalThis, "kept");
    await expect(kept.withPgClient(kept.pgSettings, () => 1)).rejects.toThrow(/request that has ended/);
  });
});

describe("an instance", () => {
  it("names objects of its second schema by the logical name, both pooled and dedicated", async () => {
    const worker = new Worker(database);
    const schemas = { app: "ada", extra: "ada_extra" };
    const texts: string[] = [];
    for (const kind of ["pooled", "dedicated"] as const) {
      const other = kind === "pooled" ? schemas : { app: "bob", extra: "bob_extra" };
      const built = await worker.build(kind, other, { enumTables: 1 }).catch((error) => error);
      texts.push(printSchema(lexicographicSortSchema(await built.getSchema())));
    }
    expect(texts[0]).toMatch(/type ExtraPerson /);
    expect(texts[0]).not.toMatch(/ada|bob/i);
    expect(texts[1]).toBe(texts[0]);
  });

  it("has its enum tables if the shape covers them; else a pooled build is refused", async () => {
    expect(await sdl({})).toMatch(/enum Kind/);
    const worker = new Worker(database);
    await expect(worker.build("pooled", { app: "ada" }, { enumTables: 0 })).rejects.toMatchObject({
      code: "BUILD_NOT_SHAREABLE",
    });
    await worker.build("dedicated", { app: "ada" }, { enumTables: 0 });
  });

  it("of a core shape has only plugins that are known to read no more of the catalogue; another is refused", async () => {
    const own = preset(`{ extends: [PostGraphileAmberPreset], plugins: [{ name: "OwnPlugin" }] }`);
    const stock = preset("PostGraphileAmberPreset");
    const build = (url: string, shape: "core" | "full") =>
      new Worker(database, { preset: url }).instances.build(1, {
        ...specOf("pooled", { app: "ada" }, 1),
        shape,
        enumTables: 1,
      });
    const message = expect.stringContaining("OwnPlugin");
    await expect(build(own, "core")).rejects.toMatchObject({ code: "BUILD_READS_MORE", message });
    expect(await build(own, "full")).toMatchObject({ unknownPlugins: ["OwnPlugin"] });
    expect(await build(stock, "full")).toMatchObject({ unknownPlugins: [] });
    expect(await build(stock, "core")).toMatchObject({ unknownPlugins: [] });
  });

  it("is refused if a plugin reads rows during a pooled build", async () => {
    const reading =
      preset(`{ extends: [PostGraphileAmberPreset], plugins: [{ name: "Reads", gather: { hooks: {
      async pgIntrospection_introspection(info) {
        const [service] = info.resolvedPreset.pgServices;
        const withPgClient = await service.adaptor.createWithPgClient();
        await withPgClient(null, (client) => client.query({ text: "select count(*) from ada.person" }));
      } } } }] }`);
    const worker = new Worker(database, { preset: reading });
    await expect(worker.build("pooled", { app: "ada" }, { enumTables: 1 })).rejects.toMatchObject({
      code: "BUILD_NOT_SHAREABLE",
    });
  });
});
