import { escapeIdentifier as quote } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import {
  countOf,
  create,
  deafUrl,
  figuresSince,
  type GuardFigures,
  gatedMutation,
  Hand,
  held,
} from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import {
  createTenantDatabase,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

const sameShape = "alter table item set (fillfactor = 90)";

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;
let hand: Hand;
let moved: () => Promise<GuardFigures>;

/** A host whose listenUrl receives no notifications: it learns of changes only from its guard. */
function startHost(config: Record<string, unknown> = {}): Promise<TestHost> {
  return TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, listenUrl: deafUrl(database), install: false } },
      tenants,
      pooling: true,
      ...config,
    },
    connected: database.connected,
  });
}

beforeAll(async () => {
  database = await createTenantDatabase("trouble");
  tenants = [await database.tenant("ada", gatedMutation), await database.tenant("bob", gatedMutation)];
  host = await startHost({ limits: { requestTimeout: "8s" } });
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

const quiet = { failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 };

describe("a host without notifications", () => {
  it("still writes under the current schema, and reads it once for sixty concurrent writes", async () => {
    await hand.beginMigration();
    const labels = Array.from({ length: 60 }, (_, index) => `storm ${index}`);
    const writing = Promise.all(labels.map((label) => host.data("ada", `mutation { ${create(label)} }`)));
    // As many as there are connections, less one reserved for other tenants; the rest wait for these, all routed by
    // the old decision.
    await held(database, 3);
    await expect.poll(() => inFlight()).toBe(60);
    await hand.run(sameShape);
    await hand.run("commit");
    await writing;
    expect(await moved()).toEqual({ failures: 60, retries: 60, exhausted: 0, reads: 1, builds: 0 });
    const rows = await database.query(
      `select count(*)::int as n, count(distinct label)::int as labels from ${quote(schemaOf("ada"))}.item where label like 'storm %'`,
    );
    expect(rows).toEqual([{ n: 60, labels: 60 }]);
  });

  it("reads no schema for a thousand writes while none changes, and proves the revisions in each of them", async () => {
    const checks = async () => host.metric("guard_checks_total");
    await host.data("ada", `mutation { ${create("settled")} }`);
    // Checks are reported with a cell's next pong: earlier ones are all in once two samples have passed unchanged.
    const seen: number[] = [];
    await expect
      .poll(async () => seen.push(await checks()) > 2 && seen.at(-1) === seen.at(-3), {
        interval: 1_000,
        timeout: 20_000,
      })
      .toBe(true);
    const before = seen.at(-1) ?? 0;
    const client = async (id: number): Promise<void> => {
      for (let n = 0; n < 125; n += 1) {
        await host.data(id % 2 === 0 ? "ada" : "bob", `mutation { ${create(`flat ${id} ${n}`)} }`);
      }
    };
    await Promise.all(Array.from({ length: 8 }, (_, id) => client(id)));
    expect(await moved()).toEqual(quiet);
    await expect.poll(checks, { timeout: 20_000 }).toBe(before + 1_000);
  });
});

describe("a write that waits for a migration", () => {
  it("is ended at its deadline, and leaves no lock and no waiter for one", async () => {
    await hand.beginMigration();
    const writing = host.graphql("ada", `mutation { ${create("too late")} }`);
    await held(database);
    expect(await writing).toMatchObject({ status: 408, code: "DEADLINE" });
    await held(database, 0);
    await hand.run(sameShape);
    await hand.run("commit");
    expect(
      await database.query(
        "select from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
      ),
    ).toEqual([]);
    expect(await countOf(database, "ada", "too late")).toBe(0);
    await host.data("ada", `mutation { ${create("in time")} }`);
  });

  it("that drops the schema fails with SCHEMA_NOT_FOUND, and writes work again once the schema is back", async () => {
    const [schema, aside] = [quote(schemaOf("ada")), quote("aside")];
    await hand.beginMigration();
    const writing = Promise.all(
      ["gone 1", "gone 2"].map((label) => host.graphql("ada", `mutation { ${create(label)} }`)),
    );
    await held(database, 2);
    await hand.run(`alter schema ${schema} rename to ${aside}; commit`);
    for (const answer of await writing)
      expect(answer).toMatchObject({ status: 404, code: "SCHEMA_NOT_FOUND" });
    expect(await host.graphql("ada", `mutation { ${create("gone")} }`)).toMatchObject({
      status: 404,
      code: "SCHEMA_NOT_FOUND",
    });
    await hand.run(`alter schema ${aside} rename to ${schema}`);
    await host.data("ada", `mutation { ${create("back")} }`);
    expect([await countOf(database, "ada", "gone 1"), await countOf(database, "ada", "back")]).toEqual([
      0, 1,
    ]);
  });

  it("fails with NO_CAPACITY if no connection is left to read the schema afterwards; the next one succeeds", async () => {
    const role = quote(new URL(database.hostUrl).username);
    await hand.beginMigration();
    const writing = host.graphql("ada", `mutation { ${create("unread")} }`);
    await held(database);
    // The cell keeps its connection; the front can open none.
    await hand.run(`alter role ${role} connection limit 1`);
    await hand.run(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ ':front$'",
    );
    await hand.run(sameShape);
    await hand.run("commit");
    const answer = await writing;
    await hand.run(`alter role ${role} connection limit -1`);
    expect(answer).toMatchObject({ status: 503, code: "NO_CAPACITY" });
    expect(answer.headers["retry-after"]).toBeDefined();
    await host.data("ada", `mutation { ${create("read again")} }`);
    expect([await countOf(database, "ada", "unread"), await countOf(database, "ada", "read again")]).toEqual([
      0, 1,
    ]);
  });
});

describe("with guard", () => {
  it.each(["off", "all"])("%s, reads and writes prove their revisions only as configured", async (guard) => {
    const other = await startHost({ guard });
    try {
      await other.data("bob", "{ itemByRowId(rowId: 1) { label } }");
      const since = await figuresSince(other);
      const bob = await Hand.open(database, "bob");
      await bob.beginMigration();
      await bob.run("lock table item; alter table item set (fillfactor = 80)");
      const writing = other.data("bob", `mutation { ${create(`guard ${guard}`)} }`);
      // Only the guard takes the tenant's lock; without it, the write waits for the table's.
      if (guard === "off") await held(database, 1, "relation");
      else await held(database);
      await bob.run("commit");
      await bob.close();
      expect(await writing).toEqual({ made: { item: { label: `guard ${guard}` } } });
      expect(await since()).toMatchObject(guard === "off" ? quiet : { failures: 1, retries: 1, builds: 0 });

      await database.change("bob", "alter table item set (fillfactor = 70)");
      await other.data("bob", "{ itemByRowId(rowId: 1) { label } }");
      expect(await since()).toMatchObject(
        guard === "off" ? quiet : { failures: 2, retries: 2, exhausted: 0 },
      );
    } finally {
      await other.stop();
    }
  });

  it("writes, a request with a body larger than a socket's buffer is run again like any other", async () => {
    const label = "x".repeat(600_000);
    await hand.beginMigration();
    const writing = host.graphql(
      "ada",
      "mutation ($label: Label!) { createItem(input: { item: { label: $label } }) { item { label } } }",
      {
        variables: { label },
      },
    );
    await held(database);
    await hand.run(sameShape);
    await hand.run("commit");
    expect((await writing).data).toEqual({ createItem: { item: { label } } });
    expect(await countOf(database, "ada", label)).toBe(1);
  });
});

async function inFlight(): Promise<number> {
  const { cells } = await host.adminJson("/status");
  return cells.reduce((sum: number, cell: { inFlight: number }) => sum + cell.inFlight, 0);
}
