import { describe, expect, it } from "vitest";
import { decideVerdict, nextLookMs, type Watched } from "../../src/fleet/governor.ts";

const calm: Watched = {
  phase: "serving",
  heapMb: 200,
  usedMb: 80,
  liveMb: null,
  settledMb: 0,
  rebuiltMb: 0,
  collecting: false,
  lastCollectionMs: Number.NEGATIVE_INFINITY,
  lastPongMs: 100_000,
  building: false,
  inFlight: 0,
  unmeasuredMs: null,
  nowMs: 100_500,
  stallTimeoutMs: 15_000,
};
const silent = { lastPongMs: 100_500 - 15_001 };

describe("a cell", () => {
  it.each<[string, Partial<Watched>, string]>([
    ["below its budget is left alone", {}, "none"],
    ["at its budget is ended", { usedMb: 200 }, "over-budget"],
    [
      "at its budget is ended whatever it does: while it is drained",
      { usedMb: 200, phase: "draining" },
      "over-budget",
    ],
    ["at its budget is ended while it is replaced", { usedMb: 200, phase: "condemned" }, "over-budget"],
    ["at its budget is ended while it builds", { usedMb: 200, building: true }, "over-budget"],
    ["at its budget is ended while it waits as a spare", { usedMb: 200, phase: "spare" }, "over-budget"],
    ["on its way out is left alone", { usedMb: 400, phase: "terminating", ...silent }, "none"],
    ["that is gone is left alone", { usedMb: 400, phase: "gone", ...silent }, "none"],
    ["that is silent is ended", silent, "stalled"],
    ["that was silent just long enough is not ended", { lastPongMs: 100_500 - 15_000 }, "none"],
    ["that is silent for a build has the build's own limit", { ...silent, building: true }, "none"],
    ["that is silent while it starts has longer", { ...silent, phase: "starting" }, "none"],
    ["that never comes up is ended", { lastPongMs: 100_500 - 60_001, phase: "starting" }, "stalled"],
    ["may hold more while it starts", { usedMb: 299, phase: "starting" }, "none"],
    ["may not hold anything while it starts", { usedMb: 300, phase: "starting" }, "over-budget"],
    ["that is rather full is collected", { usedMb: 140 }, "collect"],
    ["that is nearly rather full is not", { usedMb: 139 }, "none"],
    ["is not collected twice at once", { usedMb: 160, collecting: true }, "none"],
    ["is not collected again so soon", { usedMb: 160, lastCollectionMs: 98_501 }, "none"],
    ["is collected again after a while", { usedMb: 160, lastCollectionMs: 98_500 }, "collect"],
    [
      "that is full for good reasons is not collected for it",
      { usedMb: 160, liveMb: 150, settledMb: 155 },
      "none",
    ],
    ["is collected for what came since", { usedMb: 176, liveMb: 150, settledMb: 155 }, "collect"],
    ["that is idle is collected to measure what was built in it", { unmeasuredMs: 1_000 }, "collect"],
    ["is not collected so soon after a build, as another may follow", { unmeasuredMs: 999 }, "none"],
    [
      "is not collected for it again at once, whatever that measured",
      { unmeasuredMs: 9_000, lastCollectionMs: 99_501 },
      "none",
    ],
    ["is not collected for it while it builds", { unmeasuredMs: 9_000, building: true }, "none"],
    ["is not collected for it twice at once", { unmeasuredMs: 9_000, collecting: true }, "none"],
    ["that is busy is not collected for it at once", { unmeasuredMs: 2_999, inFlight: 1 }, "none"],
    ["that is busy is collected for it after a while", { unmeasuredMs: 3_000, inFlight: 1 }, "collect"],
    ["that is full for good is replaced", { usedMb: 175, liveMb: 170 }, "condemn"],
    ["that is nearly full for good is not", { usedMb: 175, liveMb: 169, settledMb: 175 }, "none"],
    ["that looks full but was not collected is not replaced", { usedMb: 199 }, "collect"],
    ["is not replaced twice", { usedMb: 175, liveMb: 170, settledMb: 175, phase: "condemned" }, "none"],
    [
      "is not replaced while it is drained",
      { usedMb: 175, liveMb: 170, settledMb: 175, phase: "draining" },
      "none",
    ],
    ["is not replaced by one as full", { usedMb: 175, liveMb: 170, settledMb: 175, rebuiltMb: 170 }, "none"],
  ])("%s", (_, changes, verdict) => {
    expect(decideVerdict({ ...calm, ...changes })).toBe(verdict);
  });
});

describe("the next check", () => {
  it.each([
    [0, 100],
    [0.5, 100],
    [0.51, 25],
    [0.7, 25],
    [0.71, 10],
    [3, 10],
  ])("with the fullest cell at %d of its budget comes after %d ms", (share, ms) => {
    expect(nextLookMs(share)).toBe(ms);
  });
});
