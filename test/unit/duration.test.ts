import { describe, expect, it, vi } from "vitest";
import { parseDurationMs, pause } from "../../src/shared/kernel/duration.ts";

describe("a duration", () => {
  it.each<[string | number, number | undefined]>([
    ["250ms", 250],
    ["30s", 30_000],
    ["1.5 s", 1_500],
    [" 5m ", 300_000],
    ["6h", 21_600_000],
    ["2d", 172_800_000],
    [0, 0],
    [1234, 1234],
    ["0s", 0],
    ["", undefined],
    ["30", undefined],
    ["s", undefined],
    ["-1s", undefined],
    ["1e3s", undefined],
    ["1.s", undefined],
    ["1 week", undefined],
    ["30S", undefined],
    ["1h30m", undefined],
    [-1, undefined],
    [Number.NaN, undefined],
    [Number.POSITIVE_INFINITY, undefined],
  ])("of %j is %j ms", (text, ms) => {
    expect(parseDurationMs(text)).toBe(ms);
  });
});

describe("a pause", () => {
  it("ends in time, or when it is aborted, and leaves no timer and no listener", async () => {
    vi.useFakeTimers();
    try {
      const whole = pause(100);
      await vi.advanceTimersByTimeAsync(100);
      await whole;

      const stop = new AbortController();
      const removed = vi.spyOn(stop.signal, "removeEventListener");
      const cut = pause(100, stop.signal);
      stop.abort();
      await cut;
      expect(vi.getTimerCount()).toBe(0);
      expect(removed).toHaveBeenCalled();

      await pause(100, stop.signal);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });
});
