import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { GraphqlAnswer } from "../support/exchanged.ts";
import { TestHost } from "../support/host.ts";
import { presetFile } from "../support/host-files.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

const ids = Array.from({ length: 10 }, (_, index) => `t${index}`);
const memoryMb = 450;

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("capacity");
  const tenants: object[] = [];
  // Twenty megabytes per instance: two fit in a cell of 128, and there is memory for two cells.
  for (const id of ids) tenants.push({ ...(await database.tenant(id)), settings: { ballast: "20" } });
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 2 } },
      tenants,
      // A dedicated instance for each.
      pooling: false,
      preset: presetFile,
      cells: { memoryMb, heapMb: 128, max: undefined, instanceHeapMb: 20, drainTimeout: "10s" },
      builds: { queue: 3 },
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

interface Sample {
  readonly cells: readonly string[];
  readonly instances: number;
  readonly rssMb: number;
}

describe("more blueprints than the memory holds", () => {
  it("are all answered or told when to retry, and never use more cells than planned", async () => {
    const [plan] = host.process.linesOf("host.plan");
    expect(plan).toMatchObject({ cells: 2 });

    const samples: Sample[] = [];
    let over = false;
    const sampling = (async () => {
      while (!over) {
        const { cells } = await host.adminJson("/status");
        samples.push({
          cells: cells.map((cell: { phase: string }) => cell.phase),
          instances: cells.flatMap((cell: { instances: object[] }) => cell.instances).length,
          rssMb: host.process.rssMb,
        });
        await sleep(50);
      }
    })();

    const answers: [string, GraphqlAnswer][] = [];
    await Promise.all(
      Array.from({ length: 4 }, async (_, client) => {
        for (let round = 0; round < 6; round += 1) {
          const id = ids[(client * 3 + round) % ids.length] ?? "t0";
          answers.push([id, await host.graphql(id, itemsQuery)]);
        }
      }),
    );
    over = true;
    await sampling;

    expect(answers).toHaveLength(24);
    for (const [id, { status, data, headers, code }] of answers) {
      if (status === 200) expect(data).toEqual(itemsOf(id));
      else
        expect({ status, code, retryAfter: Number(headers["retry-after"]) > 0 }).toMatchObject({
          status: 503,
          retryAfter: true,
        });
    }
    expect(answers.filter(([, answer]) => answer.status === 200).length).toBeGreaterThan(16);

    // Memory was short: instances were evicted for others.
    expect(await host.metric('evictions_total{reason="capacity"}')).toBeGreaterThan(5);
    expect(Math.max(...samples.map(({ cells }) => cells.length))).toBe(2);
    expect(Math.max(...samples.map(({ instances }) => instances))).toBeLessThanOrEqual(5);
    expect(Math.max(...samples.map(({ rssMb }) => rssMb))).toBeLessThan(memoryMb);
  });

  it("are all answered if they are requested one after the other", async () => {
    for (const id of ids) expect(await host.data(id, itemsQuery)).toEqual(itemsOf(id));
  });

  it("are refused with Retry-After if too many wait to be built", async () => {
    // At most five are in memory, one is being built and three wait.
    await host.adminJson("/flush", {});
    const answers = await Promise.all(ids.map((id) => host.graphql(id, itemsQuery)));
    const refused = answers.filter(({ status }) => status !== 200);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused.length).toBeLessThan(ids.length);
    for (const { status, code, headers } of refused) {
      expect({ status, code }).toEqual({ status: 503, code: "BUILD_QUEUE_FULL" });
      expect(Number(headers["retry-after"])).toBeGreaterThan(0);
    }
  });
});
