import { describe, expect, it } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import { type FakeFleet, keyOf, type Served } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { Gate } from "./witness.ts";

const start = fakeFleets();

/** Sends requests without a pause until told to stop, and returns how often each cell answered. */
function load(fake: FakeFleet, tenant: string): { stop: () => Promise<Map<string, number>> } {
  let going = true;
  const served = new Map<string, number>();
  const run = (async () => {
    while (going) {
      const { cell } = await fake.ask(tenant);
      served.set(cell, (served.get(cell) ?? 0) + 1);
    }
    return served;
  })();
  return {
    stop: () => {
      going = false;
      return run;
    },
  };
}

describe("a cell that is replaced", () => {
  it("fails no request of any of its blueprints: they continue in another cell", async () => {
    const fake = start({ cells: 2 });
    const names = ["a", "b", "c"];
    const first: Served[] = [];
    for (const name of names) first.push(await fake.ask(name));
    const [{ cell: id }] = first as [Served];
    const old = fake.cellOf(first[0] as Served);
    const loads = names.flatMap((name) => [load(fake, name), load(fake, name)]);
    const inOld = fake.fleet.registry.instancesOf(old).length;
    await fake.fleet.replace(old);
    const after = await Promise.all(names.map((name) => fake.ask(name)));
    const served = await Promise.all(loads.map(({ stop }) => stop()));
    expect(served.every((counts) => [...counts.values()].some((count) => count > 0))).toBe(true);
    expect(after.map(({ cell }) => cell)).not.toContain(id);
    expect(fake.all("cell.terminated")).toMatchObject([{ cell: id, reason: "replaced", inFlight: 0 }]);
    expect(fake.all("build.done")).toHaveLength(names.length + inOld);
    expect(fake.mostCells).toBe(2);
  });

  it("remains until its slow requests are answered", async () => {
    const fake = start({ cells: 2 });
    using gate = new Gate();
    const slow = fake.ask("acme", "/gate", `name=${gate.name}`);
    await gate.arrived;
    const [old] = fake.fleet.registry.cells;
    const replaced = old === undefined ? undefined : fake.fleet.replace(old);
    await fake.once(() => (fake.all("build.done").length === 2 ? true : undefined));
    expect((await fake.ask("acme")).cell).not.toBe(old?.id);
    expect(old?.phase).toBe("draining");
    gate.open();
    expect((await slow).cell).toBe(old?.id);
    await replaced;
    expect(old?.phase).toBe("gone");
  });

  it("finishes the build in it, and moves that as well", async () => {
    const fake = start({ cells: 2, concurrency: 2 });
    using gate = new Gate();
    fake.blueprints.set("acme", { settings: { gate: gate.name } });
    const asking = fake.ask("acme");
    await gate.arrived;
    const [cell] = fake.fleet.registry.cells;
    const replaced = cell === undefined ? undefined : fake.fleet.replace(cell);
    expect(cell?.phase).toBe("condemned");
    fake.blueprints.delete("acme");
    gate.open();
    // The rebuild has the settings of the request, and so passes the gate a second time.
    await fake.once(() => (fake.all("build.started").length === 2 ? true : undefined));
    const opening = setInterval(() => gate.open(), 10);
    expect((await asking).tenant).toBe("acme");
    await replaced;
    clearInterval(opening);
    expect(fake.fleet.registry.current(keyOf("acme"), tenantId("acme"))?.cell).not.toBe(cell);
    expect(fake.all("build.failed")).toEqual([]);
  });

  it("goes at once if no other cell is allowed, and its instances are built again on demand", async () => {
    const fake = start({ cells: 1 });
    const { cell } = await fake.ask("acme");
    const old = fake.cellOf(await fake.ask("acme"));
    const going = fake.fleet.replace(old);
    const again = await fake.ask("acme");
    await going;
    expect(again.cell).not.toBe(cell);
    expect(fake.mostCells).toBe(1);
  });

  it("is rebuilt for a tenant that still has the blueprint, not for the one it was first built for", async () => {
    const fake = start({ cells: 2 });
    let moved = false;
    const first = await fake.lease("mover@shared", async () => !moved);
    first.release();
    const second = await fake.lease("stayer@shared");
    second.release();
    moved = true;
    await fake.fleet.replace(first.cell);
    expect(fake.fleet.registry.current(keyOf("shared"), tenantId("stayer"))?.spec.tenant).toBe("stayer");
  });

  it("is replaced with its other blueprints if one cannot be rebuilt", async () => {
    const fake = start({ cells: 2, instanceHeapMb: 20 });
    // Nothing fits beside this one, so the others share a cell.
    fake.blueprints.set("full", { settings: { saysMb: "60" } });
    let moved = false;
    const full = await fake.lease("full");
    const stays = await fake.lease("stays");
    const moves = await fake.lease("moves", async () => !moved);
    expect(stays.cell).toBe(moves.cell);
    for (const lease of [full, stays, moves]) lease.release();
    moved = true;
    await fake.fleet.replace(stays.cell);
    expect(fake.all("build.failed")).toMatchObject([{ key: keyOf("moves"), code: "SCHEMA_CHANGED" }]);
    expect(fake.fleet.registry.published.map(({ spec }) => spec.tenant)).toContain("stays");
  });
});
