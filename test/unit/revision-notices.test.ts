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
    recordRevision: (database, schema, revision) => believed.push(`${database} ${schema} ${revision}`),
    recordMissing: (database, schema) => believed.push(`${database} ${schema} gone`),
  });
});
afterEach(() => {
  notices.close();
  vi.useRealTimers();
});

test("a notice is verified at once, and the database's answer is believed", async () => {
  notices.receive("main", "a", 9_000n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main a 5"]);
  expect(reads).toEqual([["main", "a"]]);
});

test("a schema without a revision is reported as such", async () => {
  notices.receive("main", "dropped", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main dropped gone"]);
});

test("old news is not verified", async () => {
  notices.receive("main", "a", 4n);
  notices.receive("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toEqual([]);
});

test("a thousand notices a second cost ten reads", async () => {
  for (let ms = 0; ms < 5_000; ms += 1) {
    notices.receive("main", ms % 2 === 0 ? "a" : "b", BigInt(10 + ms));
    await vi.advanceTimersByTimeAsync(1);
  }
  expect(reads.length).toBeGreaterThan(40);
  expect(reads.length).toBeLessThanOrEqual(51);
  expect(new Set(believed)).toEqual(new Set(["main a 5", "main b 7"]));
});

test("of a flood of names a read takes a thousand, and the rest follow in turn", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.receive("main", `s${n}`, 9n);
  await vi.advanceTimersByTimeAsync(250);
  expect(reads.map(({ length }) => length - 1)).toEqual([1, 1_000, 1_000]);
  await vi.advanceTimersByTimeAsync(100);
  expect(new Set(reads.flatMap(([, ...names]) => names)).size).toBe(2_500);
});

test("of names relevant to a pending read no more wait than fit into one read, and no others displace them", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.receive("main", `unknown ${n}`, 9n);
  notices.receive("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads.map(({ length }) => length - 1)).toEqual([1, 1_000]);
  expect(believed).toContain("main a 5");
});

test("one database's flood does not delay another's notice", async () => {
  for (let n = 0; n < 2_500; n += 1) notices.receive("main", `s${n}`, 9n);
  notices.receive("other", "a", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(reads).toContainEqual(["other", "a"]);
});

test("if the database does not answer, the notice is believed", async () => {
  revisions = null;
  notices.receive("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(0);
  expect(believed).toEqual(["main a 9"]);
  revisions = new Map([["a", 9n]]);
  notices.receive("main", "a", 10n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toEqual(["main a 9", "main a 9"]);
});

test("nothing is verified after closing", async () => {
  notices.receive("main", "a", 9n);
  notices.receive("main", "b", 9n);
  notices.close();
  notices.receive("other", "b", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toEqual([["main", "a"]]);
});

const sayOf = (schema: string, revision: bigint): void => {
  revisions?.set(schema, revision);
};

test("a primary is asked once, however far beyond its revision the notice was", async () => {
  notices.receive("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(1);
});

test("a replica is asked again until it has caught up with the notice, after pauses that grow to five seconds", async () => {
  replica = true;
  notices.receive("main", "a", 6n);
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

test("a false notice delays no later one, on a replica either", async () => {
  replica = true;
  notices.receive("main", "a", 9_000n);
  await vi.advanceTimersByTimeAsync(60_000);
  sayOf("a", 6n);
  notices.receive("main", "a", 6n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toContain("main a 6");
  sayOf("b", 8n);
  notices.receive("main", "b", 8n);
  await vi.advanceTimersByTimeAsync(200);
  expect(believed).toContain("main b 8");
});

test("without an answer from a replica nothing is believed, and it is asked again", async () => {
  notices.replica("main");
  const answer = revisions;
  revisions = null;
  notices.receive("main", "a", 6n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(believed).toEqual([]);
  revisions = answer;
  sayOf("a", 6n);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(believed).toEqual(["main a 6"]);
});

test("a notice that concerns nobody yet is kept for a replica, where an older revision may still be decided on", async () => {
  replica = true;
  notices.replica("main");
  revisions?.set("nobody's", 5n);
  notices.receive("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  sayOf("nobody's", 9n);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(believed.at(-1)).toBe("main nobody's 9");
});

test("a notice that concerns nobody is not kept for ever, nor more of them than fit into one read", async () => {
  notices.replica("main");
  replica = true;
  for (let n = 0; n < 2_500; n += 1) notices.receive("main", `unknown ${n}`, 2n);
  await vi.advanceTimersByTimeAsync(11 * 60_000);
  expect(new Set(reads.flatMap(([, ...names]) => names)).size).toBe(1_000);
  const { length } = reads;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(length);
});

test("a replica that has become a primary is asked once, like a primary", async () => {
  replica = true;
  notices.receive("main", "a", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  replica = false;
  await vi.advanceTimersByTimeAsync(10_000);
  const { length } = reads;
  await vi.advanceTimersByTimeAsync(60_000);
  expect(reads).toHaveLength(length);
  notices.receive("main", "nobody's", 9n);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(reads).toHaveLength(length);
});
