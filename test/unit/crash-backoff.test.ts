import { describe, expect, test } from "vitest";
import { CrashBackoff, type Member } from "../../src/fleet/crash-backoff.ts";
import { type InstanceKey, pooledKey } from "../../src/shared/kernel/ids.ts";

const key = (digit: string): InstanceKey => pooledKey(digit.repeat(64));
const [hog, one, two] = [key("a"), key("1"), key("2")];
const busy = (name: InstanceKey): Member => ({ spec: { key: name }, inFlight: 1, phase: "live" });
const idle = (name: InstanceKey): Member => ({ spec: { key: name }, inFlight: 0, phase: "live" });

describe("strikes", () => {
  test("all that were active when a thread ended are suspects, idle ones are not", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one), idle(two)], 1_000);
    expect([hog, one, two].map((each) => crashBackoff.isSuspect(each, 1_000))).toEqual([true, true, false]);
    expect(crashBackoff.heldForMs(hog, 1_000)).toBe(0);
  });

  test("when one of them ends a thread that it has to itself, the others are cleared", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one), busy(two)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    expect([hog, one, two].map((each) => crashBackoff.isSuspect(each, 2_000))).toEqual([true, false, false]);
  });

  test("one that has ended a thread by itself is not cleared by another's certainty", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(one)], 500);
    crashBackoff.note([busy(hog), busy(one)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    expect(crashBackoff.isSuspect(one, 2_000)).toBe(true);
  });

  test("the second certain end holds a key back, and nobody else", () => {
    const crashBackoff = new CrashBackoff();
    crashBackoff.note([busy(hog), busy(one)], 1_000);
    crashBackoff.note([busy(hog)], 2_000);
    crashBackoff.note([busy(hog)], 3_000);
    expect(crashBackoff.heldForMs(hog, 3_000)).toBeGreaterThan(0);
    expect(crashBackoff.heldForMs(one, 3_000)).toBe(0);
  });
});
