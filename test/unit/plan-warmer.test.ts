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

test("a change is rehearsed for a tenth of a second later, once for all that came with it", async () => {
  for (let count = 0; count < 5; count += 1) planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(99);
  expect(rehearsed).toEqual([]);
  await vi.advanceTimersByTimeAsync(1);
  expect(rehearsed).toEqual(["main"]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toEqual(["main"]);
});

test("while changes keep coming there is one rehearsal a second, and one for the last of them", async () => {
  for (let ms = 0; ms < 5_000; ms += 10) {
    planWarmer.hear("main");
    await vi.advanceTimersByTimeAsync(10);
  }
  expect(rehearsed).toHaveLength(5);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toHaveLength(6);
});

test("one database's changes are not another's", async () => {
  planWarmer.hear("main");
  planWarmer.hear("other");
  await vi.advanceTimersByTimeAsync(100);
  expect(rehearsed).toEqual(["main", "other"]);
});

test("a rehearsal that fails is no reason to leave out the next", async () => {
  fails = true;
  planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(2_000);
  planWarmer.hear("main");
  await vi.advanceTimersByTimeAsync(2_000);
  expect(rehearsed).toEqual(["main", "main"]);
});

test("nothing is rehearsed once they are closed, what was waited for included", async () => {
  planWarmer.hear("main");
  planWarmer.close();
  planWarmer.hear("other");
  await vi.advanceTimersByTimeAsync(60_000);
  expect(rehearsed).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
});
