import { escapeIdentifier as quote } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
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
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;
let hand: Hand;
let moved: () => Promise<GuardFigures>;

beforeAll(async () => {
  database = await createTenantDatabase("managed");
  tenants = [await database.tenant("ada", gatedMutation), await database.tenant("bob", gatedMutation)];
  host = await TestHost.start({
    config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling: true },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});
beforeEach(async () => {
  hand = await Hand.open(database, "ada");
  for (const tenant of ["ada", "bob"]) {
    const { itemByRowId } = await host.data(tenant, "{ itemByRowId(rowId: 1) { label } }");
    expect(itemByRowId.label).toBe(`canary_${tenant} one`);
    await host.data(tenant, `mutation { ${create("before")} }`);
  }
  moved = await figuresSince(host);
});
afterEach(() => hand.close());

/** Runs `rowhouse migrate` for ada, as the owner of the schemas. */
async function migrate(sql: string) {
  const config = { databases: { main: { url: database.url } }, tenants, pooling: true };
  const { path } = await directoryWith({ "host.json": JSON.stringify(config), "change.sql": sql });
  return runCli({
    args: ["migrate", "--config", "host.json", "--sql", "change.sql", "--tenant", "ada"],
    cwd: path,
  });
}

/** Resolves when the command's connection waits for an advisory lock: the tenant's, or the gate's. */
const migrationHeld = (): Promise<void> =>
  vi.waitFor(
    async () => {
      const waiting = await database.query(
        `select from pg_locks l join pg_stat_activity a using (pid)
         where a.datname = current_database() and a.application_name ~ 'migrate' and l.locktype = 'advisory' and not l.granted`,
      );
      expect(waiting).toHaveLength(1);
    },
    { timeout: 20_000, interval: 10 },
  );

const throughGate = "select pg_advisory_xact_lock_shared(hashtext('gate ' || current_schema()))";

describe("rowhouse migrate, while a host serves the tenant,", () => {
  it("holds up the tenant's writes until it has committed; then they are run again, once, under the new schema", async () => {
    await hand.closeGate();
    const migrating = migrate(
      `${throughGate}; alter table item add column managed integer not null default 5`,
    );
    await migrationHeld();
    const writing = [1, 2, 3].map((n) => host.data("ada", `mutation { ${create(`waited ${n}`)} }`));
    await held(database, 3);
    // No other tenant's.
    await host.data("bob", `mutation { ${create("not held")} }`);
    await hand.openGate();
    expect(await migrating).toMatchObject({ code: 0 });
    for (const answer of await Promise.all(writing)) expect(answer.made.item.label).toMatch(/^waited/);
    expect(await moved()).toMatchObject({ failures: 3, retries: 3, exhausted: 0, builds: 1 });
    const rows = await host.data(
      "ada",
      "{ allItems(first: 1, orderBy: PRIMARY_KEY_DESC) { nodes { managed } } }",
    );
    expect(rows.allItems.nodes).toEqual([{ managed: 5 }]);
  });

  it("waits for a write in progress, which commits under the schema that it was planned for", async () => {
    await hand.closeGate();
    const writing = host.data("ada", `mutation { ${createGated("under way")} }`);
    await held(database);
    const migrating = migrate("alter table item add column after_it integer");
    await migrationHeld();
    await hand.openGate();
    expect(await writing).toEqual({ made: { clientMutationId: null } });
    expect(await migrating).toMatchObject({ code: 0 });
    expect(await countOf(database, "ada", "under way")).toBe(1);
    expect(await moved()).toMatchObject({ failures: 0, retries: 0 });
  });

  it("that fails leaves decisions, instances and revisions unchanged, and waiting writes succeed at their first attempt", async () => {
    const known = async (): Promise<unknown> => ({
      ...(await host.adminJson("/tenants/ada")),
      changes: null,
    });
    const before = await known();
    await hand.closeGate();
    const migrating = migrate(`${throughGate}; alter table item add column never integer; select 1/0`);
    await migrationHeld();
    const writing = host.data("ada", `mutation { ${create("unharmed")} }`);
    await held(database);
    await hand.openGate();
    const failed = await migrating;
    expect(failed.code).toBe(1);
    expect(failed.stdout + failed.stderr).toMatch(/division by zero/);
    expect(await writing).toEqual({ made: { item: { label: "unharmed" } } });
    await host.data("ada", `mutation { ${create("next")} }`);
    expect(await known()).toEqual(before);
    expect(await moved()).toEqual({ failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 });
  });
});

describe.each(["repeatable read", "serializable"])("if the host's transactions are %s", (level) => {
  it("a write that a change has overtaken is still run again, and committed once", async () => {
    const role = quote(new URL(database.hostUrl).username);
    await database.execute(`alter role ${role} set default_transaction_isolation = '${level}'`);
    // It applies to new connections.
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}:'",
    );
    try {
      await vi.waitFor(() => host.data("ada", `mutation { ${create(`settled ${level}`)} }`), {
        timeout: 20_000,
      });
      const since = await figuresSince(host);
      await hand.beginMigration();
      const writing = host.data("ada", `mutation { ${create(level)} }`);
      await held(database);
      await hand.run("alter table item set (fillfactor = 70)");
      await hand.run("commit");
      expect(await writing).toEqual({ made: { item: { label: level } } });
      expect(await countOf(database, "ada", level)).toBe(1);
      expect(await since()).toMatchObject({ failures: 1, retries: 1, exhausted: 0 });
    } finally {
      await database.execute(`alter role ${role} reset default_transaction_isolation`);
    }
  });
});
