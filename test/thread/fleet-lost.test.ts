import { describe, expect, it } from "vitest";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, Gate } from "./witness.ts";

const start = fakeFleets();

describe("a request whose thread ends", () => {
  it("is sent once more if it cannot have committed anything", async () => {
    const fake = start();
    using gate = new Gate();
    const asking = fake.ask("acme", "/gate", `name=${gate.name}`);
    await gate.arrived;
    const [cell] = fake.fleet.registry.cells;
    void cell?.terminate("over-budget");
    await fake.until("build.done", (done) => done.cell !== cell?.id);
    const opening = setInterval(() => gate.open(), 10);
    expect((await asking).cell).not.toBe(cell?.id);
    clearInterval(opening);
    expect(fake.all("request.retried")).toMatchObject([{ reason: "cell-lost", attempt: 1 }]);
  });

  it("is lost if it may have committed", async () => {
    const fake = start();
    using gate = new Gate();
    const asking = codeOf(fake.ask("acme", "/mark", `name=${gate.name}`));
    await gate.arrived;
    const [cell] = fake.fleet.registry.cells;
    void cell?.terminate("over-budget");
    expect(await asking).toBe("CELL_LOST");
    expect(fake.all("request.retried")).toEqual([]);
    expect((await fake.ask("acme")).cell).not.toBe(cell?.id);
  });

  it("tells its client if it may have committed something", async () => {
    const fake = start();
    const marked = await fake.ask("acme", "/mark-and-die").catch((error: unknown) => error);
    expect(marked).toMatchObject({ retryable: true, publicText: expect.stringMatching(/may or may not/) });
    const bare = await fake.ask("acme", "/die").catch((error: unknown) => error);
    expect(bare).toMatchObject({ retryable: true, publicText: expect.not.stringMatching(/may or may not/) });
  });

  it("is not sent a third time: one request can end two threads in a row, and no more", async () => {
    const fake = start();
    expect(await codeOf(fake.ask("acme", "/die"))).toBe("CELL_LOST");
    expect(fake.all("cell.terminated").map(({ reason }) => reason)).toEqual(["crashed", "crashed"]);
  });

  it("takes along only the requests in the same thread", async () => {
    const fake = start({ cells: 2, instanceHeapMb: 60 });
    using gate = new Gate();
    fake.blueprints.set("other", { settings: { saysMb: "60" } });
    const other = fake.ask("other", "/gate", `name=${gate.name}`);
    await gate.arrived;
    expect(await codeOf(fake.ask("acme", "/mark-and-die"))).toBe("CELL_LOST");
    gate.open();
    expect((await other).tenant).toBe("other");
  });

  it("does not let others be sent there, since an ending thread serves nothing", async () => {
    const fake = start();
    const { cell: id } = await fake.ask("acme");
    const cell = fake.cellOf(await fake.ask("acme"));
    // The thread is in a native call, so ending it takes a while.
    const native = fake.ask("acme", "/native", "n=500");
    await cell.measure();
    void cell.terminate("over-budget");
    const others = await Promise.all(["acme", "acme"].map((name) => fake.ask(name)));
    expect(others.map((served) => served.cell)).not.toContain(id);
    // The one that was in it is sent again; the others were never sent there.
    expect((await native).cell).not.toBe(id);
    expect(fake.all("request.retried")).toHaveLength(1);
  });

  it("is not followed by another cell before its own is gone", async () => {
    const fake = start({ cells: 1 });
    const cell = fake.cellOf(await fake.ask("acme"));
    void codeOf(fake.ask("acme", "/native", "n=300"));
    await cell.measure();
    void cell.terminate("over-budget");
    expect((await fake.ask("acme")).cell).not.toBe(cell.id);
    expect(fake.mostCells).toBe(1);
  });
});

describe("a request whose client has gone", () => {
  it("is cancelled in its thread, and keeps its lease until that answers", async () => {
    const fake = start();
    using gate = new Gate();
    const leaving = new AbortController();
    const asking = codeOf(fake.ask("acme", "/gate", `name=${gate.name}`, leaving.signal));
    await gate.arrived;
    leaving.abort(new HostError("CANCELLED"));
    expect(await asking).toBe("CANCELLED");
    await fake.until("cell.log", ({ message }) => message.startsWith("cancel"));
    const [cell] = fake.fleet.registry.cells;
    expect(cell?.inFlight).toBe(1);
    gate.open();
    // Once it has answered, the instance can be evicted.
    fake.fleet.evict(() => true, "requested");
    expect(await fake.until("cell.terminated")).toMatchObject({ inFlight: 0 });
  });

  it("gives its lease back if it left during the build", async () => {
    const fake = start();
    using gate = new Gate();
    fake.blueprints.set("acme", { settings: { gate: gate.name } });
    const leaving = new AbortController();
    const asking = codeOf(fake.ask("acme", "/echo", "", leaving.signal));
    await gate.arrived;
    leaving.abort(new HostError("DEADLINE"));
    expect(await asking).toBe("DEADLINE");
    gate.open();
    await fake.until("build.done");
    fake.fleet.evict(() => true, "requested");
    await fake.until("cell.terminated");
  });

  it("causes no unhandled rejection if the tenant's decision fails afterwards", async () => {
    const fake = start();
    const leaving = new AbortController();
    const failing = Promise.withResolvers<never>();
    fake.decide = () => {
      setImmediate(() => leaving.abort(new HostError("CANCELLED")));
      return failing.promise;
    };
    expect(await codeOf(fake.ask("acme", "/echo", "", leaving.signal))).toBe("CANCELLED");
    const unheard: unknown[] = [];
    const hear = (reason: unknown): number => unheard.push(reason);
    process.on("unhandledRejection", hear);
    failing.reject(new HostError("DATABASE_UNREACHABLE"));
    await new Promise((resolve) => setImmediate(resolve));
    process.off("unhandledRejection", hear);
    expect(unheard).toEqual([]);
  });
});
