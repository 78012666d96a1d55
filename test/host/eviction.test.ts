import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { presetFile } from "../support/host-files.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("eviction");
  const tenants = [
    await database.tenant("acme"),
    await database.tenant("globex", "create table other (id integer)"),
    await database.tenant("initech", "create table third (id integer)"),
  ];
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      pooling: true,
      preset: presetFile,
      cells: { memoryMb: 800, heapMb: 256 },
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

interface Cell {
  readonly id: string;
  readonly phase: string;
  readonly inFlight: number;
  readonly heapUsedMb: number;
  readonly instances: readonly { readonly key: string }[];
}

const cells = async (): Promise<Cell[]> => (await host.adminJson("/status")).cells;

async function serving(tenant: string): Promise<Cell> {
  const { key } = await host.adminJson(`/tenants/${tenant}`);
  const found = (await cells()).find((cell) => cell.instances.some((instance) => instance.key === key));
  if (found === undefined) throw new Error(`no cell serves ${tenant}`);
  return found;
}

describe("an eviction during a slow request", () => {
  it("lets the request complete, then ends the thread and returns its memory", async () => {
    // One spare cell, as there will be afterwards.
    await host.process.line("cell.started");
    expect(await cells()).toMatchObject([{ phase: "spare" }]);
    const beforeMb = host.process.rssMb;

    expect(await host.data("acme", "{ hold(mb: 120) }")).toEqual({ hold: 1 });
    const cell = await serving("acme");
    await vi.waitFor(async () => expect((await serving("acme")).heapUsedMb).toBeGreaterThan(120), {
      timeout: 20_000,
    });
    // Its replacement spare is up as well.
    await host.process.until(() => host.process.linesOf("cell.started")[1], 20_000);
    const tookMb = host.process.rssMb - beforeMb;
    expect(tookMb).toBeGreaterThan(120);

    const asked = host.graphql("acme", "{ slow(seconds: 3) }");
    await database.asleep();
    const { key } = await host.adminJson("/tenants/acme");
    expect(await host.adminJson("/evict", { tenant: "acme" })).toEqual({ evicted: [key] });
    expect((await cells()).find(({ id }) => id === cell.id)).toMatchObject({
      phase: "draining",
      inFlight: 1,
    });
    expect(host.process.linesOf("cell.terminated")).toEqual([]);

    expect(await asked).toMatchObject({ status: 200, data: { slow: "canary_acme one" }, errors: undefined });
    expect(await host.process.line("cell.terminated", { cell: cell.id })).toMatchObject({
      reason: "evicted",
      inFlight: 0,
    });
    const endedMs = performance.now();
    expect((await cells()).map(({ id }) => id)).not.toContain(cell.id);
    expect(await host.process.line("instance.evicted", { cell: cell.id })).toMatchObject({
      key,
      reason: "requested",
    });
    await vi.waitFor(
      async () =>
        expect((await database.connected()).filter((name) => name.endsWith(`:${cell.id}`))).toEqual([]),
      { timeout: 20_000 },
    );

    // The one assertion with a time limit: V8 keeps an ended thread's pages for eight seconds.
    await vi.waitFor(() => expect(host.process.rssMb).toBeLessThanOrEqual(beforeMb + tookMb / 4), {
      timeout: 15_000 - (performance.now() - endedMs),
      interval: 250,
    });
    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
  });
});

describe("a request that comes while its instance drains", () => {
  it("is served by a new one, while the old one completes its requests", async () => {
    const before = await serving("acme");
    // Longer than a busy machine needs to start a thread and build.
    const asked = host.graphql("acme", "{ slow(seconds: 12) }");
    await database.asleep();
    await host.adminJson("/evict", { tenant: "acme" });
    expect(await host.data("acme", itemsQuery)).toEqual(itemsOf("acme"));
    const draining = (await cells()).find(({ id }) => id === before.id);
    expect(draining).toMatchObject({ phase: "draining", inFlight: 1 });
    expect(await asked).toMatchObject({ data: { slow: "canary_acme one" } });
    await host.process.line("cell.terminated", { cell: before.id });
    expect((await serving("acme")).id).not.toBe(before.id);
  });
});

describe("an instance that shares its cell", () => {
  it("is evicted alone, and the other one keeps serving", async () => {
    const ids = ["acme", "globex", "initech"];
    for (const id of ids) expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
    const homes = await Promise.all(ids.map(async (id) => (await serving(id)).id));
    const first = homes.findIndex((home, index) => homes.indexOf(home, index + 1) !== -1);
    const [leaves, stays] = [ids[first] ?? "", ids[homes.indexOf(homes[first] ?? "", first + 1)] ?? ""];
    const { key } = await host.adminJson(`/tenants/${leaves}`);
    expect(await host.adminJson("/evict", { key })).toEqual({ evicted: [key] });
    await host.process.line("instance.evicted", { key, cell: homes[first] });
    expect(await host.data(stays, itemsQuery)).toEqual(itemsOf(stays));
    const home = await serving(stays);
    expect(home).toMatchObject({ id: homes[first], phase: "serving" });
    expect(home.instances.map((instance) => instance.key)).not.toContain(key);
  });
});
