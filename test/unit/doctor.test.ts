import { describe, expect, it } from "vitest";
import {
  type DatabaseFacts,
  diagnoseDatabase,
  diagnosePools,
  tenantLines,
} from "../../src/cli/doctor-findings.ts";
import { cellsWithConnections, frontConnections } from "../../src/fleet/policy/pool-room.ts";

const healthy: DatabaseFacts = {
  name: "main",
  server: "s1",
  version: "18.4",
  versionNumber: 180_004,
  connections: 97,
  limits: { role: -1, database: -1 },
  control: {
    version: 3,
    expected: 3,
    installable: true,
    eventTriggers: true,
    hidesStatements: true,
    listsStatements: false,
    session: { standby: false, readOnly: false },
    missing: [],
  },
  advisoryLocks: { open: true, usable: true },
  role: {
    name: "host",
    superuser: false,
    owned: 0,
    inherited: [],
    usable: [],
    beyond: [],
  },
  missingSchemas: [],
  tenants: [],
  unsafe: [],
  watched: [],
  rolelessTenants: 0,
  sessionConnections: 0,
  poolSize: 4,
  poolReserve: 4,
  memory: { limitMb: 64, isTold: true },
  install: true,
};
const bare = { poolReserve: 0 };
const options = { cells: 5, guard: "writes", roleSafety: "warn" } as const;

const role = (facts: Partial<DatabaseFacts["role"]>) => ({ role: { ...healthy.role, ...facts } });
const control = (facts: Partial<DatabaseFacts["control"]>) => ({ control: { ...healthy.control, ...facts } });

