import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { availableMemoryMb } from "../../src/config/available-memory.ts";
import { defineConfig } from "../../src/config/define.ts";
import { configFiles, faultsOf } from "../support/config-files.ts";

const renewAfter = { tenants: 500, ageMs: 3_600_000, memoryMb: 64 };
const { directory, load, loadJson } = configFiles();
const url = "postgres://rowhouse:hunter2@db.example/app";
const databases = { main: { url } };

describe("without a config", () => {
  it("it is the demo, with the documented defaults", async () => {
    const cwd = await directory();
    expect(await load(cwd)).toEqual({
      file: null,
      envFiles: [],
      realtime: null,
      production: false,
      listen: { host: "127.0.0.1", port: 5678, trustProxy: false },
      admin: { host: "127.0.0.1", port: 5679, token: null },
      databases: {},
      tenants: { kind: "demo" },
      routing: [{ kind: "host" }, { kind: "header", name: "x-tenant" }],
      preset: null,
      requestHeaders: [],
      pooling: false,
      guard: "writes",
      guardPollMs: 10_000,
      roleSafety: "warn",
      acceptedSql: [],
      cells: {
        heapMb: 256,
        hardLimitFactor: 2,
        headroomMb: 1_024,
        youngMb: 16,
        max: null,
        memoryMb: availableMemoryMb(),
        instances: null,
        instanceHeapMb: 64,
        spare: 1,
        replicas: 1,
        quarantine: { share: 0.5, windowMs: 10_000 },
        idleTtlMs: 300_000,
        drainTimeoutMs: 30_000,
        stallTimeoutMs: 15_000,
      },
      builds: { concurrency: 1, queue: 100, timeoutMs: 60_000 },
      limits: {
        bodyBytes: 1_048_576,
        requestTimeoutMs: 30_000,
        resultBytes: 33_554_432,
        statementTimeoutMs: 30_000,
        tenantInFlight: 256,
        connections: 4_000,
        addressConnections: 256,
        fields: 1_000,
        depth: 16,
        variables: 20_000,
        variablesDepth: 64,
      },
      graphiql: true,
      introspection: true,
    });
  });

  it("in production an instance idles for 6 hours, and GraphiQL is off", async () => {
    const config = await load(await directory(), { env: { NODE_ENV: "production" } });
    expect(config).toMatchObject({
      production: true,
      graphiql: false,
      introspection: false,
      cells: { idleTtlMs: 21_600_000 },
    });
  });

  it("introspection is enabled with GraphiQL unless configured otherwise", async () => {
    const env = { NODE_ENV: "production" };
    const both = await load(await directory(), { env: { ...env, GRAPHILE_GRAPHIQL: "1" } });
    expect(both).toMatchObject({ graphiql: true, introspection: true });
    expect(await loadJson({ introspection: true }, { env })).toMatchObject({
      graphiql: false,
      introspection: true,
    });
  });
});

