import { describe, expect, it } from "vitest";
import { type CapacityInput, minHeapMb, planCapacity } from "../../src/fleet/policy/capacity.ts";

const input: CapacityInput = {
  memoryMb: 1024,
  heapMb: 256,
  hardLimitFactor: 2,
  headroomMb: 1_024,
  youngMb: 16,
  max: null,
  instances: null,
  instanceHeapMb: 64,
  spare: 1,
};

describe("a plan", () => {
  it.each<[string, Partial<CapacityInput>, object]>([
    ["has as many cells as fit beside the front", {}, { cells: 3, cellMb: 292, planMb: 976 }],
    ["has no more than it is told", { max: 2 }, { cells: 2, planMb: 684 }],
    ["has fewer than it is told where they do not fit", { max: 50 }, { cells: 3 }],
    ["may be one cell, which is then no spare", { memoryMb: 400 }, { cells: 1, spare: 0, planMb: 392 }],
    ["has just one cell where just one fits", { memoryMb: 392 }, { cells: 1 }],
    ["never has so many spares that nothing could serve", { spare: 9 }, { cells: 3, spare: 2 }],
    ["has no spare where none is wanted", { spare: 0 }, { spare: 0 }],
    ["has a multiple of the budget", { hardLimitFactor: 1.75 }, { heapMb: 256, hardLimitMb: 448 }],
    ["leaves V8 room above it for one call", { headroomMb: 700 }, { hardLimitMb: 512, v8LimitMb: 1212 }],
    ["has V8 collect as it would without that room", {}, { hardLimitMb: 512, growingPercent: 40 }],
    ["has V8 collect a small heap as soon as it can", { heapMb: 96 }, { growingPercent: 30 }],
    ["has V8 collect at twice a large heap", { memoryMb: 4096, heapMb: 1500 }, { growingPercent: 100 }],
    ["counts the young generation", { youngMb: 64 }, { cells: 2, cellMb: 340 }],
    ["keeps the number of instances that it is told", { instances: 7 }, { instances: 7 }],
    ["leaves the number of instances to the heap", {}, { instances: 112 }],
    ["has room for an instance in each cell, however large", { instanceHeapMb: 900 }, { instances: 112 }],
  ])("%s", (_, changes, expected) => {
    const given = { ...input, ...changes };
    const plan = planCapacity(given);
    expect(plan).toMatchObject(expected);
    expect(plan.planMb).toBeLessThanOrEqual(given.memoryMb);
  });

  it("never uses more memory than there is, and always has a cell", () => {
    for (let memoryMb = 100; memoryMb <= 4096; memoryMb += 37) {
      for (const heapMb of [64, 78, 128, 256, 700]) {
        for (const spare of [0, 1, 3]) {
          const given = { ...input, memoryMb, heapMb, spare };
          try {
            const plan = planCapacity(given);
            expect(plan.planMb).toBeLessThanOrEqual(memoryMb);
            expect(plan.cells - plan.spare).toBeGreaterThanOrEqual(1);
            expect(plan.instances).toBeGreaterThanOrEqual(plan.cells);
          } catch (error) {
            expect(error).toMatchObject({ code: "CONFIG_INVALID" });
          }
        }
      }
    }
  });
});

describe("if nothing fits, the advice", () => {
  const faultOf = (changes: Partial<CapacityInput>): string => {
    try {
      planCapacity({ ...input, ...changes });
      return "";
    } catch (error) {
      return error instanceof Error ? error.message : "";
    }
  };

  it("is a heap that fits", () => {
    const message = faultOf({ memoryMb: 300 });
    expect(message).toMatch(/set cells.heapMb to at most 164$/);
    expect(planCapacity({ ...input, memoryMb: 300, heapMb: 164 }).cells).toBe(1);
  });

  it("is the heap that an instance needs, and that is enough", () => {
    expect(faultOf({ heapMb: minHeapMb - 1 })).toMatch(new RegExp(`at least ${minHeapMb}$`));
    expect(planCapacity({ ...input, heapMb: minHeapMb }).cells).toBeGreaterThan(0);
  });

  it("is never a heap that would then be refused", () => {
    for (let memoryMb = 120; memoryMb < 400; memoryMb += 1) {
      const advised = /at most (\d+)/.exec(faultOf({ memoryMb, heapMb: 1000 }))?.[1];
      if (advised !== undefined) {
        expect(planCapacity({ ...input, memoryMb, heapMb: Number(advised) }).cells).toBe(1);
      } else {
        expect(faultOf({ memoryMb, heapMb: 1000 })).toContain("is too small");
      }
    }
  });
});