describe("a database", () => {
  it("in order gets a line each for version, control schema, prepared statements, memory, advisory locks and role", () => {
    const findings = diagnoseDatabase(healthy, options);
    expect(findings.map(({ level }) => level)).toEqual(["ok", "ok", "ok", "ok", "ok", "ok"]);
  });

  it("whose sessions do not tell their memory says that this limit has no effect, and the grants that help", () => {
    const blind = { ...healthy, ...role({ name: "Host" }), memory: { limitMb: 64, isTold: false } };
    const text = expect.stringMatching(
      /renewAfter\.memoryMb has no effect.*"grant select on pg_catalog\.pg_backend_memory_contexts to "Host"; grant execute .* to "Host"" as a superuser.*"grant pg_read_all_stats to "Host""/,
    );
    expect(diagnoseDatabase(blind, options)).toContainEqual({ level: "ok", about: "database main", text });
    const unlimited = { ...healthy, memory: { limitMb: 0, isTold: false } };
    expect(diagnoseDatabase(unlimited, options)).toHaveLength(5);
  });

  it("without event triggers says what becomes of prepared statements, what it costs and what would help", () => {
    const findings = diagnoseDatabase({ ...healthy, ...control({ eventTriggers: false }) }, options);
    const text = expect.stringMatching(
      /are dropped .* about 0\.7 times .* run "rowhouse install" as a superuser/,
    );
    expect(findings).toContainEqual({ level: "ok", about: "database main", text });
  });

  it.each<[string, Partial<DatabaseFacts>, "warn" | "fail", RegExp]>([
    [
      "advisory locks that the role may not take",
      { advisoryLocks: { open: false, usable: false } },
      "fail",
      /role host may not take advisory locks.*--revoke-advisory-locks/,
    ],
    ["an old server", { versionNumber: 130_011, version: "13.11" }, "fail", /14 or later/],
    ["an untested server", { versionNumber: 140_012, version: "14.12" }, "warn", /tested with 15 to 18/],
    [
      "no control schema that serve will install",
      control({ version: 0, missing: ["do this"] }),
      "warn",
      /0 of 3; do this/,
    ],
    [
      "no control schema where serve may not",
      { ...control({ version: 2, missing: ["do this"] }), install: false },
      "fail",
      /2 of 3; do this/,
    ],
    [
      "no control schema that its role may install",
      control({ version: 0, installable: false, missing: ["do this"] }),
      "fail",
      /0 of 3; do this/,
    ],
    [
      "names of statements that its superuser may list",
      control({ listsStatements: true }),
      "warn",
      /are dropped .* about 0\.7 times .*: connect as a role that is no superuser/,
    ],
    [
      "names of statements that everyone may list",
      control({ listsStatements: true, hidesStatements: false }),
      "warn",
      /are dropped .* about 0\.7 times .*: run "rowhouse install" as a superuser/,
    ],
    ["no event triggers", control({ eventTriggers: false, missing: ["no triggers"] }), "warn", /no triggers/],
    ["a superuser", role({ superuser: true, beyond: ["it is a superuser"] }), "fail", /is a superuser/],
    ["a role past all policies", role({ beyond: ["it has BYPASSRLS"] }), "fail", /BYPASSRLS/],
    ["rights that are inherited", role({ inherited: ["a"] }), "warn", /inherit false/],
    [
      "rights that are inherited, where a grant cannot say so",
      { ...role({ inherited: ["a"] }), versionNumber: 150_018 },
      "warn",
      /alter role host noinherit/,
    ],
    [
      "schemas that it may use as itself",
      role({ usable: ["acme"] }),
      "warn",
      /use schemas of tenants as itself: acme/,
    ],
    ["the same by inheritance", role({ inherited: ["a"], usable: ["acme"] }), "warn", /inherit false/],
    ["tenants' tables that it owns", role({ owned: 2 }), "warn", /owns 2/],
    ["tenants without roles", { rolelessTenants: 1 }, "warn", /their requests run as host/],
    ["a schema that does not exist", { missingSchemas: ["acme_app"] }, "fail", /acme_app/],
  ])("with %s is reported once", (_, facts, level, words) => {
    const odd = diagnoseDatabase({ ...healthy, ...facts }, options).filter(
      (finding) => finding.level !== "ok",
    );
    expect(odd).toEqual([{ level, about: "database main", text: expect.stringMatching(words) }]);
  });

  it("fails if its owner serves tenants without roles: no policy would apply to their requests", () => {
    const findings = diagnoseDatabase({ ...healthy, ...role({ owned: 1 }), rolelessTenants: 1 }, options);
    expect(findings).toContainEqual(
      expect.objectContaining({ level: "fail", text: expect.stringMatching(/owns 1/) }),
    );
  });

  it("needs no control schema if nothing is guarded", () => {
    const facts = { ...healthy, ...control({ version: 0 }), install: false };
    expect(diagnoseDatabase(facts, { ...options, guard: "off" }).map(({ level }) => level)).not.toContain(
      "fail",
    );
  });
});

