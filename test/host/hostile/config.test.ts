import { describe, expect, it } from "vitest";
import { directoryWith } from "../../support/host.ts";
import { runCli } from "../../support/host-process.ts";

const url = "postgres://rowhouse:hunter2hunter2@127.0.0.1:1/none";
const acme = { id: "acme", hosts: ["acme.example"], schemas: ["acme"] };
const right = { databases: { main: { url } }, tenants: [acme] };
const tenant = (more: object): object => ({ ...right, tenants: [{ ...acme, ...more }] });
const wrongs: readonly unknown[] = [null, "yes", -1, 1.5, [], {}, true];

/** Each section's keys. */
const keys: Readonly<Record<string, readonly string[]>> = {
  listen: ["host", "port"],
  admin: ["host", "port", "token"],
  cells: [
    "heapMb",
    "hardLimitFactor",
    "headroomMb",
    "youngMb",
    "max",
    "memoryMb",
    "instances",
    "instanceHeapMb",
    "spare",
  ],
  builds: ["concurrency", "queue", "timeout"],
  limits: [
    "bodyBytes",
    "requestTimeout",
    "resultBytes",
    "statementTimeout",
    "tenantInFlight",
    "connections",
    "fields",
    "depth",
  ],
};

/** The result of `rowhouse check` for a config: its exit code, and the paths of its faults. */
async function check(config: unknown, name = "rowhouse.config.json") {
  const text = typeof config === "string" ? config : JSON.stringify(config);
  const { path, remove } = await directoryWith({ [name]: text });
  try {
    const { code, signal, stdout, stderr } = await runCli({ args: ["check", "--config", name], cwd: path });
    // Faults are reported without a stack trace or a password.
    expect(`${stdout}${stderr}`).not.toMatch(/hunter2|\n\s+at |node:internal/);
    const paths = [...stderr.matchAll(/^rowhouse: ([^\s:]+): /gm)].map(([, fault]) => fault);
    return { code, signal, paths, stderr };
  } finally {
    await remove();
  }
}

describe("rowhouse check", () => {
  it.each(Object.entries(keys))(
    "reports every key of %s that is an object instead of a value",
    async (section, names) => {
      const { code, paths } = await check({
        ...right,
        [section]: Object.fromEntries(names.map((name) => [name, { toString: "x" }])),
      });
      expect(code).toBe(1);
      expect(paths).toEqual(expect.arrayContaining(names.map((name) => `${section}.${name}`)));
    },
  );

  it.each(wrongs.map((wrong) => [JSON.stringify(wrong), wrong]))(
    "reports each section that is %s",
    async (_, wrong) => {
      const sections = [
        "listen",
        "admin",
        "databases",
        "routing",
        "cells",
        "builds",
        "limits",
        "preset",
        "pooling",
        "guard",
        "graphiql",
        "introspection",
      ];
      const { code, paths } = await check(Object.fromEntries(sections.map((name) => [name, wrong])));
      expect(code).toBe(1);
      const fits = (name: string): boolean =>
        (typeof wrong === "boolean" && ["pooling", "graphiql", "introspection"].includes(name)) ||
        (name === "preset" && wrong === "yes") ||
        (JSON.stringify(wrong) === "{}" &&
          ["listen", "admin", "databases", "cells", "builds", "limits"].includes(name));
      for (const name of sections.filter((each) => !fits(each))) {
        expect(
          paths.some((path) => path?.startsWith(name)),
          name,
        ).toBe(true);
      }
    },
  );

  it.each<[string, object, string]>([
    ["an id with a quote", { id: "ac'me" }, "tenants[0].id"],
    ["an id with a newline", { id: "acme\n" }, "tenants[0].id"],
    ["an id with a NUL", { id: "acme\0" }, "tenants[0].id"],
    ["an id of SQL", { id: 'acme"; drop schema public; --' }, "tenants[0].id"],
    ["an id that is a path", { id: "../acme" }, "tenants[0].id"],
    ["an id of 64 letters", { id: "a".repeat(64) }, "tenants[0].id"],
    ["an id in another script", { id: "аcme" }, "tenants[0].id"],
    ["an id that is a number", { id: 1 }, "tenants[0].id"],
    ["a host with a path", { hosts: ["acme.example/x"] }, "tenants[0].hosts[0]"],
    ["a host with a user", { hosts: ["a@acme.example"] }, "tenants[0].hosts[0]"],
    ["a host with a space", { hosts: ["acme .example"] }, "tenants[0].hosts[0]"],
    ["a host with a wildcard", { hosts: ["*.example"] }, "tenants[0].hosts[0]"],
    ["hosts that are a string", { hosts: "acme.example" }, "tenants[0].hosts"],
    ["no schema", { schemas: [] }, "tenants[0].schemas"],
    ["a schema of 64 letters", { schemas: ["s".repeat(64)] }, "tenants[0].schemas[0]"],
    ["a schema with a NUL", { schemas: ["a\0b"] }, "tenants[0].schemas[0]"],
    ["a schema with half a surrogate pair", { schemas: ["\ud800"] }, "tenants[0].schemas[0]"],
    ["an empty schema", { schemas: [""] }, "tenants[0].schemas[0]"],
    ["PostgreSQL's own schema", { schemas: ["pg_catalog"] }, "tenants[0].schemas[0]"],
    ["the control schema", { schemas: { app: "rowhouse" } }, "tenants[0].schemas.app"],
    ["the information schema", { sharedSchemas: ["information_schema"] }, "tenants[0].sharedSchemas[0]"],
    ["one schema twice", { schemas: { a: "acme", b: "acme" } }, "tenants[0].schemas"],
    ["a reserved role name", { roles: { anonymous: "none" } }, "tenants[0].roles.anonymous"],
    ["a role that is a list", { roles: { anonymous: ["a"] } }, "tenants[0].roles.anonymous"],
    ["a setting that is a number", { settings: { a: 1 } }, "tenants[0].settings.a"],
    ["an unknown key", { schema: "acme" }, "tenants[0].schema"],
  ])("reports a tenant with %s", async (_, more, path) => {
    const { code, paths } = await check(tenant(more));
    expect({ code, paths }).toEqual({ code: 1, paths: expect.arrayContaining([path]) });
  });

  it.each([
    ["nothing", ""],
    ["half an object", '{"listen":'],
    ["a list", "[]"],
    ["null", "null"],
    ["a number", "7"],
    ["a string", '"postgres://rowhouse:hunter2hunter2@db/x"'],
    ["a hundred thousand brackets", "[".repeat(100_000)],
    ["a NUL", "\0"],
    ["comments", "// no\n{}"],
    ["a prototype", '{"__proto__":{"pooling":"x"},"constructor":1}'],
  ])("reports clearly that a file of %s is not a config", async (_, text) => {
    const { code, signal, stderr } = await check(text);
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr).toMatch(/^rowhouse: /m);
  });

  it.each([
    ["throws", "throw new Error('postgres://a:hunter2hunter2@db/x')"],
    ["throws nothing", "throw undefined"],
    ["exports a function that throws", "export default () => { throw new Error('x') }"],
    ["exports nothing", "export const a = 1"],
    ["does not parse", "export default {"],
  ])("reports clearly that a module that %s is not a config", async (_, text) => {
    const { code, signal, stderr } = await check(text, "rowhouse.config.mjs");
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(stderr).toMatch(/^rowhouse: /m);
  });
});
