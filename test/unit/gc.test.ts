import { getHeapSpaceStatistics } from "node:v8";
import { expect, it } from "vitest";
import { releaseFreePages } from "../../src/shared/memory/gc.ts";

const youngBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? Number.NaN;

/** What survives its collections makes the young generation grow. */
function grow(): number {
  const kept = Array.from({ length: 400_000 }, (_, index) => ({ index }));
  return kept.length;
}

it("releasing free pages returns what the young generation has grown by", () => {
  expect(grow()).toBe(400_000);
  const grown = youngBytes();
  releaseFreePages();
  expect(youngBytes()).toBeLessThanOrEqual(grown / 2);
});
