import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { configJsonSchema } from "../../src/config/json-schema.ts";
import { configFiles, faultsOf } from "../support/config-files.ts";

const { directory, load, loadJson } = configFiles();
const url = "postgres://rowhouse:hunter2@db.example/app";
const databases = { main: { url } };

describe("an unknown key is a fault that suggests a known one", () => {
  it.each<[object, string, string]>([
    [{ pooIing: true }, "pooIing", "; did you mean pooling?"],
    [{ cells: { heapMB: 256 } }, "cells.heapMB", "; did you mean heapMb?"],
    [{ limits: { statementTimout: "1s" } }, "limits.statementTimout", "; did you mean statementTimeout?"],
    [{ heapMb: 256 }, "heapMb", "; did you mean cells.heapMb?"],
    [{ prot: 80 }, "prot", "; did you mean listen.port?"],
    [{ poolSize: 8 }, "poolSize", "; did you mean databases.NAME.poolSize?"],
    [{ roleSafety: { acept: [] } }, "roleSafety.acept", "; did you mean accept?"],
    [
      { databases: { main: { url, listenURL: url } } },
      "databases.main.listenURL",
      "; did you mean listenUrl?",
    ],
    [{ zebra: true }, "zebra", ""],
    [{ cells: { x: 1 } }, "cells.x", ""],
    [{ ["k".repeat(100_000)]: 1 }, "k".repeat(100_000), ""],
  ])("%#", async (config, path, suggestion) => {
    const faults = Object.entries(await faultsOf(loadJson(config)));
    expect(faults).toHaveLength(1);
    expect(faults[0]?.[0].slice(0, 20)).toBe(path.slice(0, 20));
    expect(faults[0]?.[1]).toBe(`unknown key${suggestion}`);
  });

  it("in a tenant, wherever it is, each with its own suggestion", async () => {
    const tenant = { id: "a", schemas: ["a"], role: {}, jwt: { secret: "x".repeat(32), audiense: "b" } };
    expect(await faultsOf(loadJson({ databases, tenants: [{ ...tenant, host: ["x"] }] }))).toEqual({
      "tenants[0].role": "unknown key; did you mean roles?",
      "tenants[0].host": "unknown key; did you mean hosts?",
      "tenants[0].jwt.audiense": "unknown key; did you mean audience?",
    });
  });
});

describe("a syntax error is a fault with file, line and column, and none of the text", () => {
  it.each([
    ["rowhouse.config.json", `{\n  "databases": { "main": { "url": "${url}" }\n}`, ":3:2", /closing brace/],
    ["rowhouse.config.json", `{\n  "pooling": true\n  "guard": "all"\n}`, ":3:3", /comma is missing/],
    ["rowhouse.config.json", `{ "pooling": tru }`, ":1:14", /invalid value/],
    ["rowhouse.config.json", `{ "pooling": true, }`, ":1:20", /extra comma/],
    ["rowhouse.config.json", `{\n  // ${url}\n}`, ":2:3", /comments are not allowed/],
    ["rowhouse.config.json", `{ "a": "${url}\n" }`, ":1:8", /unterminated string|escaped/],
    ["rowhouse.config.json", "", ":1:1", /valid JSON/],
  ])("%s: %j", async (name, text, place, message) => {
    const cwd = await directory({ [name]: text });
    const faults = await faultsOf(load(cwd));
    const file = join(cwd, name);
    expect(faults).toEqual({ [file]: expect.stringMatching(message) });
    expect(faults[file]).toContain(`${file}${place}`);
    expect(faults[file]).not.toMatch(/hunter2|\n/);
  });
});

