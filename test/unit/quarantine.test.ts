import { describe, expect, it } from "vitest";
import { isCalm, isExcessive, type UsageSample } from "../../src/fleet/quarantine.ts";

const rules = { share: 0.5, windowMs: 10_000 };

/** One sample a second: the milliseconds that the tenant kept the thread busy in each. */
const seconds = (busy: readonly number[], contended = true): UsageSample[] =>
  busy.map((busyMs) => ({ spanMs: 1_000, busyMs, contended }));

const times = (count: number, busyMs: number): number[] => Array.from({ length: count }, () => busyMs);

describe("a tenant's share of a cell", () => {
  it.each([
    ["six seconds of the last ten", seconds([...times(4, 0), ...times(6, 950)]), true],
    ["five and a half, evenly", seconds(times(10, 550)), true],
    ["half, evenly", seconds(times(10, 500)), false],
    ["two seconds on end, after which nobody knows", seconds(times(2, 990)), true],
    ["a second on end", seconds([0, 0, 0, 990]), false],
    ["all of it long ago", seconds([...times(10, 990), ...times(8, 0)]), false],
    ["all of it while nobody else asked", seconds(times(10, 990), false), false],
    ["nothing", seconds([]), false],
  ])("%s: is it too much?", (_, samples, excessive) => {
    expect(isExcessive(samples, rules)).toBe(excessive);
  });

  it("is never too much if the whole cell is allowed", () => {
    expect(isExcessive(seconds(times(10, 1_000)), { ...rules, share: 1 })).toBe(false);
  });

  it("is judged by time, however rarely it is sampled", () => {
    expect(isExcessive([{ spanMs: 12_000, busyMs: 11_000, contended: true }], rules)).toBe(true);
  });

  it.each([
    ["thirty seconds of little", seconds(times(30, 200)), true],
    ["thirty seconds of a quarter or more", seconds(times(30, 260)), false],
    ["twenty quiet seconds", seconds(times(20, 0)), false],
    ["a flood, and then thirty quiet seconds", seconds([...times(20, 990), ...times(30, 10)]), true],
  ])("%s: has it calmed down?", (_, samples, calm) => {
    expect(isCalm(samples, rules)).toBe(calm);
  });
});
