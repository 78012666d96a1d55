import { describe, expect, it } from "vitest";
import { moduleHeapMb } from "../../src/fleet/policy/capacity.ts";
import {
  committedMb,
  decidePlacement,
  type PlacedCell,
  type PlacedInstance,
  type Placement,
  type PlacementInput,
} from "../../src/fleet/policy/placement.ts";
import { cellId } from "../../src/shared/kernel/ids.ts";
import type { CellPhase } from "../../src/shared/kernel/phase.ts";

/** 200 MB, of which 150 may be given away. */
const cell = (ordinal: number, phase: CellPhase, changes: Partial<PlacedCell> = {}): PlacedCell => ({
  id: cellId(ordinal),
  phase,
  heapMb: 200,
  heapLiveMb: null,
  unmeasured: null,
  busy: false,
  exclusive: false,
  instances: [],
  ...changes,
});

/** An idle instance; the estimate is far from what it takes. */
const instance = (id: number, changes: Partial<PlacedInstance> = {}): PlacedInstance => ({
  id,
  heapMb: 20,
  inFlight: 0,
  lastUsedMs: id,
  live: true,
  unmeasured: false,
  leaving: false,
  ...changes,
});

/** With one instance, which is measured or not; without it, and without garbage, it held 30 MB. */
const serving = (ordinal: number, usedMb: number | null, more: Partial<PlacedCell> = {}): PlacedCell =>
  cell(ordinal, "serving", {
    unmeasured: usedMb === null ? null : { usedMb, grownMb: usedMb - 30 },
    instances: [instance(ordinal, { unmeasured: usedMb !== null })],
    ...more,
  });

const decide = (cells: PlacedCell[], changes: Partial<PlacementInput> = {}): Placement =>
  decidePlacement({
    cells,
    mayStart: true,
    maxCells: 3,
    maxInstances: 100,
    spread: 2,
    needMb: 40,
    exclusive: false,
    avoid: new Set(),
    silent: new Set(),
    ...changes,
  });

const [c1, c2, c3] = [cellId(1), cellId(2), cellId(3)];

describe("beside instances that are built but not measured, an instance", () => {
  it.each<[string, PlacedCell[], Partial<PlacementInput>, Placement]>([
    [
      "is placed where there is room whatever that takes",
      [serving(1, null), serving(2, 90)],
      {},
      { kind: "place", cell: c2 },
    ],
    [
      "is placed where all is measured, as long as there is room",
      [serving(1, null), serving(2, 140)],
      {},
      { kind: "place", cell: c1 },
    ],
    [
      "waits for the measure where garbage seems to leave no room, and takes no spare before",
      [serving(1, null), serving(2, 140), cell(3, "spare")],
      { needMb: 100 },
      { kind: "measure", cell: c2 },
    ],
    [
      "does not wait twice for a cell that does not answer",
      [serving(1, null), serving(2, 140), cell(3, "spare")],
      { needMb: 100, silent: new Set([c2]) },
      { kind: "place", cell: c3 },
    ],
    [
      "does not wait for a cell that it may not go to",
      [serving(1, null), serving(2, 140, { exclusive: true }), cell(3, "spare")],
      { needMb: 100 },
      { kind: "place", cell: c3 },
    ],
    [
      "has a cell of its own while there are processors",
      [serving(1, 140), cell(3, "spare")],
      { needMb: 100 },
      { kind: "place", cell: c3 },
    ],
    [
      "has nobody evicted where the measure may do",
      [serving(1, 140)],
      { needMb: 100, maxCells: 1 },
      { kind: "measure", cell: c1 },
    ],
    [
      "has somebody evicted where it did not",
      [serving(1, 140)],
      { needMb: 100, maxCells: 1, silent: new Set([c1]) },
      { kind: "evict-cell", cell: c1 },
    ],
  ])("%s", (_, cells, changes, step) => {
    expect(decide(cells, changes)).toEqual(step);
  });
});

it("a cell's commitment is no less than it held after an unmeasured build, without an estimate on top", () => {
  const instances = [instance(1), instance(2, { unmeasured: true }), instance(3, { live: false })];
  const of = (usedMb: number, grownMb: number, heapLiveMb: number | null = null): number =>
    committedMb(cell(1, "serving", { instances, unmeasured: { usedMb, grownMb }, heapLiveMb }));
  // The modules, the one that is measured, what came since, and the estimate of the one that is being built.
  expect(of(60, 15)).toBe(moduleHeapMb + 20 + 15 + 20);
  expect(of(120, 15)).toBe(120 + 20);
  expect(of(120, 15, 150)).toBe(150);
});
