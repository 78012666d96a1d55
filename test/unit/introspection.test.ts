import { makeIntrospectionQuery } from "pg-introspection";
import { describe, expect, it } from "vitest";
import { HostError } from "../../src/shared/kernel/errors.ts";
import { isIntrospectionQuery, scopedIntrospection } from "../../workers/instance/introspection.ts";

const installed = makeIntrospectionQuery();
const scope = {
  schemas: [
    { logical: "app", physical: "t1_app" },
    { logical: "log", physical: "t1_log" },
  ],
  sharedSchemas: ["public"],
};

function failureOf(text: string): HostError | undefined {
  try {
    scopedIntrospection(text, scope);
    return undefined;
  } catch (error) {
    return error instanceof HostError ? error : undefined;
  }
}

describe("scoped introspection", () => {
  it("knows the query of the installed pg-introspection", () => {
    expect(isIntrospectionQuery(installed)).toBe(true);
    expect(failureOf(installed)).toBeUndefined();
  });

  it("passes schemas as values: physical and logical in order, then the shared ones, then their names in the answer", () => {
    const { text, values } = scopedIntrospection(installed, scope);
    const physical = ["t1_app", "t1_log"];
    expect(values).toEqual([physical, ["app", "log"], ["public"], physical]);
    const called = ["one", "two"];
    expect(scopedIntrospection(installed, { ...scope, called }).values.at(-1)).toEqual(called);
    expect(text).not.toContain("t1_app");
  });

  it.for([
    [
      "one more column",
      installed.replace("select pg_namespace.oid as _id, *", "select pg_namespace.oid as _id, 1, *"),
    ],
    ["another way of spacing", `${installed} `],
    ["one more list", installed.replace("'am',", "'triggers', '[]'::json, 'am',")],
    ["nothing in common but the version", "select json_build_object('introspection_version', 2)"],
  ] as const)("recognises a query with %s, and refuses it, naming the versions", ([, text]) => {
    expect(text).not.toBe(installed);
    expect(isIntrospectionQuery(text)).toBe(true);
    const failure = failureOf(text);
    expect(failure?.code).toBe("BUILD_FAILED");
    expect(failure?.message).toMatch(
      /pg-introspection \d+\.\d+\.\d+ sends.*supported versions: 1\.0\.0 and 1\.0\.1/,
    );
  });

  it("leaves every other query unchanged", () => {
    for (const text of ["select 1", "", "select introspection from t", "select user;"]) {
      expect(isIntrospectionQuery(text)).toBe(false);
    }
  });

  it("drops none of the lists in the query's answer", () => {
    const keys = (text: string): string[] =>
      [...text.matchAll(/^ {2}'(\w+)',$/gm)].map((match) => match[1] ?? "");
    expect(keys(installed).length).toBeGreaterThan(20);
    expect(keys(scopedIntrospection(installed, scope).text)).toEqual(keys(installed));
  });
});
