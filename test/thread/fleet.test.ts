import { describe, expect, it } from "vitest";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, Gate } from "./witness.ts";

const isGone = async (): Promise<boolean> => {
  throw new HostError("SCHEMA_NOT_FOUND");
};
const isLocked = async (): Promise<boolean> => {
  throw new HostError("LOCK_TIMEOUT");
};
const start = fakeFleets();

describe("a build", () => {
  it("serves all concurrent and later requests for its key", async () => {
    const fake = start();
    const served = await Promise.all(Array.from({ length: 50 }, () => fake.ask("acme")));
    expect(new Set(served.map(({ instance }) => instance)).size).toBe(1);
    await fake.ask("acme");
    expect(fake.all("build.started")).toHaveLength(1);
  });

  it("of another key waits for its turn, and is refused if too many wait", async () => {
    const fake = start({ queue: 2 });
    using gate = new Gate();
    fake.blueprints.set("slow", { settings: { gate: gate.name } });
    const slow = fake.ask("slow");
    await gate.arrived;
    const waiting = [fake.ask("one"), fake.ask("two")];
    expect(fake.fleet.builds).toEqual({ running: 1, queued: 0 });
    await Promise.resolve();
    // Deciding takes a moment; the third one is leased directly.
    await new Promise((resolve) => setImmediate(resolve));
    expect(fake.fleet.builds).toEqual({ running: 1, queued: 2 });
    expect(await codeOf(fake.lease("three"))).toBe("BUILD_QUEUE_FULL");
    // Waiting for a build that is already queued takes no further place.
    const same = fake.ask("two");
    gate.open();
    await Promise.all([slow, same, ...waiting]);
    expect(fake.all("build.done")).toHaveLength(3);
    expect(fake.fleet.builds).toEqual({ running: 0, queued: 0 });
  });

  it("that takes too long is ended with its cell, and the next one succeeds", async () => {
    const fake = start({ buildTimeoutMs: 5_000 });
    using gate = new Gate();
    fake.blueprints.set("stuck", { settings: { gate: gate.name } });
    expect(await codeOf(fake.ask("stuck"))).toBe("BUILD_TIMEOUT");
    expect((await fake.until("cell.terminated")).reason).toBe("build-timeout");
    expect((await fake.ask("acme")).tenant).toBe("acme");
  });

  it("that makes its schema twice, with and without what is left out, has twice the time and room", async () => {
    const fake = start({ spare: 1, buildTimeoutMs: 500, instanceHeapMb: 3 });
    await fake.until("cell.started");
    using gate = new Gate();
    const leftOut = [{ kind: "relation", oid: "1", schema: "app", name: "hidden", reason: "" }] as const;
    fake.blueprints.set("twice", { settings: { gate: gate.name }, leftOut });
    const asked = fake.ask("twice");
    asked.catch(() => undefined);
    await fake.until("build.started");
    const { cells } = fake.fleet.registry;
    expect(
      cells.flatMap((cell) => fake.fleet.registry.instancesOf(cell)).map(({ heapMb }) => heapMb),
    ).toEqual([6]);
    await expect(asked).rejects.toThrow("1000 ms");
  });

  it("that cannot be verified in time does not keep others waiting", async () => {
    const fake = start({ buildTimeoutMs: 5_000 });
    expect(await codeOf(fake.lease("acme", () => new Promise(() => undefined)))).toBe("BUILD_TIMEOUT");
    expect((await fake.ask("globex")).tenant).toBe("globex");
  });

  it("that finds a patch unfit reports it once for all builds and threads", async () => {
    const fake = start({ cells: 2 });
    for (const name of ["one", "two", "three"]) {
      fake.blueprints.set(name, { settings: { unfit: name === "three" ? "plan-cache" : "single-reads" } });
      await fake.ask(name);
    }
    expect(fake.all("build.done")).toHaveLength(3);
    const told = fake.all("patch.state").map(({ name, state }) => `${name} ${state}`);
    expect(told).toEqual(["single-reads plain", "plan-cache plain"]);
  });

  it("that was overtaken is not published, and its instance is released", async () => {
    const fake = start({ cells: 1 });
    await fake.ask("other");
    expect(await codeOf(fake.lease("acme", async () => false))).toBe("SCHEMA_CHANGED");
    expect(fake.fleet.registry.published.map(({ spec }) => spec.tenant)).toEqual(["other"]);
    const released = await fake.until("cell.log", ({ message }) => message.startsWith("released"));
    expect(released.message).toBe("released 2");
    expect((await fake.ask("acme")).instance).toBe(3);
  });

  it("is repeated while it is overtaken and there is time, then its requests are refused", async () => {
    const fake = start({ cells: 1 });
    let builds = 0;
    const overtaken = (times: number) => async () => {
      builds += 1;
      return builds > times;
    };
    fake.blueprints.set("acme", { settings: {}, verify: overtaken(13) });
    expect((await fake.ask("acme")).tenant).toBe("acme");
    expect(builds).toBe(14);
    expect(fake.all("guard.failed")).toEqual([]);
    expect(fake.all("guard.exhausted")).toEqual([]);

    const hasty = start({ cells: 1, patienceMs: 1_000 });
    builds = 0;
    hasty.blueprints.set("globex", { settings: {}, verify: overtaken(Number.POSITIVE_INFINITY) });
    expect(await codeOf(hasty.ask("globex"))).toBe("SCHEMA_CHANGED");
    expect(hasty.all("guard.exhausted")).toMatchObject([{ tenant: "globex", attempts: builds }]);
  });

  it("is verified again before it starts if it has waited for its turn", async () => {
    const fake = start({ cells: 2 });
    using gate = new Gate();
    fake.blueprints.set("slow", { settings: { gate: gate.name } });
    const slow = fake.ask("slow");
    await gate.arrived;
    const overtaken = codeOf(fake.lease("acme", async () => false));
    // Longer than a decision counts as fresh.
    await new Promise((resolve) => setTimeout(resolve, 200));
    gate.open();
    await slow;
    expect(await overtaken).toBe("SCHEMA_CHANGED");
    expect(fake.all("build.started")).toHaveLength(1);
  });

  it("is kept for its waiting requests even if another build needs its place", async () => {
    const fake = start({ cells: 1, instances: 1 });
    // Each is the only idle instance when the next build looks for room.
    const served = await Promise.all(["a", "b", "c", "d", "e"].map((name) => fake.ask(name)));
    expect(served.map(({ tenant }) => tenant)).toEqual(["a", "b", "c", "d", "e"]);
    expect(fake.all("build.done")).toHaveLength(5);
  });
});

