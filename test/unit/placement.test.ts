import { describe, expect, it } from "vitest";
import { moduleHeapMb } from "../../src/fleet/policy/capacity.ts";
import {
  committedMb,
  decidePlacement,
  type PlacedCell,
  type PlacedInstance,
  type PlacementInput,
} from "../../src/fleet/policy/placement.ts";
import { cellId } from "../../src/shared/kernel/ids.ts";
import type { CellPhase } from "../../src/shared/kernel/phase.ts";

/** An idle instance of 20 MB that was used at that time. */
const instance = (id: number, lastUsedMs: number, changes: Partial<PlacedInstance> = {}): PlacedInstance => ({
  id,
  heapMb: 20,
  inFlight: 0,
  lastUsedMs,
  live: true,
  unmeasured: false,
  leaving: false,
  ...changes,
});
const busy = { inFlight: 1 };
const building = { live: false };
const leaving = { live: false, leaving: true };

/** 200 MB, of which 150 may be given away, of which 42 are modules: five of 20 MB fit. */
const cell = (
  ordinal: number,
  phase: CellPhase,
  instances: PlacedInstance[] = [],
  changes: Partial<PlacedCell> = {},
): PlacedCell => ({
  id: cellId(ordinal),
  phase,
  heapMb: 200,
  heapLiveMb: null,
  unmeasured: null,
  busy: false,
  exclusive: false,
  instances,
  ...changes,
});

const one = (ordinal: number): PlacedCell => cell(ordinal, "serving", [instance(ordinal, 1)]);

const full = (ordinal: number, fromMs: number, changes: Partial<PlacedInstance> = {}): PlacedCell =>
  cell(
    ordinal,
    "serving",
    [1, 2, 3, 4, 5].map((each) => instance(ordinal * 10 + each, fromMs + each, changes)),
  );

const decide = (cells: PlacedCell[], changes: Partial<PlacementInput> = {}): string => {
  const step = decidePlacement({
    cells,
    mayStart: true,
    maxCells: 2,
    maxInstances: 100,
    spread: 2,
    needMb: 20,
    exclusive: false,
    avoid: new Set(),
    silent: new Set(),
    ...changes,
  });
  const cellText = "cell" in step ? ` ${step.cell}` : "";
  return `${step.kind}${cellText}${"instance" in step ? ` ${step.instance}` : ""}`;
};

type Case = [string, PlacedCell[], Partial<PlacementInput>, string];

describe("if there is room, an instance", () => {
  it("is built in a cell without constant load if it fits there, however much room others have", () => {
    const busy = { ...one(1), busy: true };
    const calm = cell(2, "serving", []);
    expect(decide([busy, calm])).toBe("place c2");
    expect(decide([{ ...busy, busy: false }, calm])).toBe("place c1");
    expect(decide([busy, full(2, 500)])).toBe("place c1");
  });

  it.each<Case>([
    ["starts the first cell", [], {}, "start"],
    ["waits for a cell that is starting", [cell(1, "starting")], {}, "wait"],
    ["takes a spare", [cell(1, "spare")], {}, "place c1"],
    ["goes to a cell of its own while there are processors", [one(1), cell(2, "spare")], {}, "place c2"],
    ["has one started for that", [one(1)], {}, "start"],
    ["shares where there are no more processors", [one(1)], { spread: 1 }, "place c1"],
    ["shares where there may be no more cells", [one(1)], { maxCells: 1 }, "place c1"],
    ["shares while threads fail to start", [one(1)], { mayStart: false }, "place c1"],
    ["does not overfill a cell because threads fail to start", [full(1, 0)], { mayStart: false }, "start"],
    [
      "fills one cell before another",
      [one(1), cell(2, "serving", [instance(2, 1), instance(3, 1)])],
      {},
      "place c2",
    ],
    ["leaves a full one alone", [full(1, 0), one(2)], {}, "place c2"],
    [
      "goes by what a cell holds, if that is more than it should",
      [cell(1, "serving", [instance(1, 1)], { heapLiveMb: 140 }), one(2)],
      {},
      "place c2",
    ],
    ["may be larger than a cell allows, in one of its own", [cell(1, "spare")], { needMb: 500 }, "place c1"],
    [
      "does not go to a cell that is replaced",
      [cell(1, "condemned", [instance(1, 1)]), one(2)],
      {},
      "place c2",
    ],
    [
      "does not go where it is not wanted",
      [cell(1, "spare"), one(2)],
      { avoid: new Set([cellId(1)]) },
      "place c2",
    ],
    [
      "that is suspected goes to a cell of its own",
      [one(1), cell(2, "spare")],
      { spread: 1, exclusive: true },
      "place c2",
    ],
    [
      "does not go to a suspected one",
      [cell(1, "serving", [instance(1, 1)], { exclusive: true })],
      { spread: 1 },
      "start",
    ],
  ])("%s", (_, cells, changes, step) => {
    expect(decide(cells, changes)).toBe(step);
  });
});

