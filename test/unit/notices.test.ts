import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Notices } from "../../src/tenant/notices.ts";

/** What the database says; null: it does not answer. */
let revisions: Map<string, bigint> | null;
let reads: string[][];
let believed: string[];
let notices: Notices;

beforeEach(() => {
  vi.useFakeTimers();
  revisions = new Map([
    ["a", 5n],
    ["b", 7n],
  ]);
  reads = [];
  believed = [];
  notices = new Notices({
    interest: (_, schema, revision) => {
      if (schema === "nobody's" || revision <= 4n) return "none";
      return schema.startsWith("unknown") ? "asked" : "known";
    },
    read: async (database, schemas) => {
      reads.push([database, ...schemas]);
      if (revisions === null) throw new Error("no answer");
      return new Map([...revisions].filter(([schema]) => schemas.includes(schema)));
    },
    believe: (database, schema, revision) => believed.push(`${database} ${schema} ${revision}`),
    miss: (database, schema) => believed.push(`${database} ${schema} gone`),
  });
});
afterEach(() => {
  notices.close();
  vi.useRealTimers();
});

test("a notice is looked into at once, and what the database says is believed", async () => {
  notices.hear("main", "a", 9_000n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main a 5"]);
  expect(reads).toEqual([["main", "a"]]);
});

test("of a schema that has no revision, that is told", async () => {
  notices.hear("main", "dropped", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main dropped gone"]);
});

test("what is no news is not looked into", async () => {
  notices.hear("main", "a", 4n);
  notices.hear("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toEqual([]);
});

test("a thousand notices a second cost ten reads", async () => {
  for (let ms = 0; ms < 5_000; ms += 1) {
    notices.hear("main", ms % 2 === 0 ? "a" : "b", BigInt(10 + ms));
    await vi.advanceTimersByTimeAsync(1);
  }
  expect(reads.length).toBeGreaterThan(40);
  expect(reads.length).toBeLessThanOrEqual(51);
  expect(new Set(believed)).toEqual(new Set(["main a 5", "main b 7"]));
});

test("of a flood of names a read has a thousand, and the rest have their turn", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.hear("main", `s${n}`, 9n);
  await vi.advanceTimersByTimeAsync(250);
  expect(reads.map(({ length }) => length - 1)).toEqual([1, 1_000, 1_000]);
  await vi.advanceTimersByTimeAsync(100);
  expect(new Set(reads.flatMap(([, ...names]) => names)).size).toBe(2_500);
});

test("of names that may matter to what is being asked no more wait than are read at once, and no other for them", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.hear("main", `unknown ${n}`, 9n);
  notices.hear("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads.map(({ length }) => length - 1)).toEqual([1, 1_000, 1]);
  expect(believed).toContain("main a 5");
});

test("one database's flood keeps no other's notice waiting", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.hear("main", `s${n}`, 9n);
  notices.hear("other", "a", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(reads).toContainEqual(["other", "a"]);
});

test("where the database does not answer, what was said is believed", async () => {
  revisions = null;
  notices.hear("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main a 9"]);
  revisions = new Map([["a", 9n]]);
  notices.hear("main", "a", 10n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toEqual(["main a 9", "main a 9"]);
});

test("nothing is looked into any more once it is closed", async () => {
  notices.hear("main", "a", 9n);
  notices.hear("main", "b", 9n);
  notices.close();
  notices.hear("other", "b", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toEqual([["main", "a"]]);
});
