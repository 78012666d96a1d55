import { afterEach, describe, expect, it } from "vitest";
import { Cell, type CellOptions } from "../../src/fleet/cell/cell.ts";
import type { Observation, TerminationReason } from "../../src/observability/observation.ts";
import { cellId, tenantId } from "../../src/shared/kernel/ids.ts";
import type { Answer, RequestTask } from "../../src/shared/protocol/messages.ts";
import { requestTask } from "../support/request-task.ts";
import { entry, setup } from "./fake-fleet.ts";
import { fakeFleets } from "./fake-fleets.ts";
import { codeOf, countThreads, Gate } from "./witness.ts";

const threads = countThreads();
const spec = fakeFleets()({ cells: 1 }).spec("acme");

let ordinal = 0;
const cells: Cell[] = [];

interface Watched {
  readonly cell: Cell;
  readonly seen: Observation[];
  readonly ready: Promise<void>;
  readonly gone: Promise<TerminationReason>;
}

function start(options: Partial<CellOptions> = {}): Watched {
  const seen: Observation[] = [];
  const ready = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<TerminationReason>();
  ordinal += 1;
  const cell = new Cell({
    id: cellId(ordinal),
    setup,
    entry,
    heapMb: 128,
    hardLimitMb: 256,
    v8LimitMb: 1_280,
    youngMb: 16,
    observe: (observation) => seen.push(observation),
    onReady: ready.resolve,
    onGone: (_, reason) => gone.resolve(reason),
    ...options,
  });
  cells.push(cell);
  return { cell, seen, ready: ready.promise, gone: gone.promise };
}

const acme = tenantId("acme");
const ask = (cell: Cell, task: RequestTask): Promise<Answer> => cell.request(task, acme);
const request = (slot: number, path: string, query = ""): RequestTask =>
  requestTask({ slot, binding: JSON.stringify({ tenant: spec.tenant }), path, query });

async function built(): Promise<Watched> {
  const watched = start();
  await watched.ready;
  watched.cell.phase = "serving";
  await watched.cell.build(1, spec);
  return watched;
}

afterEach(async () => {
  await Promise.all(cells.splice(0).map((cell) => cell.terminate("shutdown")));
});

