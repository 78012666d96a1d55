import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Condition } from "../../src/shared/kernel/condition.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

describe("a condition", () => {
  it("wakes all current waiters, and none that comes later", async () => {
    const signal = new Condition();
    const woken: string[] = [];
    const waiting = ["a", "b"].map((name) => signal.wait(1_000).then(() => woken.push(name)));
    signal.notify();
    await Promise.all(waiting);
    void signal.wait(1_000).then(() => woken.push("late"));
    await vi.advanceTimersByTimeAsync(999);
    expect(woken).toEqual(["a", "b"]);
    await vi.advanceTimersByTimeAsync(1);
    expect(woken).toEqual(["a", "b", "late"]);
  });

  it("leaves no timer behind for a waiter that was woken", async () => {
    const signal = new Condition();
    const waiting = signal.wait(60_000);
    expect(vi.getTimerCount()).toBe(1);
    signal.notify();
    await waiting;
    expect(vi.getTimerCount()).toBe(0);
  });

  it("does not lose a change between a check and the wait that follows it immediately", async () => {
    const signal = new Condition();
    let ready = false;
    const wait = (async () => {
      while (!ready) await signal.wait(60_000);
    })();
    ready = true;
    signal.notify();
    await wait;
    expect(vi.getTimerCount()).toBe(0);
  });
});
