import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import { type FakeFleet, keyOf } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";

const start = fakeFleets({ heapMb: 256, quarantine: { share: 0.5, windowMs: 1_000 } });

/** Two tenants of one blueprint. */
function shared(fake: FakeFleet): FakeFleet {
  for (const name of ["loud", "quiet"]) fake.blueprints.set(name, { tenant: `${name}@shared` });
  return fake;
}

/** `loud` keeps the thread fully busy, and `quiet` uses next to nothing, until told to stop. */
function noise(fake: FakeFleet) {
  let over = false;
  const cells = { loud: "", quiet: "" };
  const run = async (tenant: "loud" | "quiet", path: string, query: string): Promise<void> => {
    while (!over) {
      cells[tenant] = (await fake.ask(tenant, path, query)).cell;
      if (tenant === "quiet") await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const running = [
    ...Array.from({ length: 4 }, () => run("loud", "/busy", "n=20")),
    run("quiet", "/echo", ""),
  ];
  return {
    cells,
    stop: async (): Promise<void> => {
      over = true;
      await Promise.all(running);
    },
  };
}

const isolated = (fake: FakeFleet) => fake.fleet.registry.reserved(keyOf("shared"), tenantId("loud"));

describe("a tenant that uses more than its share of a cell", () => {
  it("is served by a cell of its own, and with the others again once it has calmed down", async () => {
    const fake = shared(start({ cells: 3 }));
    const { cells, stop } = noise(fake);
    const { tenant, cell } = await fake.until("tenant.quarantined");
    expect(tenant).toBe("loud");
    await expect.poll(() => cells.loud).toBe(cell);
    expect(cells.quiet).not.toBe(cell);
    await stop();
    expect(await fake.until("tenant.released")).toMatchObject({ tenant: "loud", cell, why: "calm" });
    expect((await fake.ask("loud")).cell).toBe((await fake.ask("quiet")).cell);
    // Nothing failed, and only one more instance was built.
    expect(fake.all("build.done")).toHaveLength(2);
    expect(fake.all("build.failed")).toEqual([]);
  });

  it("gives up the cell as soon as another blueprint needs the room", async () => {
    // Nothing fits beside an instance of this size.
    const fake = shared(start({ cells: 2, instanceHeapMb: 100 }));
    fake.blueprints.set("shared", { settings: { saysMb: "140" } });
    const { stop } = noise(fake);
    await fake.until("tenant.quarantined");
    expect(await fake.ask("large")).toMatchObject({ tenant: "large" });
    expect(await fake.until("tenant.released")).toMatchObject({ tenant: "loud", why: "capacity" });
    await stop();
    expect((await fake.ask("loud")).cell).toBe((await fake.ask("quiet")).cell);
  });

  it("is served with the others again if its cell dies, without a failed request", async () => {
    const fake = shared(start({ cells: 3 }));
    const { cells, stop } = noise(fake);
    await fake.until("tenant.quarantined");
    const own = isolated(fake)?.cell;
    await expect.poll(() => cells.loud).toBe(own?.id);
    await own?.terminate("over-budget");
    await stop();
    expect(isolated(fake)?.cell).not.toBe(own);
    expect(await fake.ask("loud")).toMatchObject({ tenant: "loud" });
  });

  it("stays where it is if no other cell is allowed", async () => {
    const fake = shared(start({ cells: 1 }));
    const { cells, stop } = noise(fake);
    // Long enough for several windows of a second each.
    await expect
      .poll(() => fake.fleet.registry.current(keyOf("shared"), tenantId("loud"))?.requests)
      .toBeGreaterThan(200);
    await stop();
    expect(cells.loud).toBe(cells.quiet);
    expect(fake.all("tenant.quarantined")).toEqual([]);
  });

  it("may use all of a cell that has no other requests", async () => {
    const fake = shared(start({ cells: 3 }));
    const running = Array.from({ length: 4 }, async () => {
      for (let count = 0; count < 50; count += 1) await fake.ask("loud", "/busy", "n=20");
    });
    await Promise.all(running);
    expect(fake.all("tenant.quarantined")).toEqual([]);
  });
});
