import { describe, expect, test } from "vitest";
import { CrashBackoff, type Member } from "../../src/fleet/crash-backoff.ts";
import { type InstanceKey, pooledKey } from "../../src/shared/kernel/ids.ts";

const key = (digit: string): InstanceKey => pooledKey(digit.repeat(64));
const [hog, one, two] = [key("a"), key("1"), key("2")];
const busy = (name: InstanceKey): Member => ({ spec: { key: name }, inFlight: 1, phase: "live" });
const idle = (name: InstanceKey): Member => ({ spec: { key: name }, inFlight: 0, phase: "live" });

describe("the crash backoff", () => {
  test("suspects all keys that were active when a thread ended, but no idle ones", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one), idle(two)], 1_000);
    expect([hog, one, two].map((each) => crashBackoff.isSuspect(each, 1_000))).toEqual([true, true, false]);
    expect(crashBackoff.heldForMs(hog, 1_000)).toBe(0);
  });

  test("clears the others when one of them ends a thread that it has to itself", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one), busy(two)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    expect([hog, one, two].map((each) => crashBackoff.isSuspect(each, 2_000))).toEqual([true, false, false]);
  });

  test("does not clear a key that ended a thread by itself when another is proved guilty", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(one)], 500);
    crashBackoff.note([busy(hog), busy(one)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    expect(crashBackoff.isSuspect(one, 2_000)).toBe(true);
  });

  test("holds a key back after its second proved crash, and nobody else", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    crashBackoff.note([busy(hog)], 3_000);
    expect(crashBackoff.heldForMs(hog, 3_000)).toBeGreaterThan(0);
    expect(crashBackoff.heldForMs(one, 3_000)).toBe(0);
  });
});