describe("if there is no room, an instance", () => {
  it.each<Case>([
    [
      "takes the place of the one that was used least recently",
      [full(1, 500), full(2, 100)],
      {},
      "evict-instance c2 21",
    ],
    [
      "also where there may be no more instances",
      [full(1, 500), cell(2, "spare")],
      { maxInstances: 5 },
      "evict-instance c1 11",
    ],
    [
      "takes a thread where the one is alone in it",
      [cell(1, "serving", [instance(1, 1, { heapMb: 90 })]), full(2, 100)],
      {},
      "evict-cell c1",
    ],
    ["never takes a busy one", [full(1, 0, busy), full(2, 900)], {}, "evict-instance c2 21"],
    [
      "never takes one that is being built",
      [cell(1, "serving", [instance(1, 1, { ...building, heapMb: 90 })]), full(2, 900)],
      {},
      "evict-instance c2 21",
    ],
    ["waits where all are busy", [full(1, 0, busy), full(2, 0, busy)], {}, "wait"],
    [
      "waits for a release that is under way",
      [full(1, 0), cell(2, "serving", [instance(1, 1, { ...leaving, heapMb: 100 })])],
      {},
      "wait",
    ],
    ["waits for a thread that is ending", [full(1, 0), cell(2, "terminating", [])], {}, "wait"],
    [
      "waits for an idle cell that is drained",
      [full(1, 0), cell(2, "draining", [instance(2, 1, leaving)])],
      {},
      "wait",
    ],
    [
      "does not wait for a drained cell with requests in it",
      [full(1, 0), cell(2, "draining", [instance(2, 1, { ...leaving, ...busy })])],
      {},
      "evict-instance c1 11",
    ],
    [
      "does not wait for a released one with requests in it",
      [full(1, 900), cell(2, "serving", [instance(2, 1, { ...leaving, ...busy, heapMb: 100 })])],
      {},
      "evict-instance c1 11",
    ],
    ["waits for a cell that is starting", [full(1, 0), cell(2, "starting")], {}, "wait"],
    [
      "does not take from a cell that is replaced",
      [full(1, 0), cell(2, "condemned", [instance(2, 1)])],
      { avoid: new Set([cellId(1)]) },
      "wait",
    ],
    [
      "makes room in one cell, not here and there",
      [full(1, 0), cell(2, "serving", [instance(21, 3, { heapMb: 45 }), instance(22, 4, { heapMb: 45 })])],
      { needMb: 60 },
      "evict-instance c1 11",
    ],
    [
      "makes it where the least recent ones suffice",
      [
        cell(1, "serving", [instance(11, 1), instance(12, 50), instance(13, 60, { heapMb: 60 })]),
        cell(2, "serving", [instance(21, 3, { heapMb: 45 }), instance(22, 4, { heapMb: 45 })]),
      ],
      { needMb: 60 },
      "evict-instance c2 21",
    ],
    [
      "leaves a cell alone where what is idle does not suffice",
      [cell(1, "serving", [instance(11, 1), instance(12, 2, { ...busy, heapMb: 80 })]), full(2, 100)],
      { needMb: 60 },
      "evict-instance c2 21",
    ],
    [
      "waits where what is idle suffices nowhere",
      [cell(1, "serving", [instance(11, 1), instance(12, 2, { ...busy, heapMb: 80 })])],
      { maxCells: 1, needMb: 60 },
      "wait",
    ],
    [
      "that fits beside nothing takes a whole idle cell",
      [full(1, 500), full(2, 100)],
      { needMb: 300 },
      "evict-cell c2",
    ],
    [
      "that is suspected takes a whole idle cell",
      [full(1, 500), full(2, 100)],
      { exclusive: true },
      "evict-cell c2",
    ],
    [
      "that is suspected takes no cell with a busy one in it",
      [full(1, 500), cell(2, "serving", [instance(21, 1), instance(22, 2, busy)])],
      { exclusive: true },
      "evict-cell c1",
    ],
    [
      "takes a suspected one's cell as a whole",
      [full(1, 500), cell(2, "serving", [instance(21, 1)], { exclusive: true })],
      {},
      "evict-cell c2",
    ],
  ])("%s", (_, cells, changes, step) => {
    expect(decide(cells, changes)).toBe(step);
  });
});

it("a cell's commitment is what it promised, or what it holds if that is more", () => {
  const two = [instance(1, 1), instance(2, 1, building)];
  expect(committedMb(cell(1, "serving", two))).toBe(moduleHeapMb + 40);
  expect(committedMb(cell(1, "serving", two, { heapLiveMb: 30 }))).toBe(moduleHeapMb + 40);
  expect(committedMb(cell(1, "serving", two, { heapLiveMb: 130 }))).toBe(130);
});
