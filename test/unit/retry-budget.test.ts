import { describe, expect, it } from "vitest";
import { isExhausted, patienceOf, pauseBefore } from "../../src/dispatch/retry-budget.ts";

const tried = (attempts: number, failedBuilds = 0) => ({
  attempts,
  failedBuilds,
  lost: 0,
  moved: 0,
  sinceMs: 500,
});

describe("a request during which the schema changes", () => {
  it.each([
    ["has time left, however often it ran", tried(100), 999, false],
    ["has time left, however often it was built for", tried(0, 100), 999, false],
    ["has none left", tried(1), 1_000, true],
  ])("that %s", (_, tries, waitedMs, expected) => {
    expect(isExhausted(tries, 500 + waitedMs, 1_000)).toBe(expected);
  });

  it.each([
    [30_000, 25_000],
    [20_000, 15_000],
    [1_000, 750],
    [1, 0.75],
  ])("has %d ms, of which %d for waiting, and the rest for its answer", (timeoutMs, patienceMs) => {
    expect(patienceOf(timeoutMs)).toBe(patienceMs);
  });

  it("waits longer each time, and never longer than half a second", () => {
    expect([1, 2, 10, 25, 1_000].map((attempts) => pauseBefore(tried(attempts), 1))).toEqual([
      20, 40, 200, 500, 500,
    ]);
    expect(pauseBefore(tried(3, 2), 0.5)).toBe(50);
    expect(pauseBefore(tried(3), 0)).toBe(0);
  });
});
