import { describe, expect, it } from "vitest";
import { Statements } from "../../workers/postgres/prepared-statements.ts";
import { assertHarmless } from "../../workers/postgres/statement-policy.ts";

describe("the names of statements", () => {
  it("come with a statement's second use on the connection", () => {
    const statements = new Statements();
    expect(statements.nameFor("t", "query")).toBeUndefined();
    const name = statements.nameFor("t", "query");
    expect(name).toBeTypeOf("string");
    expect(statements.nameFor("t", "query")).toBe(name);
  });

  it("differ by tenant and revisions, and fit into PostgreSQL's 63 bytes whatever PostGraphile calls them", () => {
    const statements = new Statements();
    const long = "ü".repeat(200);
    const names = ["a".repeat(16), "b".repeat(16)].flatMap((tag) =>
      [long, `${long}x`].map((name) => statements.nameFor(tag, name) ?? statements.nameFor(tag, name) ?? ""),
    );
    expect(new Set(names).size).toBe(4);
    for (const name of names) expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
  });

  it("are evicted least recently used first, and closed only if the server may have them", () => {
    const statements = new Statements(3);
    const use = (name: string): string | undefined => statements.nameFor("t", name);
    use("a");
    const a = use("a");
    use("b");
    const b = use("b");
    use("once");
    use("a");
    expect(statements.takeForgotten()).toEqual([]);
    use("c");
    expect(statements.takeForgotten()).toEqual([b]);
    expect(statements.takeForgotten()).toEqual([]);
    use("d");
    expect(statements.takeForgotten()).toEqual([]);
    use("e");
    expect(statements.takeForgotten()).toEqual([a]);
  });

  it("remain prepared until they are evicted or forgotten", () => {
    const statements = new Statements(1);
    statements.nameFor("t", "a");
    const a = statements.nameFor("t", "a") ?? "";
    statements.prepared(a, "select 1");
    expect(statements.isPrepared(a, "select 1")).toBe(true);
    expect(statements.isPrepared(a, "select 2")).toBe(false);
    statements.nameFor("t", "b");
    expect(statements.isPrepared(a, "select 1")).toBe(false);
    statements.prepared(a, "select 1");
    statements.forgetAll();
    expect(statements.isPrepared(a, "select 1")).toBe(false);
    expect(statements.takeForgotten()).toEqual([a]);
  });
});

it("have known columns for as long as their statement is prepared", () => {
  const statements = new Statements();
  statements.described("a", [{ name: "early" }]);
  expect(statements.columnsOf("a")).toBe(null);
  statements.prepared("a", "select 1");
  expect(statements.columnsOf("a")).toBe(null);
  statements.described("a", [{ name: "one" }]);
  expect(statements.columnsOf("a")).toEqual([{ name: "one" }]);
  expect(statements.columnsOf("b")).toBe(null);
  statements.prepared("a", "select 2");
  expect(statements.columnsOf("a")).toBe(null);
  statements.described("a", [{ name: "two" }]);
  statements.forgetAll();
  expect(statements.columnsOf("a")).toBe(null);
});

describe("the text of a statement", () => {
  it.each([
    "select 1",
    "with x as (select 1) select * from x",
    "declare c cursor for select 1",
    "fetch forward 100 from c",
    "close c",
    "savepoint commit_a",
    "rollback to savepoint a",
    "rollback to a",
    "rollback work to a",
    "release a",
    "set local time zone 'UTC'",
    "set transaction read only",
    "begins()",
    "do $$ begin end $$",
    "notify x",
    "explain select 1",
    "",
    "/* not closed",
  ])("%j is harmless", (text) => {
    expect(() => assertHarmless(text)).not.toThrow();
  });

  it.each([
    "COMMIT",
    "commit;",
    "commit/**/",
    "rollback",
    "rollback work",
    "rollback and chain",
    "-- x\ncommit",
    "/*/**/*/commit",
    ";commit",
    "set\nrole x",
    "set local role x",
    "set session x = 1",
    "set x = 1",
    "reset role",
    "select '\0'",
  ])("%j is not", (text) => {
    expect(() => assertHarmless(text)).toThrow();
  });
});