describe("a JSON config", () => {
  it("may refer to its schema, and begin with a byte order mark", async () => {
    const text = JSON.stringify({ $schema: "./node_modules/rowhouse/config.schema.json", pooling: true });
    const cwd = await directory({ "rowhouse.config.json": `\ufeff${text}` });
    expect((await load(cwd)).pooling).toBe(true);
    expect(await faultsOf(loadJson({ $schema: 1 }))).toEqual({ $schema: "unknown key" });
  });

  it("has a schema that is shipped, and the shipped one is current (run `node bin/config-schema.js`)", async () => {
    const shipped = await readFile(new URL("../../config.schema.json", import.meta.url), "utf8");
    expect(JSON.parse(shipped)).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
  });

  it("has a schema that knows every key of the documentation, and both forms of those with two", () => {
    expect(configJsonSchema()).toMatchObject({
      additionalProperties: false,
      properties: {
        $schema: { type: "string" },
        listen: { properties: { port: { type: "integer", maximum: 65_535 }, trustProxy: {} } },
        tenants: { anyOf: [{ type: "array" }, { type: "object" }, { type: "object" }] },
        roleSafety: { anyOf: [{ enum: ["refuse", "warn", "off"] }, { type: "object" }] },
        cells: { properties: { idleTtl: { type: ["string", "number"] } } },
        databases: { additionalProperties: { required: ["url"] } },
      },
    });
  });
});

describe("a .env file", () => {
  it("sets variables that the environment does not, from the working directory before the config's", async () => {
    const cwd = await directory({
      ".env": `# ours\nROWHOUSE_CONFIG=conf/c.json\nexport PORT='81'\nSECRET="two\nlines"\n\nNODE_ENV=production # so\n`,
    });
    await mkdir(join(cwd, "conf"));
    await writeFile(join(cwd, "conf/c.json"), JSON.stringify({ databases }));
    await writeFile(join(cwd, "conf/.env"), "PORT=82\r\nGRAPHILE_CACHE_MAX=7\r\n");
    const env: Record<string, string | undefined> = {};
    const config = await load(cwd, { env });
    expect(config).toMatchObject({ production: true, listen: { port: 81 }, cells: { instances: 7 } });
    expect(config.file).toBe(join(cwd, "conf/c.json"));
    expect(config.envFiles).toEqual([join(cwd, ".env"), join(cwd, "conf/.env")]);
    expect(env).toMatchObject({ SECRET: "two\nlines", PORT: "81" });
    expect((await load(cwd, { env: { PORT: "80", NODE_ENV: "test" } })).listen.port).toBe(80);
  });

  it("is available to the config module, which reads its secrets", async () => {
    const name = `ROWHOUSE_TEST_${process.pid}`;
    const cwd = await directory({
      ".env": `${name}=${url}`,
      "rowhouse.config.ts": `export default { databases: { main: { url: process.env.${name} } } };`,
    });
    try {
      expect((await load(cwd, { env: process.env })).databases["main"]?.url).toBe(url);
    } finally {
      delete process.env[name];
    }
  });

  it.each([
    ["a line that is no variable", "A=1\nhunter2\n", /line 2 is not NAME=value/],
    ["a name with a blank", "A B=hunter2", /line 1 is not/],
    ["a quote that does not end", `A=1\nB="hunter2\nC=3`, /line 2 is not/],
    ["a NUL", "A=hun\0ter2", /line 1 is not/],
    ["UTF-16", Buffer.from("\ufeffA=hunter2", "utf16le").toString("latin1"), /not UTF-8/],
    ["options that come too late", "NODE_OPTIONS=--max-old-space-size=100", /NODE_OPTIONS/],
  ])("with %s is a fault that names it and quotes nothing", async (_, text, message) => {
    const cwd = await directory({ "rowhouse.config.json": { databases } });
    await writeFile(join(cwd, ".env"), text, "latin1");
    const faults = await faultsOf(load(cwd));
    expect(faults).toEqual({ [join(cwd, ".env")]: expect.stringMatching(message) });
    expect(JSON.stringify(faults)).not.toContain("hunter2");
  });

  it("is ignored if it is a directory", async () => {
    const cwd = await directory();
    await mkdir(join(cwd, ".env"));
    expect((await load(cwd)).envFiles).toEqual([]);
  });
});
