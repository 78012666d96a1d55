import { describe, expect, it } from "vitest";
import {
  type CellPhase,
  cellStep,
  hostStep,
  type InstancePhase,
  instanceStep,
} from "../../src/shared/kernel/phase.ts";

const illegal = (step: () => unknown): boolean => {
  try {
    step();
    return false;
  } catch (error) {
    expect(error).toMatchObject({ code: "INTERNAL" });
    return true;
  }
};

describe("a cell", () => {
  it.each<[string, CellPhase[]]>([
    ["serves and is ended", ["starting", "spare", "serving", "draining", "terminating", "gone"]],
    ["is replaced", ["starting", "spare", "serving", "condemned", "draining", "terminating", "gone"]],
    ["is lost while it is replaced", ["serving", "condemned", "gone"]],
    ["is given up as a spare", ["starting", "spare", "draining", "terminating", "gone"]],
    ["never comes up", ["starting", "terminating", "gone"]],
  ])("may change in this way: it %s", (_, way) => {
    for (const [index, phase] of way.entries()) {
      expect(cellStep(way[Math.max(0, index - 1)] ?? phase, phase)).toBe(phase);
      expect(cellStep(phase, phase)).toBe(phase);
    }
  });

  it.each<[CellPhase, CellPhase, string]>([
    ["starting", "serving", "before its modules are loaded"],
    ["spare", "condemned", "of which nothing is to be built elsewhere"],
    ["condemned", "serving", "after all"],
    ["draining", "serving", "once it is drained"],
    ["draining", "condemned", "once it is drained"],
    ["terminating", "draining", "once its thread is ending"],
    ["gone", "starting", "again"],
  ])("never goes from %s to %s: %s", (from, to) => {
    expect(illegal(() => cellStep(from, to))).toBe(true);
  });
});

describe("an instance", () => {
  it.each<[InstancePhase, InstancePhase]>([
    ["building", "draining"],
    ["live", "building"],
    ["draining", "live"],
    ["gone", "live"],
    ["gone", "draining"],
  ])("never goes from %s to %s", (from, to) => {
    expect(illegal(() => instanceStep(from, to))).toBe(true);
  });
});

it("a draining host is never ready again", () => {
  expect(illegal(() => hostStep("draining", "ready"))).toBe(true);
  expect(hostStep("ready", "draining")).toBe("draining");
});
