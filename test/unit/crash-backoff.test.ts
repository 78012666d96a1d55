import { describe, expect, test } from "vitest";
import {
  CrashBackoff,
  type CrashRecord,
  crash,
  heldForMs,
  isSuspect,
  type Member,
} from "../../src/fleet/crash-backoff.ts";
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

describe("a key that was active when threads ended", () => {
  const minuteMs = 60_000;
  const certainly = (times: number): CrashRecord | undefined => {
    let record: CrashRecord | undefined;
    for (let count = 0; count < times; count += 1) record = crash(record, true, 1_000);
    return record;
  };

  test.each([
    ["never", undefined, 0],
    ["once", certainly(1), 0],
    ["twice", certainly(2), 5_000],
    ["three times", certainly(3), 10_000],
    ["seven times", certainly(7), 160_000],
    ["forty times", certainly(40), 5 * minuteMs],
  ])("alone, %s, is held back for a time that grows up to a limit", (_, record, pauseMs) => {
    expect(heldForMs(record, 1_000)).toBe(pauseMs);
    expect(heldForMs(record, 1_000 + pauseMs / 2)).toBe(pauseMs / 2);
    expect(heldForMs(record, 1_000 + pauseMs)).toBe(0);
    expect(heldForMs(record, 1_000 + pauseMs * 2)).toBe(0);
  });

  test("among others is never delayed for it, but suspected", () => {
    let record: CrashRecord | undefined;
    for (let count = 0; count < 20; count += 1) record = crash(record, false, 1_000);
    expect(record).toEqual({ crashes: 20, certain: 0, lastMs: 1_000 });
    expect(heldForMs(record, 1_000)).toBe(0);
    expect([isSuspect(record, 1_000), isSuspect(undefined, 1_000)]).toEqual([true, false]);
  });

  test("is forgiven after ten minutes", () => {
    const record = certainly(9);
    const laterMs = 1_000 + 10 * minuteMs;
    expect([isSuspect(record, laterMs - 1), isSuspect(record, laterMs)]).toEqual([true, false]);
    expect(crash(record, true, laterMs)).toEqual({ crashes: 1, certain: 1, lastMs: laterMs });
    expect(crash(record, true, laterMs - 1)).toMatchObject({ crashes: 10, certain: 10 });
  });
});
