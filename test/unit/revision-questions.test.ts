import pg from "pg";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { tenantId } from "../../src/shared/kernel/ids.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { looksOutdated, RevisionQuestions } from "../../workers/postgres/revision-questions.ts";

const bindingOf = (tenant: string, statementTag = "old"): TenantBinding => ({
  tenant: tenantId(tenant),
  searchPath: [tenant],
  statementTag,
  roles: [],
  prepares: false,
  notifies: false,
  guard: null,
});

let asked: string[];
let questions: RevisionQuestions<never>;

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  questions = new RevisionQuestions(async ({ tenant, statementTag }) => {
    asked.push(tenant);
    return statementTag === "old" ? "moved" : null;
  });
});
afterEach(() => vi.useRealTimers());

describe("reads that fail as if the schema had moved", () => {
  it("share one question, if they fail together", async () => {
    const answers = Promise.all([1, 2, 3].map(() => questions.moved(bindingOf("acme"))));
    await vi.advanceTimersByTimeAsync(0);
    expect(await answers).toEqual(["moved", "moved", "moved"]);
    expect(asked).toEqual(["acme"]);
  });

  it("are each answered by a question that is sent after they failed", async () => {
    let open = (): void => undefined;
    const sent = new Promise<void>((resolve) => {
      open = resolve;
    });
    let count = 0;
    const slow = new RevisionQuestions(async () => {
      count += 1;
      const mine = count;
      await sent;
      return mine;
    });
    const first = slow.moved(bindingOf("acme"));
    await vi.advanceTimersByTimeAsync(1);
    const second = slow.moved(bindingOf("acme"));
    await vi.advanceTimersByTimeAsync(200);
    open();
    expect([await first, await second]).toEqual([1, 2]);
  });

  it("cost a tenant ten questions a second, however many fail, and all are answered", async () => {
    let answered = 0;
    for (let ms = 0; ms < 2_000; ms += 1) {
      void questions.moved(bindingOf("acme", "new")).then((answer) => {
        expect(answer).toBeNull();
        answered += 1;
      });
      await vi.advanceTimersByTimeAsync(1);
    }
    await vi.advanceTimersByTimeAsync(100);
    expect(answered).toBe(2_000);
    expect(asked.length).toBeLessThanOrEqual(22);
    expect(asked.length).toBeGreaterThan(15);
  });

  it("of one tenant delay no other's", async () => {
    for (let n = 0; n < 5; n += 1) {
      void questions.moved(bindingOf("acme", `new ${n}`));
    }
    const other = questions.moved(bindingOf("globex"));
    await vi.advanceTimersByTimeAsync(0);
    expect(await other).toBe("moved");
  });
});

describe("a PostgreSQL error", () => {
  const errorOf = (code: string, routine?: string): pg.DatabaseError =>
    Object.assign(new pg.DatabaseError("no", 0, "error"), { code, routine });

  it.each(["42703", "42P01", "42883", "42704", "42804", "42501", "3F000", "XX000"])(
    "may come from a changed schema: %s",
    (code) => expect(looksOutdated(errorOf(code))).toBe(true),
  );

  it("may do so for an enum's value, and for no other text", () => {
    expect(looksOutdated(errorOf("22P02", "enum_in"))).toBe(true);
    expect(looksOutdated(errorOf("22P02", "string_to_uuid"))).toBe(false);
  });

  it.each(["23505", "22012", "57014", "40001", "P0001"])("does not: %s", (code) =>
    expect(looksOutdated(errorOf(code))).toBe(false),
  );

  it("is distinguished from any other error", () => {
    expect(looksOutdated(Object.assign(new Error("no"), { code: "42P01" }))).toBe(false);
  });
});
