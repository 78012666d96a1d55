import { expect, it } from "vitest";
import { Homes } from "../../workers/postgres/homes.ts";

const borrowers = Array.from({ length: 1_000 }, (_, index) => ({ tenant: `t${index}`, prepares: false }));
const homesIn = (places: number): number[] => {
  const homes = new Homes(places);
  return borrowers.map((borrower) => homes.of(borrower)[0] ?? -1);
};

it("gives each connection about as many tenants as any other", () => {
  for (const places of [2, 3, 8]) {
    const counts = Array.from({ length: places }, () => 0);
    for (const home of homesIn(places)) counts[home] = (counts[home] ?? 0) + 1;
    expect(Math.min(...counts)).toBeGreaterThan((1_000 / places) * 0.75);
    expect(Math.max(...counts)).toBeLessThan((1_000 / places) * 1.25);
  }
});

it("gives a tenant the same order in every pool of a size, and three different places", () => {
  const [one, other] = [new Homes(8), new Homes(8)];
  for (const { tenant } of borrowers) {
    const order = one.of({ tenant, prepares: false });
    expect(other.of({ tenant, prepares: true })).toEqual(order);
    expect(new Set(order).size).toBe(3);
  }
  expect(new Homes(1).of({ tenant: "t1", prepares: false })).toEqual([0]);
});

it("moves a tenant to another home in a larger pool only if that is the new place", () => {
  const [before, after] = [homesIn(8), homesIn(9)];
  const moved = borrowers.flatMap((_, index) => (before[index] === after[index] ? [] : [after[index]]));
  expect(moved.length).toBeGreaterThan(50);
  expect(new Set(moved)).toEqual(new Set([8]));
});
