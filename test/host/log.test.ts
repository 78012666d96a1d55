import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { noisyPresetFile } from "../support/host-files.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

let database: TenantDatabase;
const tenants: TenantRecord[] = [];

beforeAll(async () => {
  database = await createTenantDatabase("log");
  for (const id of ["noisy", "calm"]) tenants.push(await database.tenant(id));
});
afterAll(() => database.drop());

async function start(): Promise<TestHost> {
  const host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      preset: noisyPresetFile,
      cells: { drainTimeout: "20s" },
    },
    // Then error details go only to the log.
    env: { NODE_ENV: "production" },
    connected: database.connected,
  });
  for (const id of ["noisy", "calm"]) await host.data(id, "{ __typename }");
  return host;
}

const noise = "query ($way: String!) { noise(way: $way) }";

/** Makes `tenant` log more than the pipe and the buffer hold, and one kind of line more often than its limit. */
async function flood(host: TestHost, tenant: string): Promise<void> {
  for (const way of ["log", "warn", "rejection"]) {
    for (let round = 0; round < 30; round += 1) await host.data(tenant, noise, { way });
  }
}

const dropped = async (host: TestHost, reason: string): Promise<number> => {
  const levels = ["debug", "info", "warn", "error"];
  const metrics = await host.metrics();
  return levels
    .map(
      (level) => metrics.get(`rowhouse_log_dropped_total{level="${level}",reason="${reason}"}`) ?? Number.NaN,
    )
    .reduce((sum, count) => sum + count);
};

describe("a log that nobody reads", () => {
  it("holds up no tenant, counts its dropped lines, and reports their number once it is read again", async () => {
    const host = await start();
    expect(await dropped(host, "full")).toBe(0);
    host.process.child.stdout?.pause();
    await flood(host, "noisy");
    expect(await host.data("calm", itemsQuery)).toEqual(itemsOf("calm"));
    await expect.poll(() => dropped(host, "full")).toBeGreaterThan(0);
    expect(await dropped(host, "rate")).toBeGreaterThan(0);
    host.process.child.stdout?.resume();
    const line = await host.process.line("log.dropped", { reason: "full" });
    expect(line["count"]).toBe(await dropped(host, "full"));
    await host.stop();
  });

  it("does not keep the host from an orderly shutdown", async () => {
    const host = await start();
    host.process.child.stdout?.pause();
    await flood(host, "noisy");
    await expect.poll(() => dropped(host, "full")).toBeGreaterThan(0);
    const exit = once(host.process.child, "exit");
    host.process.signal("SIGTERM");
    expect(await exit).toEqual([0, null]);
    host.process.child.stdout?.resume();
    await host.process.ended;
  });

  it("does not keep the host from exiting at once", async () => {
    const host = await start();
    host.process.child.stdout?.pause();
    await flood(host, "noisy");
    const slow = host.graphql("calm", "{ slow(seconds: 15) }").catch(() => undefined);
    await database.asleep();
    const exit = once(host.process.child, "exit");
    host.process.signal("SIGTERM");
    host.process.signal("SIGINT");
    expect(await exit).toEqual([1, null]);
    host.process.child.stdout?.resume();
    await host.process.ended;
    await slow;
  });
});

describe("the log", () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await start();
  });
  afterAll(() => host.stop());

  it("shortens clients' values of any length, and names the tenant", async () => {
    const values = ["a".repeat(300_000), "b".repeat(200), `c"${"c".repeat(200)}`];
    for (const value of values) {
      const id = Buffer.from(JSON.stringify(["Item", value])).toString("base64");
      const { data, errors } = await host.graphql("noisy", "query ($id: ID!) { item(id: $id) { label } }", {
        variables: { id },
      });
      expect(data).toEqual({ item: null });
      const [, errorId = "none"] = /logged with id ([0-9a-f-]+)/.exec(errors?.[0]?.message ?? "") ?? [];
      const line = await host.process.until(
        () => host.process.lines.find(({ detail }) => String(detail).includes(errorId)),
        20_000,
      );
      expect(line).toMatchObject({ kind: "cell.log", tenant: "noisy", level: "warn" });
      expect(line?.["detail"]).toContain("invalid input syntax for type integer");
      expect(JSON.stringify(line).length).toBeLessThan(6_000);
      expect(host.process.output).not.toMatch(/([abc])\1{64}/);
    }
    expect(await host.data("calm", itemsQuery)).toEqual(itemsOf("calm"));
  });

  it.each(["stdout", "stderr", "warning"])("contains what a plugin writes as %s", async (way) => {
    const before = host.process.linesOf("cell.log").length;
    await host.data("calm", noise, { way });
    const line = await host.process.until(() => host.process.linesOf("cell.log")[before], 20_000);
    expect(line?.["detail"]).toContain("\u0001");
  });

  it("stops writing a loop's lines one by one, and reports how many were dropped", async () => {
    const before = await dropped(host, "rate");
    await host.data("calm", noise, { way: "loop" });
    await expect.poll(() => dropped(host, "rate")).toBeGreaterThan(before + 4_000);
    const told = (): true | undefined => {
      const sum = host.process.lines.reduce((count, { kind, ...line }) => {
        return count + Number(kind === "log.dropped" ? line["count"] : (line["leftOut"] ?? 0));
      }, 0);
      return sum > 4_000 ? true : undefined;
    };
    expect(await host.process.until(told, 30_000)).toBe(true);
  });
});