describe("a cell", () => {
  it("is one thread, which has exited when `terminate` resolves", async () => {
    const before = threads.running;
    const { cell, gone } = await built();
    expect(threads.running).toBe(before + 1);
    expect((await ask(cell, request(cell.acquireSlot(), "/echo"))).kind).toBe("text");
    await cell.terminate("evicted");
    expect(threads.running).toBe(before);
    expect([cell.phase, await gone]).toEqual(["gone", "evicted"]);
  });

  it("fails a lost request only once its thread has stopped, since until then it may still commit", async () => {
    const { cell, seen } = await built();
    using gate = new Gate();
    const waiting = codeOf(ask(cell, request(cell.acquireSlot(), "/gate", `name=${gate.name}`)));
    await gate.arrived;
    // A native call cannot be interrupted: the thread outlives its termination until the call returns.
    const native = ask(cell, request(cell.acquireSlot(), "/native", "n=400"));
    const failed = native.then(
      () => "answered",
      () => cell.phase,
    );
    await cell.measure();
    void cell.terminate("over-budget");
    expect(await failed).toBe("gone");
    expect(await waiting).toBe("CELL_LOST");
    expect(seen.filter(({ kind }) => kind === "cell.error")).toEqual([]);
  });

  it.each(["/die", "/mark-and-die"])(
    "that loses its thread to %s is gone, and starts no other",
    async (path) => {
      const { cell, gone } = await built();
      const before = threads.started;
      const slot = cell.acquireSlot();
      expect(await codeOf(ask(cell, request(slot, path)))).toBe("CELL_LOST");
      expect(cell.mayHaveCommitted(slot)).toBe(path === "/mark-and-die");
      expect([await gone, cell.phase]).toEqual(["crashed", "gone"]);
      expect(threads.started).toBe(before);
    },
  );

  it("ended by an idle thread's uncaught error reports it once, and starts no other", async () => {
    const { cell, gone, seen } = await built();
    const before = threads.started;
    await ask(cell, request(cell.acquireSlot(), "/throw-on-ping"));
    cell.ping();
    expect(await gone).toBe("crashed");
    const errors = seen.filter((each) => each.kind === "cell.error");
    expect(errors.map(({ error }) => error.message)).toEqual(["in the dead of night"]);
    expect(threads.started).toBe(before);
  });

  it("starts no thread for a task that comes after it is gone", async () => {
    const { cell } = await built();
    await cell.terminate("evicted");
    const before = threads.started;
    expect(await codeOf(ask(cell, request(cell.acquireSlot(), "/echo")))).toBe("CELL_LOST");
    expect(await codeOf(cell.release(1))).toBe("CELL_LOST");
    expect(threads.started).toBe(before);
  });

  it("whose modules fail to load reports why, and ends as start-failed", async () => {
    const { gone, seen } = start({ setup: { ...setup, preset: "fails" } });
    expect(await gone).toBe("start-failed");
    const errors = seen.filter((each) => each.kind === "cell.error");
    expect(errors.map(({ error }) => error.message)).toEqual([expect.stringContaining("no such preset")]);
  });

  it("receives a cancel only after the request that it is for, however soon it is sent", async () => {
    const { cell, seen } = await built();
    using gate = new Gate();
    const asked = 200;
    let stopped = 0;
    const answers = Array.from({ length: asked }, async (_, index) => {
      const slot = cell.acquireSlot();
      const answering = cell.request(request(slot, "/gate", `name=${gate.name}`), tenantId(`t${index}`));
      cell.cancel(slot);
      // Requests not yet sent to the thread are never sent.
      if ((await codeOf(answering)) === "CANCELLED") stopped += 1;
      cell.releaseSlot(slot);
    });
    const cancels = (): string[] =>
      seen.flatMap((each) =>
        each.kind === "cell.log" && each.message.startsWith("cancel") ? [each.message] : [],
      );
    await expect.poll(() => cancels().length + stopped).toBe(asked);
    expect(cancels().length).toBeGreaterThan(1);
    expect(stopped).toBeGreaterThan(1);
    gate.open();
    await Promise.all(answers);
    expect(cancels().filter((message) => message.endsWith("of nothing"))).toEqual([]);
  });

  it("gives a tenant its turn among another's requests, not after all of them", async () => {
    const { cell } = await built();
    const answered: string[] = [];
    const asked = async (tenant: string, path: string, query = ""): Promise<void> => {
      const slot = cell.acquireSlot();
      await cell.request(
        requestTask({ slot, binding: JSON.stringify({ tenant }), path, query }),
        tenantId(tenant),
      );
      cell.releaseSlot(slot);
      answered.push(tenant);
    };
    const loud = Array.from({ length: 30 }, () => asked("loud", "/busy", "n=30"));
    await Promise.all([...loud, asked("quiet", "/echo")]);
    // After the one that was in the thread, and a few that were already sent.
    expect(answered.indexOf("quiet")).toBeLessThan(5);
    expect(answered).toHaveLength(31);
  });

  it("answers small requests beside slow ones whose bodies fill the thread's allowance", async () => {
    const { cell } = await built();
    using gate = new Gate();
    const asked = (tenant: string, path: string, bytes: number): Promise<Answer> =>
      cell.request(
        requestTask({
          slot: cell.acquireSlot(),
          binding: JSON.stringify({ tenant }),
          path,
          query: `name=${gate.name}`,
          body: "x".repeat(bytes),
        }),
        tenantId(tenant),
      );
    // A sixteenth of 128 MB.
    const slow = Array.from({ length: 4 }, (_, n) => asked(`t${n}`, "/gate", 2 * 2 ** 20));
    await gate.arrived;
    expect((await asked("small", "/echo", 10_000)).status).toBe(200);
    // A small request behind a large one of its tenant proceeds once that is cancelled.
    const slot = cell.acquireSlot();
    const large = codeOf(
      cell.request(
        requestTask({ slot, binding: '{"tenant":"acme"}', path: "/echo", body: "x".repeat(2 ** 20) }),
        acme,
      ),
    );
    const behind = asked("acme", "/echo", 10);
    expect(cell.queued).toBe(2);
    cell.cancel(slot);
    expect(cell.queued).toBe(0);
    expect([await large, (await behind).status]).toEqual(["CANCELLED", 200]);
    gate.open();
    await Promise.all(slow);
  });

  it("ignores the result of a collection that was requested before something was released", async () => {
    const { cell } = await built();
    cell.collect(0);
    await cell.release(1);
    while (cell.heap.collecting) await ask(cell, request(4095, "/echo")).catch(() => undefined);
    expect(cell.heap.liveMb).toBeNull();
    cell.collect(0);
    while (cell.heap.collecting) await ask(cell, request(4095, "/echo")).catch(() => undefined);
    expect(cell.heap.liveMb).toBeGreaterThan(1);
  });
});