describe("the file", () => {
  const code = (port: number) => `export default { listen: { port: ${port} } };`;

  it("is the one with a known name, and two of them are a fault that names both", async () => {
    const files = {
      "rowhouse.config.ts": "const port: number = 1; export default { listen: { port } };",
      "rowhouse.config.mts": code(2),
      "rowhouse.config.js": code(3),
      "rowhouse.config.mjs": code(4),
      "rowhouse.config.json": { listen: { port: 5 } },
    };
    const names = Object.entries(files);
    for (const [index, [name, content]] of names.entries()) {
      const cwd = await directory({ [name]: content });
      const config = await load(cwd);
      expect(config.listen.port).toBe(index + 1);
      expect(config.file).toBe(join(cwd, name));
    }
    const cwd = await directory(Object.fromEntries(names.slice(3)));
    expect(await faultsOf(load(cwd))).toEqual({
      [cwd]: expect.stringMatching(/^rowhouse\.config\.mjs and rowhouse\.config\.json both exist/),
    });
    expect((await load(cwd, { file: "rowhouse.config.mjs" })).listen.port).toBe(4);
  });

  it("named by option takes precedence over the variable, and that over the directory", async () => {
    const cwd = await directory({
      "rowhouse.config.mjs": code(1),
      "two.mjs": code(2),
      "three.json": { listen: { port: 3 } },
    });
    expect((await load(cwd, { env: { ROWHOUSE_CONFIG: "two.mjs" } })).listen.port).toBe(2);
    const both = await load(cwd, { env: { ROWHOUSE_CONFIG: "two.mjs" }, file: "three.json" });
    expect(both.listen.port).toBe(3);
  });

  it("is a fault if it is named but missing, never replaced by the demo", async () => {
    const cwd = await directory();
    expect(await faultsOf(load(cwd, { file: "x.json" }))).toEqual({
      "--config": expect.stringMatching(/no file .*x\.json/),
    });
    expect(await faultsOf(load(cwd, { env: { ROWHOUSE_CONFIG: "x.ts" } }))).toEqual({
      ROWHOUSE_CONFIG: expect.stringMatching(/no file/),
    });
  });

  it.each([
    ["no default export", "rowhouse.config.mjs", "export const config = {};", /no default export/],
    ["a promise", "rowhouse.config.mjs", "export default Promise.resolve({});", /not a plain object/],
    ["an instance", "rowhouse.config.mjs", "export default new (class Config {})();", /not a plain object/],
    ["an error of its own", "rowhouse.config.mjs", "throw new Error('no such luck');", /no such luck/],
    [
      "broken JSON",
      "rowhouse.config.json",
      `{ "databases": { "main": { "url": "${url}" } `,
      /not valid JSON/,
    ],
    ["something that is no object", "rowhouse.config.json", "[1]", /expected object/],
  ])("with %s is a fault that shows no secret", async (_, name, content, message) => {
    const cwd = await directory({ [name]: content });
    const faults = await faultsOf(load(cwd));
    expect(faults).toEqual({ [join(cwd, name)]: expect.stringMatching(message) });
    expect(JSON.stringify(faults)).not.toMatch(/hunter2/);
  });

  it("resolves module paths relative to itself", async () => {
    const cwd = await directory({ "preset.ts": "", "tenants.ts": "" });
    const elsewhere = await directory();
    await writeFile(
      join(cwd, "c.json"),
      JSON.stringify({ databases, preset: "./preset.ts", tenants: { module: "tenants.ts" } }),
    );
    const config = await load(elsewhere, { file: join(cwd, "c.json") });
    expect(config.preset).toBe(pathToFileURL(join(cwd, "preset.ts")).href);
    expect(config.tenants).toEqual({ kind: "module", url: pathToFileURL(join(cwd, "tenants.ts")).href });
    await rm(join(cwd, "preset.ts"));
    await rm(join(cwd, "tenants.ts"));
    expect(Object.keys(await faultsOf(load(cwd, { file: "c.json" })))).toEqual(["preset", "tenants.module"]);
  });
});

