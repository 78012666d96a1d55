import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { PlanWarmer } from "../../src/decisions/plan-warmer.ts";

let rehearsed: string[];
let fails: boolean;
let planWarmer: PlanWarmer;

beforeEach(() => {
  vi.useFakeTimers();
  rehearsed = [];
  fails = false;
  planWarmer = new PlanWarmer({
    rehearse: async (database) => {
      rehearsed.push(database);
      if (fails) throw new Error("no connection");
    },
  });
});
afterEach(() => {
  planWarmer.close();
  vi.useRealTimers();
});

test("plans are warmed a tenth of a second after a change, once for all changes of that time", async () => {
  for (let count = 0; count < 5; count += 1) planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(99);
  expect(rehearsed).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(rehearsed).toEqual(["main"]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toEqual(["main"]);
});

test("during constant changes plans are warmed once a second, and once more for the last change", async () => {
  for (let ms = 0; ms < 5_000; ms += 10) {
    planWarmer.hear("main");
    await vi.advanceTimersByTimeAsync(10);
  }
  expect(rehearsed).toHaveLength(5);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toHaveLength(6);
});

test("one database's changes do not affect another's", async () => {
  planWarmer.hear("main");
  planWarmer.hear("other");
  await vi.advanceTimersByTimeAsync(100);
  expect(rehearsed).toEqual(["main", "other"]);
});

test("a failed warming does not prevent the next", async () => {
  fails = true;
  planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(2_000);
  planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(2_000);
  expect(rehearsed).toEqual(["main", "main"]);
});

test("nothing is warmed after closing, pending changes included", async () => {
  planWarmer.hear("main");
  planWarmer.close();
  planWarmer.hear("other");
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});
