import pg from "pg";
import { expect, test } from "vitest";
import { ConnectionLost } from "../../src/shared/connect/loss.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { BlueprintSpec } from "../../src/shared/model/blueprint-spec.ts";
import { buildError } from "../../workers/instance/instances.ts";

const spec = { schemas: [], sharedSchemas: [] } as unknown as BlueprintSpec;
const coded = (code: string): Error => Object.assign(new pg.DatabaseError("no", 2, "error"), { code });
const lost = new ConnectionLost(coded("57P01"));
const refused = new HostError("NO_CAPACITY");

test.for<[what: string, error: Error, code: string]>([
  ["a cause", new Error("gather failed", { cause: lost }), "DATABASE_UNREACHABLE"],
  [
    "one of several errors' cause",
    new AggregateError([new Error("x"), new Error("y", { cause: lost })], "failed"),
    "DATABASE_UNREACHABLE",
  ],
  ["an original error", Object.assign(new Error("z"), { originalError: lost }), "DATABASE_UNREACHABLE"],
  ["a host's own error", new Error("failed", { cause: refused }), "NO_CAPACITY"],
  ["nothing of the kind", new Error("failed", { cause: coded("42501") }), "BUILD_FAILED"],
  [
    "the code of a loss, on a connection that was not",
    new Error("failed", { cause: coded("08006") }),
    "BUILD_FAILED",
  ],
])("a build error that is %s is reported as the lost connection", ([, error, code]) => {
  expect(buildError(error, spec)).toMatchObject({ code });
});

test("a cycle of errors' causes is followed to an end", () => {
  const [one, other] = [new Error("one"), new Error("other")];
  one.cause = other;
  other.cause = one;
  expect(buildError(one, spec)).toMatchObject({ code: "BUILD_FAILED" });
});