describe("databases and tenants", () => {
  it("a database without tenants reads them from its control table", async () => {
    expect((await loadJson({ databases })).tenants).toEqual({ kind: "table", database: "main" });
    const only = await loadJson({ databases: { shop: { url } }, tenants: { table: {} } });
    expect(only.tenants).toEqual({ kind: "table", database: "shop" });
  });

  it("a database has its own URL for LISTEN, 4 connections and our control schema, unless configured otherwise", async () => {
    const listenUrl = "postgresql://direct.example/app";
    const config = await loadJson({
      databases: { main: { url }, b: { url, listenUrl, poolSize: 9, install: false } },
    });
    expect(config.databases).toEqual({
      main: { url, listenUrl: url, poolSize: 4, poolReserve: 4, install: true, renewAfter },
      b: { url, listenUrl, poolSize: 9, poolReserve: 9, install: false, renewAfter },
    });
  });

  it("a connection is renewed after 500 tenants, an hour or 64 MB, unless configured otherwise", async () => {
    const renewed = async (given: object) =>
      (await loadJson({ databases: { main: { url, renewAfter: given } } })).databases["main"]?.renewAfter;
    expect(await renewed({ tenants: 0, age: "2h" })).toEqual({ tenants: 0, ageMs: 7_200_000, memoryMb: 64 });
    expect(await renewed({ age: 0, memoryMb: 0 })).toEqual({ tenants: 500, ageMs: 0, memoryMb: 0 });
    await expect(renewed({ tenants: 3 })).rejects.toThrow(
      "databases.main.renewAfter.tenants: must be a whole number, 10 to 1000000, or 0 for no limit",
    );
    await expect(renewed({ age: "soon" })).rejects.toThrow(/renewAfter\.age: must be a duration/);
    await expect(renewed({ memoryMb: "64 MB" })).rejects.toThrow(
      /renewAfter\.memoryMb: must be a whole number/,
    );
    await expect(renewed({ uses: 7 })).rejects.toThrow(/unknown key/);
  });

  it("a listed tenant is in the only database, or in main", async () => {
    const tenants = [{ id: "acme", schemas: ["acme"] }];
    const only = await loadJson({ databases: { shop: { url } }, tenants });
    expect(only.tenants).toMatchObject({ kind: "list", list: [{ id: "acme", database: "shop" }] });
    const main = await loadJson({ databases: { shop: { url }, main: { url } }, tenants });
    expect(main.tenants).toMatchObject({ list: [{ database: "main" }] });
    const neither = loadJson({ databases: { shop: { url }, other: { url } }, tenants });
    expect(Object.keys(await faultsOf(neither))).toEqual(["tenants[0].database"]);
  });

  it("two tenants that claim one host are a fault that names both, however the host is written", async () => {
    const tenants = [
      { id: "acme", schemas: ["a"], hosts: ["shop.example"] },
      { id: "globex", schemas: ["b"], hosts: ["Shop.Example.:80"] },
    ];
    expect(await faultsOf(loadJson({ databases, tenants }))).toEqual({
      "tenants[1].hosts": expect.stringMatching(/acme and globex .*shop\.example/),
    });
  });

  it.each([
    ["tenants without a database", { tenants: [{ id: "a", schemas: ["a"] }] }, "databases"],
    ["a tenant module without a database", { tenants: { module: "package.json" } }, "databases"],
    ["an unknown database", { databases, tenants: { table: { database: "x" } } }, "tenants.table.database"],
    ["an unknown tenant source", { databases, tenants: { csv: "x" } }, "tenants.csv"],
    ["tenants as text", { databases, tenants: "all" }, "tenants"],
    [
      "a URL of another database",
      { databases: { main: { url: "mysql://u:hunter2@h/d" } } },
      "databases.main.url",
    ],
    [
      "a URL that is none",
      { databases: { main: { url: "postgres://u:hunter2@h:x/d" } } },
      "databases.main.url",
    ],
    ["a database without URL", { databases: { main: {} } }, "databases.main.url"],
  ])("%s is a fault", async (_, config, path) => {
    const faults = await faultsOf(loadJson(config));
    expect(Object.keys(faults)).toContain(path);
    expect(JSON.stringify(faults)).not.toMatch(/hunter2/);
  });
});

describe("defineConfig", () => {
  it("accepts every form that the file may have, and returns it", async () => {
    const config = defineConfig({
      databases: { main: { url, poolSize: 2 } },
      routing: ["host", "path:/t/:tenant"],
      cells: { idleTtl: "1h" },
      limits: { bodyBytes: "2 MB" },
      tenants: [
        {
          id: "acme",
          hosts: ["acme.example"],
          schemas: { app: "acme_app" },
          roles: { anonymous: "acme_anon" },
        },
        { id: "globex", schemas: ["globex", { logical: "shop", physical: "globex_shop" }] },
      ],
    });
    expect((await loadJson(config)).tenants).toMatchObject({
      kind: "list",
      list: [{ id: "acme" }, { id: "globex" }],
    });
    expect(defineConfig({ tenants: { table: {} } })).toEqual({ tenants: { table: {} } });
    // @ts-expect-error: an unknown key is a fault as it is written, too.
    expect(defineConfig({ colour: "red" })).toEqual({ colour: "red" });
  });
});
