import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Observation } from "../../src/observability/observation.ts";
import { openModuleSource } from "../../src/tenants/module-source.ts";
import type { RequestFacts } from "../../src/tenants/router.ts";
import { ConfigError } from "../../src/validation/config-error.ts";

let root = "";
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "rowhouse-module-"));
});
afterAll(() => rm(root, { recursive: true }));

async function open(code: string, seen: Observation[] = []) {
  count += 1;
  const file = join(root, `tenants${count}.mjs`);
  await writeFile(file, code);
  return openModuleSource({
    url: pathToFileURL(file).href,
    defaults: { database: "main", databases: ["main"] },
    observe: (observation) => seen.push(observation),
    timeoutMs: 50,
  });
}

const facts = (host: string | null): RequestFacts => ({
  method: "POST",
  path: "/graphql",
  query: "",
  host,
  header: (name) => (name === "x-plan" ? "gold" : null),
  remoteAddress: null,
});

async function resolved(code: string, host: string | null = null) {
  const { resolve } = await open(code);
  if (resolve === null) throw new Error("a module source resolves");
  return resolve(facts(host));
}

const byHost = `export const resolve = async ({ host, header }) =>
  host === null ? null : { id: host.split(".")[0], schemas: [host.split(".")[0]], api: header("x-plan") };`;

describe("a tenant module", () => {
  it("chooses by any fact of the request", async () => {
    expect(await resolved(byHost, "acme.example")).toMatchObject({
      id: "acme",
      api: "gold",
      database: "main",
    });
    expect(await resolved(byHost)).toBeNull();
    expect(await resolved("export const resolve = () => undefined")).toBeNull();
  });

  it("may modify the facts that it is given without changing the request itself", async () => {
    const { resolve } = await open(`export const resolve = (facts) => {
      Object.assign(facts, { path: 7, query: null, header: () => "Bearer another's" });
      return { id: "acme", schemas: ["acme"] };
    };`);
    const asked = facts("acme.example");
    const { header } = asked;
    expect(await resolve?.(asked)).toMatchObject({ id: "acme" });
    expect(asked).toEqual({ ...facts("acme.example"), header });
  });

  it("leaves no timer behind once it has answered", async () => {
    const { resolve } = await open("export const resolve = () => null");
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    try {
      const answer = resolve?.(facts(null));
      expect(vi.getTimerCount()).toBe(1);
      await answer;
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it("may be an object with methods, as its default export", async () => {
    const code = `export default new (class { id = "acme"; resolve() { return { id: this.id, schemas: ["a"] }; } })()`;
    expect(await resolved(code)).toMatchObject({ id: "acme" });
  });

  it.each([
    [
      "that throws",
      "export const resolve = () => { throw new Error('no luck'); }",
      /resolve\(\) threw: no luck/,
    ],
    ["that rejects", "export const resolve = async () => { throw 'text'; }", /resolve\(\) threw: text/],
    ["that never answers", "export const resolve = () => new Promise(() => {})", /longer than 50 ms/],
    ["that gives text", "export const resolve = () => 'acme'", /invalid tenant: .*expected object/],
    [
      "that gives a bad record",
      "export const resolve = () => ({ id: 'a', schemas: ['pg_catalog'] })",
      /invalid tenant: schemas\[0\]/,
    ],
    [
      "that names an unknown database",
      "export const resolve = () => ({ id: 'a', schemas: ['a'], database: 'x' })",
      /invalid tenant: database/,
    ],
  ])("fails the request as INTERNAL and reports it if %s", async (_, code, message) => {
    await expect(resolved(code)).rejects.toMatchObject({
      code: "INTERNAL",
      message: expect.stringMatching(message),
    });
  });

  it.each([
    ["without resolve", "export const list = () => []"],
    ["whose list is no function", "export const resolve = () => null; export const list = []"],
    ["that cannot be loaded", "throw new Error('at once')"],
  ])("%s is a fault of the config", async (_, code) => {
    const error: unknown = await open(code).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ faults: [{ path: "tenants.module" }] });
  });

  it("yields one object per record, and reports a changed record before it is used", async () => {
    const source = await open(`let api = "v1"; let calls = 0;
      export const resolve = () => ({ id: "acme", schemas: ["a"], api: ++calls > 2 ? "v2" : "v1" });`);
    const told: unknown[] = [];
    source.onChange((id) => told.push(id));
    const next = async () => source.resolve?.(facts(null));
    const first = await next();
    expect(await next()).toBe(first);
    expect(told).toEqual([]);
    expect(await next()).toMatchObject({ api: "v2" });
    expect(told).toEqual(["acme"]);
    expect(source.known).toBe(1);
  });

  it("is asked for its list when a tenant is named; a bad entry is only a warning", async () => {
    const seen: Observation[] = [];
    const source = await open(
      `export const resolve = () => null;
       export function* list() {
         yield { id: "acme", hosts: ["acme.example"], schemas: ["a"] };
         yield { id: "no good" };
         yield { id: "globex", schemas: ["g"] };
       }`,
      seen,
    );
    expect((await source.list()).map(({ id }) => id)).toEqual(["acme", "globex"]);
    expect(seen).toMatchObject([{ kind: "config.warning", path: "tenants.module list()[1]" }]);
    expect(await source.byId("globex")).toMatchObject({ id: "globex" });
    expect(await source.byHost("acme.example")).toMatchObject({ id: "acme" });
    expect(await source.byId("initech")).toBeNull();
  });

  it("finds nobody by a host that its list gives to two tenants, in any spelling, and the warning names both", async () => {
    const seen: Observation[] = [];
    const source = await open(
      `export const resolve = () => null;
       export const list = () => [
         { id: "no good" },
         { id: "acme", hosts: ["Straße.example"], schemas: ["a"] },
         { id: "globex", hosts: ["xn--strae-oqa.example", "globex.example"], schemas: ["g"] },
       ];`,
      seen,
    );
    expect(await source.byHost("xn--strae-oqa.example")).toBeNull();
    expect(await source.byHost("globex.example")).toMatchObject({ id: "globex" });
    expect(seen).toContainEqual({
      kind: "config.warning",
      path: "tenants.module list()[2].hosts",
      message: "tenants acme and globex both claim the host xn--strae-oqa.example",
    });
  });

  it("without a list finds by name the tenants that it has chosen", async () => {
    const source = await open(byHost);
    expect(await source.byId("acme")).toBeNull();
    await source.resolve?.(facts("acme.example"));
    expect(await source.byId("acme")).toMatchObject({ id: "acme" });
    expect(await source.list()).toEqual([]);
  });

  it("fails as INTERNAL if its list is malformed", async () => {
    const source = await open("export const resolve = () => null; export const list = () => 5;");
    await expect(source.list()).rejects.toMatchObject({ code: "INTERNAL" });
  });
});