describe("the connections of a server", () => {
  it("are counted over its databases, and over no other server's", () => {
    const needed = 5 * 4 + frontConnections;
    const levels = (connections: number, ...others: DatabaseFacts[]): string[] =>
      diagnosePools([{ ...healthy, ...bare, connections }, ...others], options).map(({ level }) => level);
    expect(levels(needed * 2)).toEqual(["ok"]);
    expect(levels(needed)).toEqual(["warn"]);
    expect(levels(needed - 1)).toEqual(["fail"]);
    expect(levels(needed * 2 - 1, { ...healthy, ...bare, name: "second" })).toEqual(["fail"]);
    expect(levels(needed * 2, { ...healthy, name: "second", server: "s2" })).toEqual(["ok", "ok"]);
  });

  it("include those of session functions, if tenants have them", () => {
    const connections = 5 * 4 + frontConnections;
    const levels = (sessionConnections: number): string[] =>
      diagnosePools([{ ...healthy, ...bare, connections, sessionConnections }], options).map(
        ({ level }) => level,
      );
    expect([levels(0), levels(8)]).toEqual([["warn"], ["fail"]]);
  });

  it("include those of the reserve, without which tenants wait; the report says what fits", () => {
    const needed = 5 * 4 + frontConnections;
    const [fitting] = diagnosePools([{ ...healthy, connections: 2 * needed }], options);
    expect(fitting).toMatchObject({
      level: "ok",
      text: expect.stringContaining(`with poolReserve ${needed + 20}`),
    });
    const [short] = diagnosePools([{ ...healthy, connections: needed + 13 }], options);
    expect(short).toMatchObject({
      level: "warn",
      text: expect.stringMatching(/lower poolReserve to 2, or raise max_connections by 7$/),
    });
    const [limited] = diagnosePools(
      [{ ...healthy, limits: { role: needed + 5, database: -1 } }],
      options,
    ).filter(({ level }) => level === "warn");
    expect(limited).toMatchObject({ text: expect.stringMatching(/lower poolReserve to 1/) });
  });

  it("are also limited by the role and the database", () => {
    const limited = (role: number, database: number) =>
      diagnosePools([{ ...healthy, ...bare, limits: { role, database } }], options).filter(
        ({ level }) => level === "fail",
      );
    expect(limited(5 * 4 + frontConnections, -1)).toEqual([]);
    expect(limited(3, 10)).toMatchObject([
      { text: expect.stringMatching(/role host has a connection limit of 3/) },
    ]);
    expect(limited(-1, 10)).toMatchObject([
      { text: expect.stringMatching(/database main has a connection limit of 10/) },
    ]);
  });
});

describe("the cells of a host without a configured number", () => {
  const needs = (connections: number, more: Partial<DatabaseFacts> = {}) => {
    const facts = { ...healthy, connections, ...more };
    const { server, limits, poolSize, poolReserve } = facts;
    return { facts, limits: { server, connections, ...limits }, poolSize, poolReserve };
  };

  it.each([
    ["a fresh PostgreSQL", [needs(97)]],
    ["a large one", [needs(997)]],
    ["one with small pools", [needs(97, { poolSize: 1, poolReserve: 0 })]],
    ["one with a large reserve", [needs(97, { poolReserve: 20 })]],
    ["two databases of one server", [needs(197), needs(197, { name: "second" })]],
    ["a role with a limit", [needs(497, { limits: { role: 60, database: -1 } })]],
    ["a database with a limit", [needs(497, { limits: { role: -1, database: 70 } })]],
  ])("fit in %s, whatever the memory, without a finding", (_, databases) => {
    const cells = cellsWithConnections(databases);
    const facts = databases.map((each) => ({ ...each.facts, sessionConnections: 8 }));
    expect(cells).toBeGreaterThan(1);
    expect(diagnosePools(facts, { cells }).filter(({ level }) => level !== "ok")).toEqual([]);
  });

  it("are as many as that allows", () => {
    const { facts, ...pools } = needs(97);
    const levels = (more: number): string[] =>
      diagnosePools([{ ...facts, sessionConnections: 8 }], {
        cells: cellsWithConnections([pools]) + more,
      }).map(({ level }) => level);
    expect([levels(0), levels(1)]).toEqual([["ok"], ["warn"]]);
  });

  it("are at least one, and without a database as many as fit in memory", () => {
    expect(cellsWithConnections([needs(10)])).toBe(1);
    expect(cellsWithConnections([])).toBe(Number.POSITIVE_INFINITY);
  });
});

it("faults of a thousand tenants are summed up in a few lines, the worst first", () => {
  const findings = Array.from({ length: 1_000 }, (_, n) => ({
    level: n % 2 === 0 ? ("note" as const) : ("fault" as const),
    tenant: `t${n}`,
    text: "said",
  }));
  const lines = tenantLines(findings);
  expect(lines).toHaveLength(42);
  expect(lines[0]).toEqual({ level: "fault", text: "tenant t1: said" });
  expect(lines[20]).toEqual({ level: "fault", text: "and 480 more of this kind" });
  expect(lines[41]).toEqual({ level: "note", text: "and 480 more of this kind" });
});
