import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { presetFile } from "../support/host-files.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

const kinds = ["map", "array", "result"];

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("containment");
  const tenants = [await database.tenant("calm")];
  // One shape each, since ending its thread counts against an instance's blueprint.
  for (const kind of kinds)
    tenants.push(await database.tenant(kind, `create table only_${kind} (id integer)`));
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants,
      pooling: true,
      preset: presetFile,
      limits: { resultBytes: "4 GB", requestTimeout: "60s" },
      cells: { memoryMb: 1000, heapMb: 160, max: 3 },
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

/** The cell that currently serves a tenant. */
async function cellOf(tenant: string): Promise<string> {
  const { key } = await host.adminJson(`/tenants/${tenant}`);
  const { cells } = await host.adminJson("/status");
  const found = cells.find((cell: { instances: { key: string }[] }) =>
    cell.instances.some((instance) => instance.key === key),
  );
  return found?.id;
}

describe.each(kinds)("a heap beyond its budget by a growing %s", (kind) => {
  it("ends only its own cell, which is replaced", async () => {
    expect(await host.data("calm", itemsQuery)).toEqual(itemsOf("calm"));
    expect(await host.data(kind, itemsQuery)).toEqual(itemsOf(kind));
    const [calm, lost] = [await cellOf("calm"), await cellOf(kind)];
    expect(lost).not.toBe(calm);

    let answered = 0;
    let over = false;
    const traffic = Array.from({ length: 3 }, async () => {
      while (!over) {
        expect(await host.data("calm", itemsQuery)).toEqual(itemsOf("calm"));
        answered += 1;
        // Leaves CPU time to the growing cell.
        await sleep(5);
      }
    });
    const growing = host.graphql(kind, `{ endless(kind: "${kind}") }`).finally(() => {
      over = true;
    });
    const terminated = await host.process.line("cell.terminated", { cell: lost });
    const meanwhile = answered;
    expect(terminated).toMatchObject({ reason: "over-budget", instances: 1 });
    const answer = await growing;
    await Promise.all(traffic);

    // The request was sent once more, to another cell, and ended that one as well.
    expect(answer).toMatchObject({ status: 503, code: expect.stringMatching(/^(CELL_LOST|BUILD_HELD)$/) });
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect(meanwhile).toBeGreaterThan(0);
    expect(await cellOf("calm")).toBe(calm);

    const back = await vi.waitFor(
      async () => {
        const again = await host.graphql(kind, itemsQuery);
        expect(again).toMatchObject({ status: 200 });
        return again.data;
      },
      { timeout: 30_000, interval: 250 },
    );
    expect(back).toEqual(itemsOf(kind));
    const successor = await cellOf(kind);
    expect(successor).not.toBe(lost);
    expect(successor).not.toBe(calm);
    // The next kind must start without this cell.
    await host.adminJson("/evict", { cell: successor });
    await host.process.line("cell.terminated", { cell: successor });
    expect(host.process.linesOf("cell.terminated").filter((line) => line["cell"] === calm)).toEqual([]);
  });
});
