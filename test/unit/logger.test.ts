import { describe, expect, it } from "vitest";
import { HostError } from "../../src/kernel/errors.ts";
import { cellId, pooledKey, tenantId } from "../../src/kernel/ids.ts";
import { createLogger, type LoggerOptions } from "../../src/observe/logger.ts";

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

  it("is as loud about a failed request as its code says, and keeps stack and causes", () => {
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
    "writes no credential in %s, wherever an error has picked one up",
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

  it("for a terminal writes one line of text, which nothing in it can break or colour", () => {
    const { lines, observe } = capture({ format: "terminal" });
    const error = new Error('first\nsecond \x1b[2J"');
    observe({ kind: "cell.error", cell, error });
    observe({ kind: "cell.log", cell, level: "info", message: "a\u009b2Jb" });
    expect(lines[0]?.slice("\x1b[31m12:34:56.789".length)).toBe(
      ' error cell error cell=c3 error="first\\nsecond \\u001b[2J\\""\x1b[0m\n',
    );
    expect(lines[1]).toMatch(/ info {2}cell says cell=c3 severity=info detail=a\\x9b2Jb\n$/);
  });

  it("survives an error that is its own cause", () => {
    const { lines, observe } = capture();
    const error = new Error("loop");
    error.cause = error;
    observe({ kind: "cell.error", cell, error });
    expect(lines).toHaveLength(1);
  });
});
