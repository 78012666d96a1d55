import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PlanWarmer } from "../../src/decisions/plan-warmer.ts";

let warmed: string[];
let fails: boolean;
let planWarmer: PlanWarmer;

beforeEach(() => {
  vi.useFakeTimers();
  warmed = [];
  fails = false;
  planWarmer = new PlanWarmer({
    warm: async (database) => {
      warmed.push(database);
      if (fails) throw new Error("no connection");
    },
  });
});
afterEach(() => {
  planWarmer.close();
  vi.useRealTimers();
});

test("plans are warmed a tenth of a second after a change, once for all changes of that time", async () => {
  for (let count = 0; count < 5; count += 1) planWarmer.schedule("main");
  await vi.advanceTimersByTimeAsync(99);
  expect(warmed).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(warmed).toEqual(["main"]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(warmed).toEqual(["main"]);
});

test("during constant changes plans are warmed once a second, and once more for the last change", async () => {
  for (let ms = 0; ms < 5_000; ms += 10) {
    planWarmer.schedule("main");
    await vi.advanceTimersByTimeAsync(10);
  }
  expect(warmed).toHaveLength(5);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(warmed).toHaveLength(6);
});

test("one database's changes do not affect another's", async () => {
  planWarmer.schedule("main");
  planWarmer.schedule("other");
  await vi.advanceTimersByTimeAsync(100);
  expect(warmed).toEqual(["main", "other"]);
});

test("a failed warming does not prevent the next", async () => {
  fails = true;
  planWarmer.schedule("main");
  await vi.advanceTimersByTimeAsync(2_000);
  planWarmer.schedule("main");
  await vi.advanceTimersByTimeAsync(2_000);
  expect(warmed).toEqual(["main", "main"]);
});

test("nothing is warmed after closing, pending changes included", async () => {
  planWarmer.schedule("main");
  planWarmer.close();
  planWarmer.schedule("other");
  await vi.advanceTimersByTimeAsync(60_000);
  expect(warmed).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});
