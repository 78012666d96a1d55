import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { installControl } from "../../src/control/install.ts";
import type { Decision } from "../../src/decisions/decision.ts";
import { Decisions } from "../../src/decisions/decisions.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Database } from "../../src/postgres/database.ts";
import { HostError } from "../../src/shared/kernel/errors.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const defaults = { database: "main", databases: ["main"] };

function tenantOf(id: string, schema = id): Tenant {
  return parseTenant({ id, schemas: { app: schema } }, defaults);
}

function bindingOf({ binding }: Decision): TenantBinding {
  return JSON.parse(binding);
}

describe("decisions", () => {
  let server: TestDatabase;
  let database: Database;
  let seen: Observation[];
  let probes: number;
  /** Awaited by every probe after it has read, before its answer is used. */
  let gate: Promise<void>;
  let decisions: Decisions;
  let stockPreset = false;

  beforeAll(async () => {
    server = await createDatabase("decision");
    database = new Database({
      name: "main",
      url: server.url,
      applicationName: "test",
      observe: () => undefined,
    });
    await installControl(database, () => undefined);
    for (const name of ["one", "two", "three"]) {
      await server.execute(
        `create schema ${name}; create table ${name}.thing (id int primary key, name text)`,
      );
    }
  });
  afterAll(async () => {
    await database.close();
    await server.drop();
  });

  beforeEach(() => {
    seen = [];
    probes = 0;
    gate = Promise.resolve();
    decisions = new Decisions({
      database: () => ({
        together: async (statements) => {
          const value = await database.together(statements);
          probes += 1;
          await gate;
          return value;
        },
        control: true,
      }),
      pooling: true,
      guard: "writes",
      presetVersion: "1",
      hostVersion: "1",
      stockPreset,
      observe: (observation) => seen.push(observation),
    });
  });

  const revisionOf = async (schema: string): Promise<bigint> => {
    const [row] = await server.query<{ revision: string }>(
      "select revision from rowhouse.schema_revision where schema_name = $1",
      [schema],
    );
    return BigInt(row?.revision ?? "0");
  };

  test("a failed guard's report outdates every tenant of that schema, and never restores an older revision", async () => {
    const shared = (id: string): Tenant =>
      parseTenant({ id, schemas: { app: id }, sharedSchemas: ["three"] }, defaults);
    const [one, two, three] = [shared("one"), shared("two"), tenantOf("three")];
    const decision = await decisions.decide(one);
    for (const tenant of [two, three]) await decisions.decide(tenant);
    const revision = decision.revisions["three"] ?? "0";
    const known = (): string[] => [one, two, three].flatMap(({ id }) => (decisions.peek(id) ? [id] : []));

    // Ignored: schemas that are not the tenant's, and what is no valid report.
    for (const report of [
      '{"two": "9000"}',
      "{",
      "[]",
      '{"three": 9000}',
      '{"three": "many"}',
      `{"three": "${revision}"}`,
    ]) {
      decisions.invalidate(await decisions.decide(one), report);
      expect(known()).toEqual(["two", "three"]);
    }
    await server.execute("comment on table three.thing is 'moved'");
    const moved = String(await revisionOf("three"));
    expect(BigInt(moved)).toBeGreaterThan(BigInt(revision));
    decisions.invalidate(decision, JSON.stringify({ three: moved, one: "0" }));
    expect(known()).toEqual([]);
    expect((await decisions.decide(two)).revisions["three"]).toBe(moved);
    // A late report of an older revision.
    decisions.invalidate(decision, JSON.stringify({ three: revision }));
    expect(known()).toEqual(["two"]);
  });

  test("fifty concurrent requests share one probe, and later ones need none", async () => {
    const tenant = tenantOf("one");
    const answers = await Promise.all(Array.from({ length: 50 }, () => decisions.decide(tenant)));
    expect(new Set(answers).size).toBe(1);
    await decisions.decide(tenant);
    expect(probes).toBe(1);
    expect(seen.filter((each) => each.kind === "schema.read")).toHaveLength(1);
  });

  test("tenants of one shape get one pooled key, whatever their schemas are called", async () => {
    const [one, two] = await Promise.all([
      decisions.decide(tenantOf("one")),
      decisions.decide(tenantOf("two")),
    ]);
    expect(one.kind).toBe("pooled");
    expect(one.key).toBe(two.key);
    expect(bindingOf(one).statementTag).not.toBe(bindingOf(two).statementTag);
  });

  test("a failed probe is thrown, not kept as a decision, and the next request probes again", async () => {
    const tenant = tenantOf("late", "late_schema");
    await expect(decisions.decide(tenant)).rejects.toMatchObject({ code: "SCHEMA_NOT_FOUND" });
    expect(decisions.size).toBe(0);
    await server.execute(
      "create schema late_schema; create table late_schema.thing (id int primary key, name text)",
    );
    await expect(decisions.decide(tenant)).resolves.toMatchObject({ kind: "pooled" });
  });

  test("a revision reported during a probe makes it run again, and the old answer is never kept", async () => {
    const tenant = tenantOf("three");
    const { promise, resolve } = Promise.withResolvers<void>();
    gate = promise;
    const deciding = decisions.decide(tenant);
    await expect.poll(() => probes).toBe(1);
    await server.execute("alter table three.thing add column more text");
    expect(decisions.recordRevision("main", "three", await revisionOf("three"))).toEqual([]);
    gate = Promise.resolve();
    resolve();
    const decision = await deciding;
    expect(probes).toBe(2);
    expect(BigInt(decision.revisions["three"] ?? "0")).toBe(await revisionOf("three"));
    expect(decisions.peek(tenant.id)).toBe(decision);
  });

  describe("of a schema that a tenant only refers to", () => {
    beforeEach(() =>
      server.execute(`
        create schema lib; create type lib.addr as (street text, city text);
        create schema four; create table four.thing (id int primary key, home lib.addr)`),
    );
    afterEach(() => server.execute("drop schema if exists four, lib, library, deep cascade"));

    test("the revision belongs to the decision, to its guard and to the names of its statements", async () => {
      const before = await decisions.decide(tenantOf("four"));
      expect(before.revisions).toEqual({
        four: String(await revisionOf("four")),
        lib: String(await revisionOf("lib")),
        public: String(await revisionOf("public")),
      });
      const { guard, searchPath } = bindingOf(before);
      expect(guard?.schemas).toEqual(["four", "lib", "public"]);
      expect(searchPath).toEqual(["four", "public"]);
      await server.execute("comment on table four.thing is null; comment on schema lib is 'moved'");
      const moved = await revisionOf("lib");
      expect(decisions.interest("main", "lib", moved)).toBe("known");
      expect(await decisions.verify(before)).toBe(false);
      const after = await decisions.decide(tenantOf("four"));
      expect(bindingOf(after).statementTag).not.toBe(bindingOf(before).statementTag);
      decisions.invalidate(after, JSON.stringify({ lib: String(moved + 1n) }));
      expect(decisions.peek(after.tenant.id)).toBeUndefined();
    });

    test("a change outdates every tenant that refers to it, and nobody else", async () => {
      await server.execute("create schema five; create table five.thing (id int primary key, home lib.addr)");
      for (const id of ["one", "four", "five"]) await decisions.decide(tenantOf(id));
      await server.execute("alter type lib.addr add attribute zip text");
      expect(decisions.recordRevision("main", "lib", await revisionOf("lib"))).toEqual(["four", "five"]);
      await server.execute("drop schema five cascade");
    });

    test("added, dropped and renamed ones appear in the next decision", async () => {
      const schemas = async () => Object.keys((await decisions.decide(tenantOf("four"))).revisions);
      const change = async (sql: string, moved: string) => {
        await server.execute(sql);
        expect(decisions.recordRevision("main", moved, await revisionOf(moved))).toEqual(["four"]);
        return schemas();
      };
      await schemas();
      await server.execute("create schema deep; create type deep.grade as enum ('low')");
      expect(await change("alter type lib.addr add attribute grade deep.grade", "lib")).toEqual([
        "deep",
        "four",
        "lib",
        "public",
      ]);
      expect(await change("alter type deep.grade add value 'high'", "deep")).toEqual([
        "deep",
        "four",
        "lib",
        "public",
      ]);
      expect(await change("alter type lib.addr drop attribute grade", "lib")).toEqual([
        "four",
        "lib",
        "public",
      ]);
      await server.execute("alter schema lib rename to library");
      expect(decisions.recordMissing("main", "lib")).toEqual(["four"]);
      expect(await schemas()).toEqual(["four", "library", "public"]);
      expect(await change("alter table four.thing drop column home", "four")).toEqual(["four", "public"]);
    });

    test("a missing revision counts as 0, and one recorded later outdates the decision", async () => {
      await server.execute("delete from rowhouse.schema_revision where schema_name = 'lib'");
      expect((await decisions.decide(tenantOf("four"))).revisions["lib"]).toBe("0");
      expect(decisions.recordMissing("main", "lib")).toEqual([]);
      await server.execute("alter type lib.addr add attribute zip text");
      expect(decisions.recordRevision("main", "lib", await revisionOf("lib"))).toEqual(["four"]);
    });

    test.each([
      ["moved", "alter type lib.addr add attribute zip text", 2],
      ["dropped", "drop schema lib cascade", 2],
      ["made up", "select 1", 1],
    ])(
      "that is %s during the probe, a report repeats the probe only if the schema is involved",
      async (what, sql, expected) => {
        const tenant = tenantOf("four");
        const { promise, resolve } = Promise.withResolvers<void>();
        gate = promise;
        const deciding = decisions.decide(tenant);
        await expect.poll(() => probes).toBe(1);
        await server.execute(sql);
        // It is not known yet which schemas the decision depends on.
        expect(decisions.interest("main", "lib", 1_000_000n)).toBe("asked");
        expect(decisions.interest("other", "lib", 1_000_000n)).toBe("none");
        if (what === "moved") decisions.recordRevision("main", "lib", await revisionOf("lib"));
        else decisions.recordMissing("main", what === "dropped" ? "lib" : "made_up");
        gate = Promise.resolve();
        resolve();
        await deciding;
        expect(probes).toBe(expected);
      },
    );
  });

  test("a reported change makes the next request decide anew; a repeated report does not", async () => {
    const tenant = tenantOf("one");
    const before = await decisions.decide(tenant);
    await server.execute("alter table one.thing add column extra int");
    const revision = await revisionOf("one");
    expect(decisions.recordRevision("main", "one", revision)).toEqual(["one"]);
    const after = await decisions.decide(tenant);
    expect(after.key).not.toBe(before.key);
    expect(decisions.recordRevision("main", "one", revision)).toEqual([]);
    expect(await decisions.decide(tenant)).toBe(after);
  });

  test("verify rejects a decision that a change has overtaken, and forgets it", async () => {
    const decision = await decisions.decide(tenantOf("two"));
    await expect(decisions.verify(decision)).resolves.toBe(true);
    await server.execute("create type two.mood as enum ('calm')");
    await expect(decisions.verify(decision)).resolves.toBe(false);
    expect(decisions.peek(decision.tenant.id)).toBeUndefined();
  });

  test("verify rejects a decision after a change and its reversal, since a build in between may have seen it", async () => {
    const tenant = tenantOf("two");
    const decision = await decisions.decide(tenant);
    await server.execute("comment on table two.thing is 'for a moment'");
    await server.execute("comment on table two.thing is null");
    await expect(decisions.verify(decision)).resolves.toBe(false);
    const again = await decisions.decide(tenant);
    expect(again.key).toBe(decision.key);
    await expect(decisions.verify(again)).resolves.toBe(true);
  });

  test("a key found unsafe to share makes its tenants dedicated, with the reason", async () => {
    const tenant = tenantOf("two");
    const { key, spec } = await decisions.decide(tenant);
    decisions.refuse(spec, new HostError("BUILD_NOT_SHAREABLE", "the build read rows"));
    const again = await decisions.decide(tenant);
    expect(again).toMatchObject({ kind: "dedicated", reason: "the build read rows" });
    expect(again.key).not.toBe(key);
    // A gap in the notifications does not invalidate what a key's build found.
    decisions.forgetAll();
    expect(await decisions.decide(tenant)).toMatchObject({ kind: "dedicated" });
    decisions.forgetAll();
    decisions.forgetRefusals();
    expect(await decisions.decide(tenant)).toMatchObject({ kind: "pooled", key });
  });

  describe("of tenants that differ in what no build of known plugins reads", () => {
    const sharing = async (): Promise<boolean> => {
      const [one, three] = [
        await decisions.decide(tenantOf("four")),
        await decisions.decide(tenantOf("five")),
      ];
      expect([one.kind, three.kind]).toEqual(["pooled", "pooled"]);
      expect(one.shape).not.toBe(three.shape);
      expect(one.spec.shape).toBe(three.spec.shape);
      return one.key === three.key;
    };
    beforeAll(async () => {
      await server.execute(
        "create schema four; create table four.thing (name text); create schema five; create table five.thing (name text, check (name <> ''))",
      );
      stockPreset = true;
    });
    afterAll(async () => {
      await server.execute("drop schema four, five cascade");
      stockPreset = false;
    });

    test("share a key where the preset is the stock one, until a thread says otherwise", async () => {
      expect(await sharing()).toBe(true);
      const { spec } = await decisions.decide(tenantOf("four"));
      decisions.refuse(spec, new HostError("BUILD_READS_MORE", "OwnPlugin"));
      expect(await sharing()).toBe(false);
      decisions.recordPlugins(spec, []);
      expect(await sharing()).toBe(false);
    });

    test("and a DDL command of that kind moves the revisions, but not the key", async () => {
      const before = await decisions.decide(tenantOf("four"));
      await server.execute("create policy mine on four.thing using (true)");
      decisions.forgetAll();
      const after = await decisions.decide(tenantOf("four"));
      expect(after.key).toBe(before.key);
      expect(after.revisions).not.toEqual(before.revisions);
      expect(after.version).not.toBe(before.version);
      await server.execute("drop policy mine on four.thing");
    });
  });

  test("with a preset of the user's, tenants share by what known plugins read only once a thread knows them all", async () => {
    await server.execute(
      "create schema four; create table four.thing (name text); create schema five; create table five.thing (name text, check (name <> ''))",
    );
    const keys = async (): Promise<Set<string>> =>
      new Set([
        (await decisions.decide(tenantOf("four"))).key,
        (await decisions.decide(tenantOf("five"))).key,
      ]);
    expect((await keys()).size).toBe(2);
    const { spec } = await decisions.decide(tenantOf("four"));
    expect(spec.shape).toBe("full");
    // Of another variant, which may have other plugins.
    decisions.recordPlugins({ ...spec, api: "other" }, []);
    expect((await keys()).size).toBe(2);
    decisions.recordPlugins(spec, []);
    expect((await keys()).size).toBe(1);
    expect((await decisions.decide(tenantOf("four"))).spec.shape).toBe("core");
    await server.execute("drop schema four, five cascade");
  });

  test("a relation that stays locked fails with LOCK_TIMEOUT, and no decision is kept", async () => {
    const tenant = tenantOf("two");
    await server.execute("create view two.seen as select id from two.thing");
    await server.execute("begin; lock table two.seen in access exclusive mode");
    try {
      await expect(decisions.decide(tenant)).rejects.toMatchObject({ code: "LOCK_TIMEOUT", retryable: true });
    } finally {
      await server.execute("rollback");
    }
    await expect(decisions.decide(tenant)).resolves.toMatchObject({ kind: "pooled" });
  });

  test("the failure of one record of a tenant is not reported for another record", async () => {
    const [old, now] = [tenantOf("two", "two_as_it_was"), tenantOf("two")];
    const [failed, decided] = await Promise.allSettled([decisions.decide(old), decisions.decide(now)]);
    expect(failed).toMatchObject({ status: "rejected", reason: { code: "SCHEMA_NOT_FOUND" } });
    expect(decided).toMatchObject({ status: "fulfilled", value: { tenant: now } });
  });

  test("another record of the same tenant is decided on its own", async () => {
    const first = await decisions.decide(tenantOf("two"));
    const moved = tenantOf("two", "one");
    const second = await decisions.decide(moved);
    expect(second.tenant).toBe(moved);
    expect(bindingOf(second).searchPath).toEqual(["one", "public"]);
    expect(bindingOf(first).searchPath).toEqual(["two", "public"]);
  });
});
