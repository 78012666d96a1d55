import { availableParallelism } from "node:os";
import { describe, expect, it } from "vitest";
import { type FakeFleet, keyOf } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf } from "./witness.ts";

const start = fakeFleets({ heapMb: 256 });

/** Keeps `clients` busy with requests of 20 ms of CPU each until told to stop; collects the cells that answered. */
function load(fake: FakeFleet, clients: number, tenant = "acme") {
  let over = false;
  const cells = new Set<string>();
  const running = Array.from({ length: clients }, async () => {
    while (!over) cells.add((await fake.ask(tenant, "/busy", "n=20")).cell);
  });
  return {
    cells,
    stop: async (): Promise<void> => {
      over = true;
      await Promise.all(running);
    },
  };
}

const replicasOf = (fake: FakeFleet, name = "acme") => fake.fleet.registry.serving(keyOf(name));

// On a machine with one core a second cell gains nothing.
describe.runIf(availableParallelism() > 1)("a blueprint that keeps its cell busy", () => {
  it("is also served by a second cell, which takes its share, and by one again once it rests", async () => {
    const fake = start({ cells: 3, replicas: 2 });
    const busy = load(fake, 6);
    await fake.once(() => (fake.all("build.done").length === 2 ? true : undefined));
    busy.cells.clear();
    await expect.poll(() => busy.cells.size, { timeout: 20_000 }).toBe(2);
    expect(new Set(replicasOf(fake).map(({ cell }) => cell)).size).toBe(2);
    await busy.stop();
    // Thirty seconds of rest, without a request failing on the way.
    await fake.until("instance.evicted", ({ reason }) => reason === "idle");
    expect(replicasOf(fake)).toHaveLength(1);
    expect((await fake.ask("acme")).cell).toBe(replicasOf(fake)[0]?.cell.id);
    expect(fake.all("build.done")).toHaveLength(2);
  }, 90_000);

  it("is still served by the other if one of its cells dies, without a build", async () => {
    const fake = start({ cells: 2, replicas: 2 });
    const busy = load(fake, 6);
    await fake.once(() => (fake.all("build.done").length === 2 ? true : undefined));
    await busy.stop();
    const [first, second] = replicasOf(fake);
    await first?.cell.terminate("over-budget");
    expect((await fake.ask("acme")).cell).toBe(second?.cell.id);
    expect(fake.all("build.started")).toHaveLength(2);
  });

  it("is built anew if both its cells are replaced at once, as neither relies on the other", async () => {
    const fake = start({ cells: 4, replicas: 2 });
    const busy = load(fake, 6);
    await fake.once(() => (fake.all("build.done").length === 2 ? true : undefined));
    await busy.stop();
    const old = replicasOf(fake);
    expect(old).toHaveLength(2);
    await Promise.all(old.map(({ cell }) => fake.fleet.replace(cell)));
    const now = replicasOf(fake);
    expect(now.length).toBeGreaterThan(0);
    expect(now.some((instance) => old.includes(instance))).toBe(false);
  });

  it("takes neither instances nor cells from others", async () => {
    const fake = start({ cells: 2, replicas: 2, instanceHeapMb: 150 });
    fake.blueprints.set("other", { settings: { saysMb: "150" } });
    await fake.ask("other");
    const busy = load(fake, 6);
    // Busy for three times as long as a second replica would have taken to come.
    await expect
      .poll(
        async () => {
          const [instance] = replicasOf(fake);
          return instance === undefined ? 0 : instance.requests;
        },
        { timeout: 60_000 },
      )
      .toBeGreaterThan(400);
    await busy.stop();
    expect(replicasOf(fake)).toHaveLength(1);
    expect(fake.all("instance.evicted")).toEqual([]);
    expect(await codeOf(fake.ask("other"))).toBe("none");
    expect(fake.all("build.started")).toHaveLength(2);
  }, 90_000);

  it("stays in one cell unless the config allows more", async () => {
    const fake = start({ cells: 3 });
    const busy = load(fake, 6);
    await expect.poll(() => replicasOf(fake)[0]?.requests ?? 0, { timeout: 60_000 }).toBeGreaterThan(300);
    await busy.stop();
    expect(fake.all("build.started")).toHaveLength(1);
  }, 90_000);
});