describe("tenants of one blueprint that wait for one build", () => {
  const cases: [string, () => Promise<boolean>, string][] = [
    ["moved", async () => false, "SCHEMA_CHANGED"],
    ["is gone", isGone, "SCHEMA_NOT_FOUND"],
    ["is locked", isLocked, "LOCK_TIMEOUT"],
  ];

  it.each(cases)(
    "are served if the schema of the tenant that it is built for %s",
    async (_, verify, code) => {
      const fake = start();
      using gate = new Gate();
      fake.blueprints.set("shared", { settings: { gate: gate.name } });
      const first = codeOf(fake.lease("a@shared", verify));
      await gate.arrived;
      fake.blueprints.delete("shared");
      const others = ["b", "c", "d"].map((name) => fake.lease(`${name}@shared`));
      const same = codeOf(fake.lease("a@shared", verify));
      gate.open();
      expect([await first, await same]).toEqual([code, code]);
      const leases = await Promise.all(others);
      expect(new Set(leases.map(({ instance }) => instance.id))).toEqual(new Set([2]));
      expect(fake.all("build.started")).toHaveLength(2);
      for (const lease of leases) lease.release();
    },
  );

  it("do not each build again if the schema has moved for all of them", async () => {
    const fake = start();
    using gate = new Gate();
    fake.blueprints.set("shared", { settings: { gate: gate.name } });
    const asking = ["a", "b", "c", "d", "e"].map((name) =>
      codeOf(fake.lease(`${name}@shared`, async () => false)),
    );
    await gate.arrived;
    gate.open();
    expect(await Promise.all(asking)).toEqual(asking.map(() => "SCHEMA_CHANGED"));
    expect(fake.all("build.started")).toHaveLength(1);
  });

  it("all get the error of a build that cannot succeed, after one more try", async () => {
    const fake = start();
    fake.blueprints.set("shared", { settings: { fail: true } });
    const asking = ["a", "b", "c", "d", "e"].map((name) => codeOf(fake.lease(`${name}@shared`)));
    expect(await Promise.all(asking)).toEqual(asking.map(() => "BUILD_FAILED"));
    expect(fake.all("build.started")).toHaveLength(2);
  });
});

describe("a blueprint that ends threads", () => {
  it("is held back for a while, during which others are served", async () => {
    const fake = start({ cells: 2 });
    await fake.ask("acme");
    fake.blueprints.set("killer", { settings: { die: true } });
    const codes: string[] = [];
    while (!codes.includes("BUILD_HELD")) codes.push(await codeOf(fake.ask("killer")));
    // A request whose build was lost tries once more. The first death proves nothing, as its cell may have been shared.
    expect(codes.slice(0, -1).every((code) => code === "CELL_LOST")).toBe(true);
    const { length } = fake.all("cell.terminated");
    expect(length).toBeGreaterThanOrEqual(2);
    expect(length).toBeLessThanOrEqual(3);
    const held: unknown = await fake.lease("killer").catch((error: unknown) => error);
    const { retryAfterSeconds } = held as HostError;
    expect(retryAfterSeconds).toBeGreaterThanOrEqual(1);
    expect(retryAfterSeconds).toBeLessThanOrEqual(5);
    expect((await fake.ask("acme")).tenant).toBe("acme");
    expect((await fake.ask("globex")).tenant).toBe("globex");
  });
});

describe("closing", () => {
  it("refuses requests that wait for a build, lets running ones complete, and leaves no thread", async () => {
    const fake = start({ cells: 2, queue: 10 });
    using gate = new Gate();
    const served = fake.ask("acme", "/gate", `name=${gate.name}`);
    await gate.arrived;
    using never = new Gate();
    fake.blueprints.set("slow", { settings: { gate: never.name } });
    const building = codeOf(fake.ask("slow"));
    await never.arrived;
    const queued = codeOf(fake.lease("queued"));
    const closing = fake.fleet.close();
    expect(await codeOf(fake.lease("late"))).toBe("SHUTTING_DOWN");
    gate.open();
    expect((await served).tenant).toBe("acme");
    await closing;
    expect(await building).toBe("SHUTTING_DOWN");
    expect(await queued).toBe("SHUTTING_DOWN");
    expect(fake.fleet.registry.cells).toEqual([]);
  });
});
