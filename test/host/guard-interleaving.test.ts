import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  countOf,
  create,
  createGated,
  figuresSince,
  type GuardFigures,
  gatedMutation,
  Hand,
  held,
} from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

/** A change that moves only the revision and that every request survives; below, one that changes the shape. */
const sameShape = "alter table item set (fillfactor = 90)";
let columns = 0;
const newShape = (): string => {
  columns += 1;
  return `alter table item add column extra_${columns} integer not null default 5`;
};

describe.each([
  ["pooled", true],
  ["dedicated", false],
])("a write of a %s instance, planned before the schema moved,", (_, pooling) => {
  let database: TenantDatabase;
  let host: TestHost;
  let hand: Hand;
  let moved: () => Promise<GuardFigures>;

  beforeAll(async () => {
    database = await createTenantDatabase("guarded");
    const tenants = [
      await database.tenant("ada", gatedMutation),
      await database.tenant("bob", gatedMutation),
    ];
    host = await TestHost.start({
      config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling },
      connected: database.connected,
    });
  });
  afterAll(async () => {
    await host.stop();
    await database.drop();
  });
  beforeEach(async () => {
    hand = await Hand.open(database, "ada");
    for (const tenant of ["ada", "bob"]) await host.data(tenant, `mutation { ${create("before")} }`);
    moved = await figuresSince(host);
  });
  afterEach(() => hand.close());

  const once = { failures: 1, retries: 1, exhausted: 0 };

  it.each([
    ["the same shape", () => sameShape, 0],
    ["another shape", newShape, 1],
  ])("waits for a managed migration to %s, and is then run again", async (_name, sql, builds) => {
    const label = `managed ${builds}`;
    await hand.beginMigration();
    const writing = host.data("ada", `mutation { ${create(label)} }`);
    await held(database);
    // The lock is the tenant's own: no other tenant waits.
    await host.data("bob", `mutation { ${create(label)} }`);
    await host.data("ada", "{ itemByRowId(rowId: 1) { label } }");
    await hand.run(sql());
    await hand.run("commit");
    expect(await writing).toEqual({ made: { item: { label } } });
    expect(await countOf(database, "ada", label)).toBe(1);
    expect(await moved()).toMatchObject({ ...once, builds });
  });

  it("gets the new schema's validation error if its fields are gone", async () => {
    await hand.run("alter table item add column doomed text");
    await expect
      .poll(async () => (await host.graphql("ada", "{ itemByRowId(rowId: 1) { doomed } }")).status)
      .toBe(200);
    moved = await figuresSince(host);
    await hand.beginMigration();
    const writing = host.graphql(
      "ada",
      'mutation { createItem(input: { item: { label: "x", doomed: "x" } }) { item { doomed } } }',
    );
    await held(database);
    await hand.run("alter table item drop column doomed; commit");
    const answer = await writing;
    expect(answer.status).toBe(400);
    expect(answer.errors?.[0]?.message).toMatch(/doomed/);
    expect(await countOf(database, "ada", "x")).toBe(0);
    expect(await moved()).toMatchObject(once);
  });

  it("succeeds at its first attempt after a managed migration that is rolled back", async () => {
    const before = await host.adminJson("/tenants/ada");
    await hand.beginMigration();
    const writing = host.data("ada", `mutation { ${create("rolled back")} }`);
    await held(database);
    await hand.run(newShape());
    await hand.run("rollback");
    expect(await writing).toEqual({ made: { item: { label: "rolled back" } } });
    expect(await host.adminJson("/tenants/ada")).toEqual(before);
    expect(await moved()).toEqual({ failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 });
  });

  it("does not commit if DDL by hand has committed since it began, and is run again", async () => {
    await hand.closeGate();
    const writing = host.data("ada", `mutation { ${createGated("by hand")} }`);
    await held(database);
    await hand.run(newShape());
    expect(await countOf(database, "ada", "by hand")).toBe(0);
    await hand.openGate();
    expect(await writing).toEqual({ made: { clientMutationId: null } });
    expect(await countOf(database, "ada", "by hand")).toBe(1);
    expect(await moved()).toMatchObject(once);
  });

  it("does not commit if DDL that was in progress when it began commits before its end, and is run again", async () => {
    await hand.run("begin");
    await hand.run(newShape());
    const writing = host.data("ada", `mutation { ${create("open")} }`);
    // Its own check has passed: it waits for the table.
    await held(database, 1, "relation");
    await hand.run("commit");
    expect(await writing).toEqual({ made: { item: { label: "open" } } });
    expect(await countOf(database, "ada", "open")).toBe(1);
    expect(await moved()).toMatchObject(once);
  });

  it("is never run again once a field has committed: it answers with that field's data, and SCHEMA_CHANGED", async () => {
    await hand.closeGate();
    const writing = host.graphql(
      "ada",
      `mutation { ${create("first", "first")} ${createGated("second", "second")} ${createGated("third", "third")} }`,
    );
    await held(database);
    expect(await countOf(database, "ada", "first")).toBe(1);
    await hand.run(sameShape);
    await hand.openGate();
    const answer = await writing;
    expect(answer).toMatchObject({
      status: 200,
      data: { first: { item: { label: "first" } }, second: null, third: null },
      errors: ["second", "third"].map((field) => ({
        path: [field],
        message: "The schema changed while the request ran.",
        extensions: { code: "SCHEMA_CHANGED" },
      })),
    });
    for (const [label, count] of [
      ["first", 1],
      ["second", 0],
      ["third", 0],
    ] as const) {
      expect(await countOf(database, "ada", label)).toBe(count);
    }
    expect(await moved()).toMatchObject({ retries: 0 });
    // The next request is served by the new schema.
    await host.data("ada", `mutation { ${create("next")} }`);
  });

  it("is run again entirely if its first field failed, without running its second in between", async () => {
    await hand.beginMigration();
    const writing = host.data("ada", `mutation { ${create("one", "one")} ${create("two", "two")} }`);
    await held(database);
    await hand.run(sameShape);
    await hand.run("commit");
    expect(await writing).toEqual({ one: { item: { label: "one" } }, two: { item: { label: "two" } } });
    expect([await countOf(database, "ada", "one"), await countOf(database, "ada", "two")]).toEqual([1, 1]);
    // Were the second field sent in between, it would have failed too.
    expect(await moved()).toMatchObject(once);
  });

  it("is run again as often as needed while it has time, and is committed once", async () => {
    await hand.closeGate();
    const writing = host.data("ada", `mutation { ${createGated("patient")} }`);
    const changes = 7;
    for (let attempt = 1; attempt <= changes; attempt += 1) {
      await held(database);
      await hand.run(sameShape);
      await hand.letOneThrough();
    }
    await held(database);
    await hand.openGate();
    expect(await writing).toEqual({ made: { clientMutationId: null } });
    expect(await moved()).toMatchObject({ failures: changes, retries: changes, exhausted: 0 });
    expect(await countOf(database, "ada", "patient")).toBe(1);
  });
});

