import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import { keyOf } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, Gate } from "./witness.ts";

const start = fakeFleets();

describe("the governor", () => {
  it("ends a cell whose event loop has stalled, and no other", async () => {
    const fake = start({ cells: 2, stallTimeoutMs: 1_500, instanceHeapMb: 60 });
    using gate = new Gate();
    fake.blueprints.set("other", { settings: { saysMb: "60" } });
    const other = fake.ask("other", "/gate", `name=${gate.name}`);
    await gate.arrived;
    const { cell } = await fake.ask("acme");
    const spinning = codeOf(fake.ask("acme", "/spin"));
    expect(await fake.until("cell.terminated")).toMatchObject({ cell, reason: "stalled", inFlight: 1 });
    gate.open();
    expect((await other).tenant).toBe("other");
    // Sent once more, it stalls the next one too.
    await fake.once(() => (fake.all("cell.terminated").length === 2 ? true : undefined));
    expect(await spinning).toBe("CELL_LOST");
  });

  it("does not mistake a build for a stall", async () => {
    const fake = start({ cells: 1, stallTimeoutMs: 1_200, buildTimeoutMs: 20_000 });
    await fake.ask("other");
    using gate = new Gate();
    fake.blueprints.set("acme", { settings: { gate: gate.name } });
    const asking = fake.ask("acme");
    await gate.arrived;
    // Blocks the event loop for longer than the stall timeout while the build goes on.
    await fake.ask("other", "/native", "n=2500");
    gate.open();
    expect((await asking).tenant).toBe("acme");
    expect(fake.all("cell.terminated")).toEqual([]);
  });

  it("watches the other cells while one is in a native call and does not respond", async () => {
    const fake = start({ cells: 2, heapMb: 96, instanceHeapMb: 25 });
    for (const name of ["busy", "greedy"]) fake.blueprints.set(name, { settings: { saysMb: "30" } });
    const { cell: busy } = await fake.ask("busy");
    const { cell: greedy } = await fake.ask("greedy");
    expect(busy).not.toBe(greedy);
    let over = false;
    const native = fake.ask("busy", "/native", "n=4000").then(() => over);
    await fake.cellOf(await fake.ask("greedy")).measure();
    const growing = codeOf(fake.ask("greedy", "/hold", "n=120"));
    expect(await fake.until("cell.terminated")).toMatchObject({ cell: greedy, reason: "over-budget" });
    over = true;
    expect(await native).toBe(true);
    await growing;
  });

  it("has a permanently full cell replaced, and all its requests succeed", async () => {
    const fake = start({ cells: 2, heapMb: 256 });
    const { cell } = await fake.ask("acme");
    // 85 % of the budget is 218 MB; the thread itself takes 6, and about 15 off the heap.
    await fake.ask("acme", "/leak", "n=216");
    const served = new Set<string>();
    const run = (async () => {
      while (served.size < 2) served.add((await fake.ask("acme")).cell);
    })();
    expect(await fake.until("cell.condemned")).toMatchObject({ cell, heapBudgetMb: 256 });
    expect(await fake.until("cell.terminated")).toMatchObject({ cell, reason: "replaced", inFlight: 0 });
    await run;
    expect(fake.fleet.registry.current(keyOf("acme"), tenantId("acme"))?.cell.id).not.toBe(cell);
  });

  it("does not replace a cell whose only instance is that large from the start", async () => {
    const fake = start({ cells: 2, heapMb: 256 });
    fake.blueprints.set("huge", { settings: { saysMb: "180" } });
    const cell = fake.cellOf(await fake.ask("huge"));
    await fake.ask("huge", "/hold", "n=216");
    await expect.poll(() => cell.heap.liveMb, { timeout: 20_000 }).toBeGreaterThan(218);
    expect((await fake.ask("huge")).cell).toBe(cell.id);
    expect(fake.all("cell.condemned")).toEqual([]);
  });

  it("has an instance measured after its build, once nothing waits for it", async () => {
    const fake = start({ cells: 1 });
    fake.blueprints.set("acme", { settings: { saysMb: "7", usedMb: "70" } });
    const { instance } = await fake.ask("acme");
    const seen = fake.fleet.registry.find(instance);
    expect(await fake.until("instance.measured")).toMatchObject({ key: keyOf("acme"), heapMb: 7 });
    expect(seen).toMatchObject({ measured: true, heapMb: 7 });
  });

  it("spares a cell that makes garbage far beyond its budget", async () => {
    const fake = start({ cells: 1, heapMb: 96 });
    const { cell } = await fake.ask("acme");
    expect((await fake.ask("acme", "/garbage", "n=1500")).cell).toBe(cell);
    expect(fake.all("cell.terminated")).toEqual([]);
  });

  it("ends a cell that exceeds its budget while it starts", async () => {
    const fake = start({ cells: 1, heapMb: 96, preset: "grows" });
    expect(await fake.until("cell.terminated")).toMatchObject({ reason: "over-budget", instances: 0 });
  });

  it("starts cells again after failed starts, without a request", async () => {
    const fake = start({ cells: 1, preset: "fails" });
    await fake.once(() => (fake.all("cell.terminated").length >= 2 ? true : undefined));
    expect(fake.fleet.healthy).toBe(false);
    expect(new Set(fake.all("cell.terminated").map(({ reason }) => reason))).toEqual(
      new Set(["start-failed"]),
    );
  });
});
