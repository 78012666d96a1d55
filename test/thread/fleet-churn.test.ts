import { describe, expect, it } from "vitest";
import { fakeFleets } from "./fake-fleets.ts";
import { countThreads } from "./witness.ts";

const threads = countThreads();
const start = fakeFleets();

/** The same sequence every time: the linear congruential generator of Numerical Recipes. */
function sequence(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

const names = Array.from({ length: 40 }, (_, index) => `tenant${index}`);

describe("more blueprints than fit", () => {
  it.each([
    // Two of 25 MB fit in a cell of 128 MB beside the modules.
    ["several to a cell", { cells: 3, instanceHeapMb: 25, spare: 1 }, "25"],
    ["one to a cell", { cells: 3, instanceHeapMb: 60 }, "60"],
    ["in one cell", { cells: 1, instanceHeapMb: 25 }, "25"],
    ["with two builds at a time", { cells: 3, instanceHeapMb: 60, concurrency: 2 }, "60"],
  ])("are all served, %s, with never more cells than planned", async (_, options, saysMb) => {
    const before = threads.running;
    const fake = start(options);
    for (const name of names) fake.blueprints.set(name, { settings: { saysMb } });
    const next = sequence(7);
    let mostThreads = 0;
    const answers = new Map<string, number>();
    const clients = Array.from({ length: 8 }, async () => {
      for (let count = 0; count < 8; count += 1) {
        const name = names[next(names.length)] ?? "";
        const outcome = await fake.ask(name, "/sleep", `n=${next(4)}`).then(
          (served) => (served.tenant === name ? "answered" : "misdirected"),
          (error: { code?: string; status?: number }) => `${error.status} ${error.code}`,
        );
        mostThreads = Math.max(mostThreads, threads.running - before);
        answers.set(outcome, (answers.get(outcome) ?? 0) + 1);
      }
    });
    await Promise.all(clients);
    expect(Object.fromEntries(answers)).toEqual({ answered: 64 });
    expect(fake.mostCells).toBeLessThanOrEqual(options.cells);
    expect(mostThreads).toBeLessThanOrEqual(options.cells);
    expect(fake.all("instance.evicted").length).toBeGreaterThan(10);
    // Every built instance is in service, or was evicted exactly once.
    const { length: built } = fake.all("build.done");
    const accounted = (): number =>
      fake.all("instance.evicted").length + fake.fleet.registry.published.length;
    await fake.once(() => accounted() === built || undefined);
    await fake.close();
    expect(fake.all("instance.evicted")).toHaveLength(built);
    expect(threads.running).toBe(before);
  });

  it("are still served while cells are replaced, flushed and lost at random", async () => {
    const fake = start({ cells: 3, instanceHeapMb: 25, spare: 1 });
    for (const name of names) fake.blueprints.set(name, { settings: { saysMb: "25" } });
    const next = sequence(11);
    const state = { going: true };
    const trouble = (async () => {
      for (let turn = 0; state.going; turn += 1) {
        await fake.ask(names[next(12)] ?? "").catch(() => undefined);
        const serving = fake.fleet.registry.cells.filter(({ phase }) => phase === "serving");
        const cell = serving[next(serving.length)];
        if (turn % 7 === 2) fake.fleet.evict(() => true, "flushed");
        if (turn % 7 === 4 && cell !== undefined) void fake.fleet.replace(cell);
        if (turn % 7 === 6 && cell !== undefined) void cell.terminate("over-budget");
      }
    })();
    const codes = new Set<string>();
    const clients = Array.from({ length: 6 }, async () => {
      for (let count = 0; count < 25; count += 1) {
        await fake.ask(names[next(12)] ?? "", "/sleep", `n=${next(3)}`).catch((error: { code?: string }) => {
          codes.add(error.code ?? String(error));
        });
      }
    });
    await Promise.all(clients);
    state.going = false;
    await trouble;
    // One request can lose two threads; any other refusal is for lack of room.
    for (const code of codes) expect(["CELL_LOST", "NO_CAPACITY", "BUILD_HELD"]).toContain(code);
    expect(fake.mostCells).toBeLessThanOrEqual(3);
    expect(new Set(fake.all("cell.terminated").map(({ reason }) => reason))).toContain("replaced");
    const { length: built } = fake.all("build.done");
    await fake.close();
    expect(fake.all("instance.evicted")).toHaveLength(built);
  });
});
