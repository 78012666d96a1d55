import { describe, expect, it } from "vitest";
import { createLogger, type LoggerOptions } from "../../src/observability/logger.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { cellId, pooledKey, tenantId } from "../../src/shared/kernel/ids.ts";

function capture(options: Partial<LoggerOptions> = {}) {
  const lines: string[] = [];
  const write = (text: string): void => {
    lines.push(text);
  };
  const sink = { admits: () => true, write };
  return { lines, ...createLogger({ level: "debug", format: "json", sink, ...options }) };
}

const key = pooledKey("a".repeat(64));
const cell = cellId(3);
const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl";

describe("the logger", () => {
  it("writes one JSON line per event, with its kind, its level and its figures", () => {
    const { lines, observe } = capture();
    observe({ kind: "build.done", key, cell, buildMs: 412.3456, types: 323 });
    expect(lines).toHaveLength(1);
    const record = JSON.parse(lines[0] ?? "");
    expect(record).toMatchObject({
      level: "info",
      kind: "build.done",
      key,
      cell,
      buildMs: 412.35,
      types: 323,
    });
    expect(Date.parse(record.time)).toBeGreaterThan(0);
    expect(lines[0]).toMatch(/\}\n$/);
  });

  it("writes request lines at debug only", () => {
    const { lines, observe } = capture({ level: "info" });
    observe({ kind: "request.done", status: 200, durationMs: 1, requestId: "r1" });
    expect(lines).toEqual([]);
  });

  it("logs a failed request at its code's level, and keeps stack and causes", () => {
    const { lines, observe } = capture();
    const error = new HostError("INTERNAL", "outer", { cause: new Error("inner") });
    observe({ kind: "request.failed", requestId: "r1", code: "INTERNAL", tenant: tenantId("acme"), error });
    observe({
      kind: "request.failed",
      requestId: "r2",
      code: "TENANT_UNKNOWN",
      error: new HostError("TENANT_UNKNOWN"),
    });
    const [loud, quiet] = lines.map((text) => JSON.parse(text));
    expect(loud).toMatchObject({
      level: "error",
      error: { code: "INTERNAL", message: "outer", cause: { message: "inner" } },
    });
    expect(loud.error.stack).toContain("logger.test.ts");
    expect(quiet.level).toBe("debug");
  });

  it.each(["json", "terminal"] as const)(
    "writes no credential in %s, wherever an error contains one",
    (format) => {
      const { lines, observe } = capture({ format });
      const cause = new Error(
        `postgres://app:hunter2@db/x, Authorization: Bearer sesame.${"x".repeat(20)}, ${jwt}`,
      );
      const message = "postgresql://app:p@ss/@hunter2@[::1]:5432/x?password=hunter2";
      observe({
        kind: "database.lost",
        database: "main",
        error: new HostError("DATABASE_UNREACHABLE", message, { cause }),
      });
      observe({ kind: "cell.log", cell, level: "warn", message: `cannot use ${message} with ${jwt}` });
      observe({ kind: "cell.error", cell, error: cause });
      const text = lines.join("");
      expect(text).not.toMatch(/hunter2|sesame|eyJ/);
      expect(text).toContain("postgresql://***@[::1]:5432/x");
    },
  );

  it("for a terminal writes one line of text, which no content can break or colour", () => {
    const { lines, observe } = capture({ format: "terminal" });
    const error = new Error('first\nsecond \x1b[2J"');
    observe({ kind: "cell.error", cell, error });
    observe({ kind: "cell.log", cell, level: "info", message: "a\u009b2Jb" });
    expect(lines[0]?.slice("\x1b[31m12:34:56.789".length)).toBe(
      ' error cell error cell=c3 error="first\\nsecond \\u001b[2J\\""\x1b[0m\n',
    );
    expect(lines[1]).toMatch(/ info {2}message from a cell cell=c3 severity=info detail=a\\x9b2Jb\n$/);
  });

  it("survives an error that is its own cause", () => {
    const { lines, observe } = capture();
    const error = new Error("loop");
    error.cause = error;
    observe({ kind: "cell.error", cell, error });
    expect(lines).toHaveLength(1);
  });

  it("limits lines of a tenant's kind, and the next one says how many were dropped", () => {
    const clock = { ms: 0, now: () => clock.ms };
    const { lines, observe, dropped } = capture({ clock });
    const fail = (tenant: string | undefined, count: number): void => {
      for (let round = 0; round < count; round += 1) {
        observe({
          kind: "request.failed",
          requestId: `r${round}`,
          code: "TOKEN_INVALID",
          error: new HostError("TOKEN_INVALID"),
          ...(tenant === undefined ? {} : { tenant: tenantId(tenant) }),
        });
      }
    };
    fail("acme", 120);
    expect(lines).toHaveLength(20);
    fail("globex", 1);
    expect(lines).toHaveLength(21);
    clock.ms = 1_000;
    fail("acme", 1);
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ tenant: "acme", leftOut: 100 });
    expect(dropped.all).toContainEqual({ level: "info", reason: "rate", count: 100 });
  });

  it("reports dropped lines even if no further line comes", () => {
    const { lines, observe, tellLimited } = capture();
    for (let round = 0; round < 25; round += 1) {
      observe({ kind: "cell.log", cell, level: "warn", message: "odd", tenant: tenantId("acme") });
    }
    tellLimited();
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({
      level: "warn",
      kind: "log.dropped",
      reason: "rate",
      count: 5,
      lines: ["5 cell.log warn of acme"],
    });
    tellLimited();
    expect(lines).toHaveLength(21);
  });

  it("drops nothing that the host itself does", () => {
    const { lines, observe } = capture();
    for (let round = 0; round < 200; round += 1) {
      observe({ kind: "build.started", key, cell, queuedMs: 1 });
      observe({ kind: "cell.started", cell, startMs: 1 });
      observe({ kind: "build.failed", key, code: "BUILD_FAILED", error: new Error(), buildMs: 1 });
    }
    expect(lines).toHaveLength(600);
  });

  it("does not format a line that would be dropped", () => {
    const lines: string[] = [];
    const sink = { admits: (level: string) => level === "error", write: (text: string) => lines.push(text) };
    const { observe } = createLogger({ level: "debug", format: "json", sink });
    observe({ kind: "cell.log", cell, level: "warn", message: "odd" });
    observe({ kind: "cell.log", cell, level: "error", message: "worse" });
    expect(lines).toHaveLength(1);
  });

  it.each(["json", "terminal"] as const)("limits what one error adds to a line in %s", (format) => {
    const { lines, observe } = capture({ format });
    let error = new Error("x".repeat(300_000));
    for (let depth = 0; depth < 9; depth += 1) error = new Error("y ".repeat(150_000), { cause: error });
    observe({ kind: "cell.error", cell, error });
    observe({
      kind: "admin.refused",
      requestId: "r",
      code: "UNAUTHORIZED",
      remoteAddress: "::1",
      path: "/z".repeat(9_000),
    });
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(50_000);
  });
});
