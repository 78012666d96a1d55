import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

const entry = fileURLToPath(new URL("../../bin/rowhouse.js", import.meta.url));
const preset = `
  import { getHeapStatistics } from "node:v8";
  import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
  console.warn("limit " + getHeapStatistics().heap_size_limit);
  export default { extends: [PostGraphileAmberPreset] };`;

let database: TenantDatabase;
const hosts: TestHost[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("entry");
});
afterAll(async () => {
  for (const host of hosts) await host.stop();
  await database.drop();
});

/** A host, and V8's heap limit in its cell. */
async function start(tenant: string, cli?: string): Promise<{ host: TestHost; limit: string }> {
  const host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [await database.tenant(tenant)],
      preset: "./preset.mjs",
    },
    files: { "preset.mjs": preset },
    connected: database.connected,
    ...(cli === undefined ? {} : { cli }),
  });
  hosts.push(host);
  expect(await host.data(tenant, itemsQuery)).toEqual(itemsOf(tenant));
  const [limit = ""] = /limit \d+/.exec(JSON.stringify(await host.process.line("cell.log"))) ?? [];
  return { host, limit };
}

const flagsOf = ({ process }: TestHost): string[] =>
  readFileSync(`/proc/${process.pid}/cmdline`, "utf8")
    .split("\0")
    .filter((word) => word.startsWith("--max"));

it("the installed command serves from the started process, limiting the young generation of the front but not of cells", async () => {
  const direct = await start("ada");
  const installed = await start("bob", entry);
  expect(flagsOf(direct.host)).toEqual([]);
  expect(flagsOf(installed.host)).toEqual(["--max-semi-space-size=2"]);
  expect(installed.limit).toMatch(/^limit \d+$/);
  expect(installed.limit).toBe(direct.limit);
});

it("a heap limit in the caller's NODE_OPTIONS is still refused", async () => {
  const { code, stderr } = await runCli({
    args: ["serve"],
    cwd: "/",
    env: { NODE_OPTIONS: "--max-semi-space-size=64" },
    cli: entry,
  });
  expect(code).toBe(1);
  expect(stderr).toMatch(/--max-semi-space-size overrides the heap limit of every worker thread/);
});

/** The machine's own Node.js, if it is older than the one that the package brings. */
const older = (process.env["PATH"] ?? "")
  .split(delimiter)
  .filter((directory) => !directory.includes("node_modules"))
  .map((directory) => join(directory, "node"))
  .find(
    (node) => existsSync(node) && /^v2[01]\./.test(execFileSync(node, ["--version"], { encoding: "utf8" })),
  );

it.skipIf(older === undefined)("under Node.js 20 the command runs on the version in the package", () => {
  const version = execFileSync(older ?? "", [entry, "--version"], { encoding: "utf8", env: {} });
  expect(version).toMatch(/^\d+\.\d+\.\d+\n$/);
  const wrong = (): string =>
    execFileSync(older ?? "", [entry, "nonsense"], { encoding: "utf8", env: {}, stdio: "pipe" });
  expect(wrong).toThrow(expect.objectContaining({ status: 2 }));
});
