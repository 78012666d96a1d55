import { describe, expect, it } from "vitest";
import { RateLimit, tokensAt } from "../../src/shared/kernel/rate-limit.ts";

const rate = { burst: 3, perSecond: 2 };

describe("a bucket", () => {
  it.each([
    ["is full when it is new", undefined, 0, 3],
    ["has what is left", { tokens: 1, atMs: 100 }, 100, 1],
    ["fills with the time", { tokens: 0, atMs: 100 }, 600, 1],
    ["fills no further than that", { tokens: 2, atMs: 100 }, 1_000_000, 3],
    ["loses nothing by a clock that goes back", { tokens: 2, atMs: 100 }, 50, 2],
  ])("%s", (_, bucket, nowMs, tokens) => {
    expect(tokensAt(bucket, nowMs, rate)).toBe(tokens);
  });
});

describe("a limit", () => {
  function start(maxKeys = 10) {
    const clock = { ms: 0, now: () => clock.ms };
    return { clock, limit: new RateLimit({ ...rate, maxKeys, clock }) };
  }
  const times = (count: number, act: () => unknown): unknown[] => Array.from({ length: count }, act);

  it("lets a burst through, then so many a second, each with the number dropped before it", () => {
    const { clock, limit } = start();
    expect(times(5, () => limit.admit("a"))).toEqual([0, 0, 0, undefined, undefined]);
    clock.ms = 500;
    expect(times(2, () => limit.admit("a"))).toEqual([2, undefined]);
    clock.ms = 10_000;
    expect(times(4, () => limit.admit("a"))).toEqual([1, 0, 0, undefined]);
  });

  it("of one key takes nothing from another's", () => {
    const { limit } = start();
    times(10, () => limit.admit("a"));
    expect(limit.admit("b")).toBe(0);
  });

  it("reports dropped items once, also those of evicted keys", () => {
    const { limit } = start(2);
    times(5, () => limit.admit("a"));
    times(4, () => limit.admit("b"));
    expect(limit.takeLeftOut()).toEqual({
      byKey: [
        ["a", 2],
        ["b", 1],
      ],
      other: 0,
    });
    times(3, () => limit.admit("b"));
    limit.admit("a");
    limit.admit("c");
    expect(limit.takeLeftOut()).toEqual({ byKey: [["a", 1]], other: 3 });
    expect(limit.takeLeftOut()).toEqual({ byKey: [], other: 0 });
  });

  it("adds items dropped elsewhere", () => {
    const { clock, limit } = start();
    expect(limit.admit("a", 7)).toBe(7);
    times(2, () => limit.admit("a"));
    limit.admit("a", 9);
    clock.ms = 500;
    expect(limit.admit("a")).toBe(10);
  });
});
