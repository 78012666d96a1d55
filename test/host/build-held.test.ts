import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

/** Fails for tenants with the setting `broken` until a file named `mended` exists. */
const preset = `
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { PostGraphileAmberPreset } from "${import.meta.resolve("postgraphile/presets/amber")}";
const mended = fileURLToPath(new URL("mended", import.meta.url));
export default ({ settings }) => {
  if (settings.broken && !existsSync(mended)) throw new Error("the preset is not ready");
  return { extends: [PostGraphileAmberPreset] };
};`;

let database: TenantDatabase;
let host: TestHost;
let directory: string;

beforeAll(async () => {
  database = await createTenantDatabase("held");
  const [acme, globex, initech] = await Promise.all(
    ["acme", "globex", "initech"].map((id) => database.tenant(id)),
  );
  const broken = { settings: { broken: "yes" } };
  ({ path: directory } = await directoryWith({
    "preset.mjs": preset,
    "host.json": JSON.stringify({
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [{ ...acme, ...broken }, globex, { ...initech, ...broken }],
      preset: "./preset.mjs",
      pooling: true,
      listen: { port: 0 },
      admin: { port: 0 },
      cells: { memoryMb: 700, heapMb: 192, max: 2, instanceHeapMb: 16 },
    }),
  }));
  host = await TestHost.start({ config: {}, directory, connected: database.connected });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

const failed = async (): Promise<number> => host.metric('builds_total{result="failed"}');
const ask = (tenant: string) => host.graphql(tenant, "{ allItems { nodes { label } } }");

/** Waits until the pause is too long to end by itself in between; resolves to acme's last answer. */
const longHeld = () =>
  vi.waitFor(async () => {
    const answer = await ask("acme");
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(3);
    return answer;
  }, 90_000);

it("a blueprint that cannot be built is tried for two tenants and then held back, and all requests get the same error", async () => {
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, n) => ask(n % 2 === 0 ? "acme" : "initech")),
  );
  for (const { status, code, headers } of answers) {
    expect({ status, code }).toEqual({ status: 500, code: "BUILD_FAILED" });
    expect(Number(headers["retry-after"])).toBeGreaterThan(0);
  }
  expect(await failed()).toBeLessThanOrEqual(4);

  await longHeld();
  const before = await failed();
  const held = await ask("initech");
  expect(held).toMatchObject({ status: 500, code: "BUILD_FAILED" });
  expect(held.text).not.toContain("not ready");
  expect(await failed()).toBe(before);
  const line = await host.process.line("request.failed", { requestId: held.headers["x-request-id"] });
  expect(JSON.stringify(line)).toMatch(/held back for \d+ s.*the preset is not ready/);
  // Tenants of another blueprint are not affected.
  expect(await ask("globex")).toMatchObject({ status: 200 });
});

it("a held blueprint is tried again if the tenant's schema changes, or an operator evicts or flushes", async () => {
  await longHeld();
  await writeFile(join(directory, "mended"), "");
  await database.change("initech", "comment on table part is 'changed'; comment on table part is null");
  await vi.waitFor(async () => expect(await ask("initech")).toMatchObject({ status: 200 }), 30_000);
  // The instance serves every tenant of the blueprint.
  expect(await ask("acme")).toMatchObject({ status: 200 });

  await rm(join(directory, "mended"));
  await host.adminJson("/flush", {});
  await longHeld();
  await writeFile(join(directory, "mended"), "");
  await host.adminJson("/evict", { tenant: "acme" });
  expect(await ask("acme")).toMatchObject({ status: 200 });
});
