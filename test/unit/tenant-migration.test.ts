import pg from "pg";
import { describe, expect, it } from "vitest";
import { UsageError } from "../../src/cli/command.ts";
import { choiceOf } from "../../src/cli/migrate.ts";
import { inParallel } from "../../src/cli/parallel.ts";
import { table } from "../../src/cli/table.ts";
import { migrationError } from "../../src/control/migration-error.ts";
import { tenantId } from "../../src/shared/kernel/ids.ts";

describe("the tenants of a migration", () => {
  it.each([
    [{ tenant: ["a", "b", "a"] }, { kind: "named", ids: ["a", "b"] }],
    [{ tenant: [], all: true }, { kind: "all" }],
    [
      { tenant: [], like: "a" },
      { kind: "like", id: "a" },
    ],
  ])("%j are %j", (args, choice) => {
    expect(choiceOf(args)).toEqual(choice);
  });

  it.each([
    {},
    { tenant: [] },
    { tenant: ["a"], all: true },
    { all: true, like: "a" },
    { tenant: ["a"], like: "b" },
  ])("%j name none, or too much", (args) => {
    expect(() => choiceOf(args)).toThrow(UsageError);
  });
});

describe("work on many items", () => {
  it("keeps their order and the limit of concurrency", async () => {
    let running = 0;
    let most = 0;
    const items = Array.from({ length: 20 }, (_, index) => index);
    const values = await inParallel(items, 3, async (item) => {
      running += 1;
      most = Math.max(most, running);
      for (let turn = 0; turn < item % 4; turn += 1) await Promise.resolve();
      running -= 1;
      return item * 2;
    });
    expect(values).toEqual(items.map((item) => item * 2));
    expect(most).toBe(3);
  });
});

it("a table's columns are as wide as their widest cell, and no line ends in blanks", () => {
  expect(
    table([
      ["tenant", "result"],
      ["a", "already applied"],
      ["longer-id", ""],
    ]),
  ).toBe("tenant     result\na          already applied\nlonger-id");
});

describe("a PostgreSQL error", () => {
  const context = { tenant: tenantId("acme"), sql: "select 1;\nselect x", lockTimeoutMs: 1_500 };
  const error = (fields: Partial<pg.DatabaseError>): pg.DatabaseError =>
    Object.assign(new pg.DatabaseError("words", 1, "error"), fields);

  it("has a position only if it is about the given SQL", () => {
    const place = { internalPosition: "18", code: "42703" };
    expect(migrationError(error({ ...place, internalQuery: context.sql }), context)).toMatchObject({
      code: "MIGRATION_FAILED",
      message: "words (42703) at line 2, column 8; nothing was changed",
      details: { sqlState: "42703", line: 2, column: 8 },
    });
    expect(migrationError(error({ ...place, internalQuery: "select of a function" }), context)).toMatchObject(
      {
        details: { sqlState: "42703" },
      },
    );
  });

  it("is a busy lock if it is 55P03, to be retried once it may be free", () => {
    expect(migrationError(error({ code: "55P03" }), context)).toMatchObject({
      code: "LOCK_TIMEOUT",
      message: "tenant acme: a lock was not free within 1500 ms; nothing was changed",
      retryAfterSeconds: 2,
    });
  });

  it("is the SQL's own if that raises 55P03", () => {
    const raised = { code: "55P03", routine: "exec_stmt_raise" };
    expect(
      migrationError(error({ ...raised, where: "PL/pgSQL function mine() line 1 at RAISE" }), context),
    ).toMatchObject({
      code: "MIGRATION_FAILED",
    });
    const where = "PL/pgSQL function rowhouse.lock_tenant(text) line 9 at RAISE";
    expect(migrationError(error({ ...raised, where }), context)).toMatchObject({ code: "LOCK_TIMEOUT" });
  });

  it("never includes the rows that PostgreSQL quotes in its detail", () => {
    const mapped = migrationError(error({ code: "23505", detail: "Key (name)=(secret)" }), context);
    expect(mapped instanceof Error ? mapped.message : "").not.toContain("secret");
  });

  it("is recognised alone: another error is left unchanged", () => {
    const other = new Error("words");
    expect(migrationError(other, context)).toBe(other);
  });
});