it("a write whose schema keeps changing is refused in time with 409, and nothing is committed", async () => {
  const database = await createTenantDatabase("restless");
  const host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [await database.tenant("ada", gatedMutation)],
      limits: { requestTimeout: "6s" },
    },
    connected: database.connected,
  });
  const hand = await Hand.open(database, "ada");
  await host.data("ada", `mutation { ${create("before")} }`);
  const moved = await figuresSince(host);
  await hand.closeGate();
  let answered = false;
  const writing = host.graphql("ada", `mutation { ${createGated("exhausted")} }`).finally(() => {
    answered = true;
  });
  while (!answered) {
    await Promise.race([held(database), writing]);
    await hand.run(sameShape);
    if (!answered) await hand.letOneThrough();
  }
  expect(await writing).toMatchObject({ status: 409, code: "SCHEMA_CHANGED", data: undefined });
  const { failures, retries, exhausted } = await moved();
  expect(failures).toBeGreaterThan(4);
  expect({ retries, exhausted }).toEqual({ retries: failures - 1, exhausted: 1 });
  await hand.openGate();
  expect(await countOf(database, "ada", "exhausted")).toBe(0);
  await host.data("ada", `mutation { ${createGated("after")} }`);
  await hand.close();
  await host.stop();
  await database.drop();
});
