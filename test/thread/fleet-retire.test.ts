import { describe, expect, it } from "vitest";
import { type FakeFleet, keyOf } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, countThreads, Gate } from "./witness.ts";

const threads = countThreads();
const start = fakeFleets();

const released = (fake: FakeFleet): string[] =>
  fake
    .all("cell.log")
    .map(({ message }) => message)
    .filter((message) => message.startsWith("released"));

describe("an eviction", () => {
  it("lets the requests in flight complete, and then ends the thread", async () => {
    const fake = start();
    using gate = new Gate();
    const slow = fake.ask("acme", "/gate", `name=${gate.name}`);
    await gate.arrived;
    const before = threads.running;
    expect(fake.fleet.evict(() => true, "requested")).toEqual([keyOf("acme")]);
    // New requests do not wait for the old ones.
    const fresh = await fake.ask("acme");
    expect(fake.all("cell.terminated")).toEqual([]);
    gate.open();
    const served = await slow;
    expect(served.instance).not.toBe(fresh.instance);
    const ended = await fake.until("cell.terminated");
    expect(ended).toMatchObject({ cell: served.cell, reason: "evicted", inFlight: 0 });
    expect(threads.running).toBe(before);
  });

  it("waits for a request no longer than the drain timeout", async () => {
    const fake = start({ drainTimeoutMs: 200 });
    using gate = new Gate();
    const stuck = codeOf(fake.ask("acme", "/mark", `name=${gate.name}`));
    await gate.arrived;
    fake.fleet.evict(() => true, "requested");
    expect(await fake.until("cell.terminated")).toMatchObject({ reason: "evicted", inFlight: 1 });
    expect(await stuck).toBe("CELL_LOST");
  });

  it("of an instance that was built anew meanwhile releases each exactly once, and the new one keeps serving", async () => {
    const fake = start({ cells: 1 });
    await fake.ask("other");
    using gate = new Gate();
    const slow = fake.ask("acme", "/gate", `name=${gate.name}`);
    await gate.arrived;
    const isAcme = (instance: { spec: { key: string } }): boolean => instance.spec.key === keyOf("acme");
    fake.fleet.evict(isAcme, "requested");
    const fresh = await fake.ask("acme");
    gate.open();
    const old = await slow;
    expect(old.cell).toBe(fresh.cell);
    await fake.until("cell.log", ({ message }) => message === `released ${old.instance}`);
    await fake.until("instance.evicted");
    expect((await fake.ask("acme")).instance).toBe(fresh.instance);
    expect(fake.all("instance.evicted")).toHaveLength(1);
    fake.fleet.evict(isAcme, "requested");
    await fake.until("cell.log", ({ message }) => message === `released ${fresh.instance}`);
    expect(released(fake)).toEqual([`released ${old.instance}`, `released ${fresh.instance}`]);
  });

  it("of everything in a cell ends its thread, with the given reason", async () => {
    const fake = start({ cells: 1 });
    await Promise.all(["a", "b", "c"].map((name) => fake.ask(name)));
    expect(fake.fleet.evict(() => true, "flushed")).toHaveLength(3);
    expect(await fake.until("cell.terminated")).toMatchObject({ reason: "flushed" });
    expect(new Set(fake.all("instance.evicted").map(({ reason }) => reason))).toEqual(new Set(["flushed"]));
  });

  it("of an unused instance happens by itself", async () => {
    const fake = start({ idleTtlMs: 50 });
    await fake.ask("acme");
    expect(await fake.until("cell.terminated")).toMatchObject({ reason: "idle" });
    expect(fake.all("instance.evicted")).toMatchObject([{ reason: "idle" }]);
    expect((await fake.ask("acme")).tenant).toBe("acme");
  });

  it("for lack of room takes only the least recently used instance", async () => {
    const fake = start({ cells: 1, instances: 4 });
    for (const name of ["a", "b", "c", "d", "a"]) await fake.ask(name);
    await fake.ask("e");
    expect(fake.all("instance.evicted")).toMatchObject([{ key: keyOf("b"), reason: "capacity" }]);
    expect(fake.fleet.registry.published).toHaveLength(4);
  });

  it("does not happen for an instance that fits once the earlier ones are measured", async () => {
    // With its garbage the first one seems to leave no room for another.
    const fake = start({ cells: 1, heapMb: 256, instanceHeapMb: 60 });
    fake.blueprints.set("first", { settings: { saysMb: "5", usedMb: "180" } });
    const { cell } = await fake.ask("first");
    expect((await fake.ask("second")).cell).toBe(cell);
    expect(fake.all("instance.measured")).toMatchObject([{ key: keyOf("first"), heapMb: 5 }, {}]);
    expect(fake.all("instance.evicted")).toEqual([]);
  });

  it("takes an earlier instance that is measured as large, whatever its estimate", async () => {
    const fake = start({ cells: 1, heapMb: 256, instanceHeapMb: 60 });
    fake.blueprints.set("first", { settings: { saysMb: "140", usedMb: "190" } });
    await fake.ask("first");
    await fake.ask("second");
    expect(fake.all("instance.evicted")).toMatchObject([{ key: keyOf("first"), heapMb: 140 }]);
  });

  it("takes an idle cell although another one is still draining", async () => {
    // Only one of this size fits in a cell.
    const fake = start({ cells: 2, heapMb: 128, instanceHeapMb: 60 });
    for (const name of ["slow", "idle"]) fake.blueprints.set(name, { settings: { saysMb: "60" } });
    using gate = new Gate();
    const slow = fake.ask("slow", "/gate", `name=${gate.name}`);
    await gate.arrived;
    await fake.ask("idle");
    fake.fleet.evict(({ spec }) => spec.key === keyOf("slow"), "requested");
    // It does not wait for the draining cell, which has a request; the other one has none.
    expect((await fake.ask("next")).tenant).toBe("next");
    expect(fake.all("instance.evicted")).toMatchObject([{ key: keyOf("idle") }]);
    gate.open();
    await slow;
  });

  it("for memory beyond the budgets spares a cell with a build in it, and starts no new spare", async () => {
    const fake = start({ cells: 2, spare: 1 });
    await fake.until("cell.started");
    using gate = new Gate();
    fake.blueprints.set("acme", { settings: { gate: gate.name } });
    const asking = fake.ask("acme");
    await gate.arrived;
    await fake.until("cell.started", ({ cell }) => cell === "c2");
    fake.fleet.relieve();
    fake.fleet.relieve();
    expect(await fake.until("cell.terminated")).toMatchObject({ cell: "c2", reason: "evicted" });
    gate.open();
    expect((await asking).cell).toBe("c1");
    expect(fake.fleet.registry.cellCount).toBe(1);
  });
});
