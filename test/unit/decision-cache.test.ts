import { beforeEach, describe, expect, test } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import type { Decision } from "../../src/decisions/decision.ts";
import { DecisionCache } from "../../src/decisions/decision-cache.ts";
import { pooledKey, shapeHash, tenantId } from "../../src/shared/kernel/ids.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";

const zero = "0".repeat(64);

function decision(id: string, revisions: Record<string, string>): Decision {
  const tenant = parseTenant({ id, schemas: [`${id}_app`] }, { database: "main", databases: ["main"] });
  const key = pooledKey(zero);
  return {
    tenant,
    key,
    kind: "pooled",
    reason: null,
    hidden: [],
    unsafe: [],
    shape: shapeHash(zero),
    core: shapeHash(zero),
    revisions,
    version: "1",
    spec: {
      ...specOf("pooled", {}, 0),
      tenant: tenant.id,
      schemas: tenant.schemas,
      sharedSchemas: tenant.sharedSchemas,
    },
    binding: JSON.stringify({ tenant: tenant.id }),
  };
}

describe("known decisions", () => {
  let known: DecisionCache;
  beforeEach(() => {
    known = new DecisionCache(3);
  });

  test("a schema that loses its revision invalidates the decisions made when it had one", () => {
    known.keep(decision("a", { a_app: "5", public: "0" }));
    known.keep(decision("b", { b_app: "5", public: "0" }));
    expect(known.interest("main", "a_app", 6n, false)).toBe("known");
    expect(known.recordMissing("main", "public")).toEqual([]);
    expect(known.recordMissing("main", "a_app")).toEqual(["a"]);
    expect(known.recordMissing("main", "a_app")).toEqual([]);
    expect(known.interest("main", "a_app", 6n, false)).toBe("none");
    expect(known.interest("main", "a_app", 6n, true)).toBe("asked");
  });

  test("a schema that is neither served nor shared counts like a served one for decisions based on it", () => {
    known.keep(decision("a", { a_app: "5", lib: "3" }));
    known.keep(decision("b", { b_app: "5", lib: "4" }));
    known.keep(decision("c", { c_app: "5" }));
    expect(known.interest("main", "lib", 4n, false)).toBe("known");
    expect(known.recordRevision("main", "lib", 4n)).toEqual(["a"]);
    expect(known.isOutdated(decision("a", { a_app: "5", lib: "3" }))).toBe(true);
    expect(known.recordMissing("main", "lib")).toEqual(["b"]);
    expect(known.get(tenantId("c"))).toBeDefined();
    known.keep(decision("a", { a_app: "6" }));
    expect(known.recordRevision("main", "lib", 5n)).toEqual([]);
  });

  test("a decision is outdated by changes missed since it was requested, if it is based on them, and by no others", () => {
    const asked = known.misses;
    known.recordMissing("main", "lib");
    for (let n = 0; n < 10; n += 1) known.recordMissing("main", `forged ${n}`);
    expect(known.isOutdated(decision("a", { a_app: "5", lib: "3" }), asked)).toBe(true);
    expect(known.isOutdated(decision("a", { a_app: "5", lib: "0" }), asked)).toBe(false);
    expect(known.isOutdated(decision("a", { a_app: "5" }), asked)).toBe(false);
    expect(known.isOutdated(decision("a", { a_app: "5", lib: "3" }), known.misses)).toBe(false);
  });

  test("a newer revision invalidates the tenants of that schema, and nobody else", () => {
    known.keep(decision("a", { a_app: "5", public: "1" }));
    known.keep(decision("b", { b_app: "5", public: "1" }));
    expect(known.recordRevision("main", "a_app", 6n)).toEqual(["a"]);
    expect(known.get(tenantId("a"))).toBeUndefined();
    expect(known.get(tenantId("b"))).toBeDefined();
  });

  test("a newer revision of a shared schema invalidates all that share it", () => {
    known.keep(decision("a", { a_app: "5", public: "1" }));
    known.keep(decision("b", { b_app: "5", public: "1" }));
    expect(known.recordRevision("main", "public", 2n)).toEqual(["a", "b"]);
    expect(known.size).toBe(0);
  });

  test("a late or repeated revision changes nothing", () => {
    known.recordRevision("main", "a_app", 7n);
    known.keep(decision("a", { a_app: "7" }));
    for (const late of [6n, 7n, 1n]) expect(known.recordRevision("main", "a_app", late)).toEqual([]);
    expect(known.get(tenantId("a"))).toBeDefined();
    expect(known.isOutdated(decision("a", { a_app: "6" }))).toBe(true);
    expect(known.isOutdated(decision("a", { a_app: "7" }))).toBe(false);
  });

  test("revisions are compared as numbers of any size, not as text", () => {
    known.keep(decision("a", { a_app: "9" }));
    expect(known.recordRevision("main", "a_app", 10n)).toEqual(["a"]);
    expect(known.isOutdated(decision("a", { a_app: "9007199254740993" }))).toBe(false);
    known.recordRevision("main", "a_app", 9007199254740994n);
    expect(known.isOutdated(decision("a", { a_app: "9007199254740993" }))).toBe(true);
  });

  test("the same schema name in another database is another schema", () => {
    known.keep(decision("a", { a_app: "5" }));
    expect(known.recordRevision("other", "a_app", 6n)).toEqual([]);
  });

  test("an evicted decision is no longer listed under its schemas", () => {
    for (const id of ["a", "b", "c", "d"]) known.keep(decision(id, { [`${id}_app`]: "1", public: "1" }));
    expect(known.size).toBe(3);
    expect(known.recordRevision("main", "public", 2n)).toEqual(["b", "c", "d"]);
  });

  test("a database that was restored to an earlier state is believed again after a reset", () => {
    known.recordRevision("main", "a_app", 100n);
    const restored = decision("a", { a_app: "3" });
    expect(known.isOutdated(restored)).toBe(true);
    known.resetRevisions(restored);
    expect(known.isOutdated(restored)).toBe(false);
  });
});

test("if two tenants served one schema, the remaining one is still invalidated by it", () => {
  const known = new DecisionCache(3);
  const shared = (id: string) => {
    const made = decision(id, { public: "1" });
    known.keep(made);
    return made;
  };
  shared("a");
  shared("b");
  // Kept again, as after a new probe.
  shared("b");
  known.forget(tenantId("a"));
  expect(known.recordRevision("main", "public", 2n)).toEqual(["b"]);
  expect(known.recordRevision("main", "public", 3n)).toEqual([]);
});
