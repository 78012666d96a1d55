import { describe, expect, it } from "vitest";
import { CancellationSource, type CancellationToken } from "../../src/shared/kernel/cancellation.ts";

const kinds: [string, () => { signal: CancellationToken; abort: (reason: unknown) => void }][] = [
  [
    "a stop",
    () => {
      const stop = new CancellationSource();
      return { signal: stop, abort: (reason) => stop.abort(reason) };
    },
  ],
  // What stands in for one elsewhere: the laws are the same.
  [
    "an AbortSignal",
    () => {
      const controller = new AbortController();
      return { signal: controller.signal, abort: (reason) => controller.abort(reason) };
    },
  ],
];

describe.each(kinds)("%s", (_, make) => {
  it("notifies each listener once, in order, but none that has left or comes later", () => {
    const { signal, abort } = make();
    const told: string[] = [];
    const [first, left, last] = ["first", "left", "last"].map((name) => () => void told.push(name));
    for (const listener of [first, left, last]) {
      if (listener !== undefined) signal.addEventListener("abort", listener, { once: true });
    }
    if (left !== undefined) signal.removeEventListener("abort", left);
    abort("over");
    abort("over again");
    signal.addEventListener("abort", () => void told.push("late"));
    expect(told).toEqual(["first", "last"]);
  });

  it("does not notify a listener that another one has removed", () => {
    const { signal, abort } = make();
    const told: string[] = [];
    const second = (): void => void told.push("second");
    signal.addEventListener("abort", () => {
      told.push("first");
      signal.removeEventListener("abort", second);
    });
    signal.addEventListener("abort", second);
    abort("over");
    expect(told).toEqual(["first"]);
  });

  it("keeps its first reason, and throws it from then on", () => {
    const { signal, abort } = make();
    expect(() => signal.throwIfAborted()).not.toThrow();
    expect(signal.aborted).toBe(false);
    const reason = new Error("first");
    abort(reason);
    abort(new Error("second"));
    expect(signal).toMatchObject({ aborted: true, reason });
    expect(() => signal.throwIfAborted()).toThrow(reason);
  });

  it("has already stopped when it notifies its listeners", () => {
    const { signal, abort } = make();
    let seen: unknown;
    signal.addEventListener("abort", () => {
      seen = [signal.aborted, signal.reason];
    });
    abort("over");
    expect(seen).toEqual([true, "over"]);
  });
});
