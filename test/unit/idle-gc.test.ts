import { getHeapStatistics } from "node:v8";
import { expect, it } from "vitest";
import { IdleGc, isWorthReleasing } from "../../src/shared/memory/idle-gc.ts";

const mb = 2 ** 20;

it.each([
  { heldMb: 0, nowMb: 7, worth: false },
  { heldMb: 0, nowMb: 8, worth: true },
  { heldMb: 20, nowMb: 27, worth: false },
  { heldMb: 20, nowMb: 28, worth: true },
  { heldMb: 100, nowMb: 124, worth: false },
  { heldMb: 100, nowMb: 125, worth: true },
  { heldMb: 30, nowMb: 20, worth: false },
])("for a heap of $nowMb MB that was $heldMb, a release is worth it: $worth", ({ heldMb, nowMb, worth }) => {
  expect(isWorthReleasing({ heldBytes: heldMb * mb, nowBytes: nowMb * mb })).toBe(worth);
});

/** What survives its collections makes the young generation grow. */
function grow(): number {
  const kept = Array.from({ length: 600_000 }, (_, index) => ({ index }));
  return kept.length;
}

it("a thread releases memory once, in its third second of rest, if it has worked since the last release", () => {
  const reserve = new IdleGc();
  const held = (): number => getHeapStatistics().total_physical_size;
  for (const done of [1, 1, 1, 1]) reserve.tick(done);
  grow();
  const grown = held();
  for (const done of [2, 3, 3, 3]) reserve.tick(done);
  expect(held()).toBeGreaterThanOrEqual(grown);
  reserve.tick(3);
  expect(held()).toBeLessThan(grown - 8 * mb);
  grow();
  const again = held();
  for (let ticks = 0; ticks < 5; ticks += 1) reserve.tick(3);
  expect(held()).toBeGreaterThanOrEqual(again);
});
