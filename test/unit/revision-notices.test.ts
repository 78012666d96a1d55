import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { RevisionNotices } from "../../src/decisions/revision-notices.ts";

/** What the database says; null: it does not answer. */
let revisions: Map<string, bigint> | null;
let replica: boolean;
let reads: string[][];
let believed: string[];
let notices: RevisionNotices;

beforeEach(() => {
  vi.useFakeTimers();
  revisions = new Map([
    ["a", 5n],
    ["b", 7n],
  ]);
  replica = false;
  reads = [];
  believed = [];
  notices = new RevisionNotices({
    interest: (_, schema, revision) => {
      if (schema === "nobody's" || revision <= 4n) return "none";
      return schema.startsWith("unknown") ? "asked" : "known";
    },
    read: async (database, schemas) => {
      reads.push([database, ...schemas]);
      if (revisions === null) throw new Error("no answer");
      return { found: new Map([...revisions].filter(([schema]) => schemas.includes(schema))), replica };
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
  expect(reads.map(({ length }) => length - 1)).toEqual([1, 1_000]);
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

const sayOf = (schema: string, revision: bigint): void => {
  revisions?.set(schema, revision);
};

test("a primary is asked once, however much more was said than it has", async () => {
  notices.hear("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(1);
});

test("a replica is asked again until it has come to what was said, after pauses that grow to five seconds", async () => {
  replica = true;
  notices.hear("main", "a", 6n);
  await vi.advanceTimersByTimeAsync(60_000);
  // 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2 seconds, and then five each time.
  expect(reads.length).toBeGreaterThan(12);
  expect(reads.length).toBeLessThanOrEqual(19);
  sayOf("a", 6n);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(believed.at(-1)).toBe("main a 6");
  const { length } = reads;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(length);
});

test("a lie keeps no later notice waiting, on a replica either", async () => {
  replica = true;
  notices.hear("main", "a", 9_000n);
  await vi.advanceTimersByTimeAsync(60_000);
  sayOf("a", 6n);
  notices.hear("main", "a", 6n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toContain("main a 6");
  sayOf("b", 8n);
  notices.hear("main", "b", 8n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toContain("main b 8");
});

test("of a replica nothing is believed where it does not answer: it is asked again", async () => {
  notices.replica("main");
  const answer = revisions;
  revisions = null;
  notices.hear("main", "a", 6n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(believed).toEqual([]);
  revisions = answer;
  sayOf("a", 6n);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(believed).toEqual(["main a 6"]);
});

test("what is nobody's news yet is kept for a replica, on which it may be decided of an older revision", async () => {
  replica = true;
  notices.replica("main");
  revisions?.set("nobody's", 5n);
  notices.hear("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  sayOf("nobody's", 9n);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(believed.at(-1)).toBe("main nobody's 9");
});

test("what is nobody's news is not kept for ever, nor more of it than is asked for at once", async () => {
  notices.replica("main");
  replica = true;
  for (let n = 0; n < 2_500; n += 1) notices.hear("main", `unknown ${n}`, 2n);
  await vi.advanceTimersByTimeAsync(11 * 60_000);
  expect(new Set(reads.flatMap(([, ...names]) => names)).size).toBe(1_000);
  const { length } = reads;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(length);
});

test("a replica that has become a primary is asked no more than one", async () => {
  replica = true;
  notices.hear("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  replica = false;
  await vi.advanceTimersByTimeAsync(10_000);
  const { length } = reads;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(length);
  notices.hear("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toHaveLength(length);
});
