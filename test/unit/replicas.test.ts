import { describe, expect, it } from "vitest";
import { decideReplicas, noStreak, type ReplicaLoad, type Streak } from "../../src/fleet/replicas.ts";

const hot: ReplicaLoad = { utilization: 0.95, share: 1 };
const warm: ReplicaLoad = { utilization: 0.5, share: 1 };
const idle: ReplicaLoad = { utilization: 0.01, share: 1 };
/** Busy with others. */
const bystander: ReplicaLoad = { utilization: 0.95, share: 0.2 };

/** The verdicts of so many looks at the same loads. */
function verdicts(loads: readonly ReplicaLoad[], most: number, looks: number): string[] {
  let streak: Streak = noStreak;
  return Array.from({ length: looks }, () => {
    const decided = decideReplicas(loads, most, streak);
    streak = decided.streak;
    return decided.verdict;
  });
}

const nothingUntil = (looks: number, verdict: string): string[] => [
  ...Array(looks - 1).fill("none"),
  verdict,
];

describe("a key's replicas", () => {
  it("grow after all of them were busy for three seconds, then need that time again", () => {
    expect(verdicts([hot], 4, 6)).toEqual([...nothingUntil(3, "grow"), ...nothingUntil(3, "grow")]);
    expect(verdicts([hot, hot], 4, 3)).toEqual(nothingUntil(3, "grow"));
  });

  it.each([
    ["at the most that there may be", [hot], 1],
    ["where one of them has time", [hot, warm], 4],
    ["where the cell is busy with others", [bystander], 4],
    ["where nothing is asked", [idle], 4],
  ])("do not grow %s", (_, loads, most) => {
    expect(verdicts(loads, most, 40)).not.toContain("grow");
  });

  it("do not grow for an occasional busy second", () => {
    let streak: Streak = noStreak;
    for (let look = 0; look < 50; look += 1) {
      const decided = decideReplicas([look % 3 === 2 ? warm : hot], 4, streak);
      expect(decided.verdict).toBe("none");
      streak = decided.streak;
    }
  });

  it("shrink after thirty seconds in which one fewer would have sufficed", () => {
    expect(verdicts([idle, idle], 4, 30)).toEqual(nothingUntil(30, "shrink"));
    expect(verdicts([warm, idle, idle], 4, 30)).toEqual(nothingUntil(30, "shrink"));
    expect(verdicts([warm, idle], 4, 60)).not.toContain("shrink");
  });

  it("never shrink to none, and at once to what is allowed", () => {
    expect(verdicts([idle], 4, 100)).not.toContain("shrink");
    expect(verdicts([hot, hot, hot], 2, 1)).toEqual(["shrink"]);
  });
});
