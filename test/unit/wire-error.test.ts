import pg from "pg";
import { describe, expect, it } from "vitest";
import { isDatabaseFull } from "../../src/shared/connect/loss.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { fromWireError, parseWireError, toWireError } from "../../src/shared/protocol/wire-error.ts";

/** An error of the host's after a plugin had it in its hands: nothing there is read-only. */
const changed = (changes: object): HostError =>
  Object.assign(new HostError("DATABASE_UNREACHABLE", "no connection"), changes);

const unreadable = Object.defineProperty(new Error("odd"), "stack", {
  get() {
    throw new Error("prepareStackTrace failed");
  },
});

describe("an error that a plugin has changed arrives in the front in an understood form", () => {
  it.each<[string, HostError, string, string]>([
    ["a code of its own", changed({ code: "DB_DOWN" }), "INTERNAL", "no connection"],
    ["a code that is no text", changed({ code: 7 }), "INTERNAL", "no connection"],
    ["a code of every object's", changed({ code: "constructor" }), "INTERNAL", "no connection"],
    ["a message that is no text", changed({ message: { a: 1 } }), "DATABASE_UNREACHABLE", "[object Object]"],
    ["a stack that is no text", changed({ stack: [() => 1] }), "DATABASE_UNREACHABLE", "no connection"],
    [
      "a cause with no stack to be had",
      changed({ cause: unreadable }),
      "DATABASE_UNREACHABLE",
      "no connection",
    ],
  ])("with %s", (_, error, code, message) => {
    const wire = structuredClone(toWireError(error));
    expect(parseWireError(wire)).toMatchObject({ code, message });
    expect(fromWireError(wire)).toMatchObject({ code, message });
  });
});

it("an error arrives in the front as an excerpt, including its stack", () => {
  const inner = new Error(`invalid input syntax for type integer: "${"a".repeat(300_000)}"`);
  const wire = toWireError(new HostError("INTERNAL", inner.message, { cause: inner }));
  expect(JSON.stringify(wire).length).toBeLessThan(10_000);
  expect(JSON.stringify(wire)).not.toContain("aaaa");
  expect(wire.detail).toContain("wire-error.test.ts");
});

it("an error of a cell says in the front whether the database or the host is full", () => {
  const refused = Object.assign(new pg.DatabaseError("sorry, too many clients already", 1, "error"), {
    code: "53300",
  });
  const arrived = (cause?: unknown): HostError => {
    const error = new HostError("NO_CAPACITY", "no connection", { cause });
    return fromWireError(
      parseWireError(structuredClone(toWireError(error))) ?? { code: "INTERNAL", message: "" },
    );
  };
  expect(isDatabaseFull(arrived(refused))).toBe(true);
  expect(isDatabaseFull(arrived())).toBe(false);
  expect(isDatabaseFull(arrived(Object.assign(new Error("no"), { code: "53300" })))).toBe(false);
});
