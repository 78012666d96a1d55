import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { availableMemoryMb } from "../../src/config/available-memory.ts";
import { loadConfig } from "../../src/config/load.ts";
import { ConfigError } from "../../src/validation/config-error.ts";

const url = "postgres://rowhouse:hunter2@db.example/app";
let cwd = "";
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), "rowhouse-environment-"));
  const config = {
    listen: { port: 1111 },
    admin: { token: "from-the-file" },
    databases: { main: { url: "postgres://file.example/app", poolSize: 7 } },
    pooling: false,
    graphiql: false,
    cells: { instances: 1, instanceHeapMb: 1, idleTtl: 1, drainTimeout: 1 },
    builds: { concurrency: 1 },
  };
  await writeFile(join(cwd, "full.json"), JSON.stringify(config));
});
afterAll(() => rm(cwd, { recursive: true }));

const load = (env: Record<string, string>, file?: string) => loadConfig({ cwd, env, execArgv: [], file });

async function faultsOf(loading: Promise<unknown>): Promise<string[]> {
  const error: unknown = await loading.catch((reason: unknown) => reason);
  if (!(error instanceof ConfigError)) throw new Error("it was accepted");
  expect(error.message).not.toMatch(/hunter2/);
  return error.faults.map(({ path }) => path);
}

describe("the environment", () => {
  it("overrides the file, variable by variable", async () => {
    const env = {
      DATABASE_URL: url,
      PORT: "2222",
      ROWHOUSE_ADMIN_TOKEN: "from-the-environment",
      GRAPHILE_BLUEPRINT_POOLING: "1",
      GRAPHILE_CACHE_MAX: "12",
      GRAPHILE_CACHE_INSTANCE_HEAP_BYTES: String(50 * 2 ** 20 + 1),
      GRAPHILE_CACHE_TTL_MS: "60000",
      GRAPHILE_CACHE_DRAIN_TIMEOUT_MS: "0",
      GRAPHILE_BUILD_CONCURRENCY: "2",
      GRAPHILE_GRAPHIQL: "true",
    };
    const config = await load(env, "full.json");
    expect(config).toMatchObject({
      listen: { port: 2222 },
      admin: { token: "from-the-environment" },
      databases: { main: { url, listenUrl: url, poolSize: 7, poolReserve: 7 } },
      pooling: true,
      graphiql: true,
      cells: { instances: 12, instanceHeapMb: 51, idleTtlMs: 60_000, drainTimeoutMs: 0 },
      builds: { concurrency: 2 },
    });
  });

  it("is enough by itself: DATABASE_URL is the database main, with its control table", async () => {
    const config = await load({ DATABASE_URL: url });
    expect(config.databases).toEqual({
      main: {
        url,
        listenUrl: url,
        poolSize: 4,
        poolReserve: 4,
        install: true,
        renewAfter: { tenants: 500, ageMs: 3_600_000, memoryMb: 64 },
      },
    });
    expect(config.tenants).toEqual({ kind: "table", database: "main" });
  });

  it("is overridden by the options", async () => {
    const overrides = { port: 3333, adminPort: 4444 };
    const config = await loadConfig({ cwd, env: { PORT: "2222" }, execArgv: [], overrides });
    expect([config.listen.port, config.admin.port]).toEqual([3333, 4444]);
    const wrong = loadConfig({
      cwd,
      env: {},
      execArgv: [],
      overrides: { port: 70_000, adminPort: Number.NaN },
    });
    expect(await faultsOf(wrong)).toEqual(["--port", "--admin-port"]);
  });

  it.each([
    ["DATABASE_URL", ["", "mysql://u:hunter2@h/d", "db.example"]],
    ["PORT", ["", "x", "-1", "65536", "80.5", "0x50", "8e3"]],
    ["ROWHOUSE_ADMIN_TOKEN", ["", "two words"]],
    ["GRAPHILE_BLUEPRINT_POOLING", ["", "2", "maybe"]],
    ["GRAPHILE_CACHE_MAX", ["", "0", "-5", "many", "1.5"]],
    ["GRAPHILE_CACHE_INSTANCE_HEAP_BYTES", ["", "0", "50MB"]],
    ["GRAPHILE_CACHE_TTL_MS", ["", "0", "6h", "9999999999"]],
    ["GRAPHILE_CACHE_DRAIN_TIMEOUT_MS", ["", "-1", "soon"]],
    ["GRAPHILE_BUILD_CONCURRENCY", ["", "0", "two"]],
    ["GRAPHILE_GRAPHIQL", ["", "perhaps"]],
  ])("is checked: a bad %s is a fault of that name, not ignored", async (name, values) => {
    for (const value of values) {
      expect([value, await faultsOf(load({ [name]: value }, "full.json"))]).toEqual([value, [name]]);
    }
  });

  it("is named as the source of a token that is too short for a listener beyond loopback", async () => {
    await writeFile(join(cwd, "open.json"), JSON.stringify({ admin: { host: "0.0.0.0" } }));
    expect(await faultsOf(load({ ROWHOUSE_ADMIN_TOKEN: "short" }, "open.json"))).toEqual([
      "ROWHOUSE_ADMIN_TOKEN",
    ]);
  });
});

describe("a heap limit for the whole process", () => {
  it.each([
    "--max-old-space-size=4096",
    "--max-old-space-size 4096",
    "--max_old_space_size=4096",
    "--max_old-space_size=4096",
    "--max-heap-size=4096",
    "--max-semi-space-size=64",
    "--max-old-space-size-percentage=50",
    "--enable-source-maps --max-old-space-size=4096 --trace-warnings",
    '"--max-old-space-size=4096"',
  ])("is a fault that gives the reason: %s", async (text) => {
    expect(await faultsOf(load({ NODE_OPTIONS: text }))).toEqual(["NODE_OPTIONS"]);
    const given = loadConfig({ cwd, env: {}, execArgv: text.split(" ") });
    await expect(given).rejects.toThrow(/overrides the heap limit of every worker thread/);
  });

  it.each(["", "--enable-source-maps", "--require=./max-old-space-size.js", "--max-http-header-size=16384"])(
    "is not found in %j",
    async (text) => {
      await expect(load({ NODE_OPTIONS: text })).resolves.toBeDefined();
    },
  );
});

describe("the memory available", () => {
  const gb = 2 ** 30;

  it.each([
    ["a container's limit", 512 * 2 ** 20, 16 * gb, 512],
    ["the machine's memory, where there is no limit", 0, 16 * gb, 16_384],
    ["the machine's memory, where the limit is beyond it", 2 ** 64, 16 * gb, 16_384],
  ])("is %s", (_, constrained, total, expected) => {
    expect(availableMemoryMb(constrained, total)).toBe(expected);
  });
});
