import { escapeIdentifier as quote } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import {
  countOf,
  create,
  createGated,
  figuresSince,
  gatedMutation,
  Hand,
  held,
} from "../support/guard-host.ts";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

/** Takes a lock that is not its own, then waits at its own gate. */
const hostile = `
create function seize(what text) returns text language plpgsql stable as $$
declare found record;
begin
  if what = 'public' then
    perform pg_advisory_lock(hashtextextended('rowhouse.tenant:ada', 0));
  end if;
  for found in
    select distinct (classid::bigint << 32) | objid::bigint as key from pg_locks
    where what = 'visible' and locktype = 'advisory' and objsubid = 1
    and objid::bigint not in (select hashtext('gate ' || name) & 4294967295 from unnest(array['canary_ada', 'canary_bob']) name)
  loop
    perform pg_advisory_lock(found.key);
  end loop;
  perform pg_advisory_xact_lock_shared(hashtext('gate canary_bob'));
  return 'done';
end $$;`;

const seize = (what: string): string => `{ seize(what: "${what}") }`;

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;
let hand: Hand;
let gate: Hand;
let key: string;

beforeAll(async () => {
  database = await createTenantDatabase("foreign_lock");
  tenants = [
    await database.tenant("ada", gatedMutation),
    await database.tenant("bob", gatedMutation + hostile),
  ];
  host = await TestHost.start({
    config: { databases: { main: { url: database.hostUrl, install: false } }, tenants, pooling: true },
    connected: database.connected,
  });
  const [row] = await database.query("select rowhouse.tenant_lock_key('ada')::text as key");
  key = String(row?.["key"]);
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});
beforeEach(async () => {
  [hand, gate] = [await Hand.open(database, "ada"), await Hand.open(database, "bob")];
  for (const tenant of ["ada", "bob"]) {
    await host.data(tenant, "{ itemByRowId(rowId: 1) { label } }");
    await host.data(tenant, `mutation { ${create("before")} }`);
  }
  await gate.closeGate();
});
afterEach(async () => {
  await Promise.all([hand.close(), gate.close()]);
});

/** Resolves when somebody holds the lock of that key exclusively, or waits for it. */
const exclusively = (granted: boolean, of = key): Promise<void> =>
  vi.waitFor(
    async () => {
      const rows = await database.query(
        `select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted = $1
          and (classid::bigint << 32) | objid::bigint = $2 and database = (select oid from pg_database where datname = current_database())`,
        [granted, of],
      );
      expect(rows).toHaveLength(1);
    },
    { timeout: 20_000, interval: 10 },
  );

async function migrate(sql: string, ...args: string[]) {
  const config = { databases: { main: { url: database.url } }, tenants };
  const { path } = await directoryWith({ "host.json": JSON.stringify(config), "change.sql": sql });
  return runCli({
    args: ["migrate", "--config", "host.json", "--sql", "change.sql", "--tenant", "ada", ...args],
    cwd: path,
  });
}

describe("while another tenant takes advisory locks, a write", () => {
  it("does not depend on the former, public lock key", async () => {
    const [row] = await database.query("select hashtextextended('rowhouse.tenant:ada', 0)::text as key");
    const seizing = host.data("bob", seize("public"));
    await exclusively(true, String(row?.["key"]));
    await host.data("ada", `mutation { ${create("public")} }`);
    await exclusively(true, String(row?.["key"]));
    await gate.openGate();
    expect(await seizing).toEqual({ seize: "done" });
  });

  it("proceeds while its tenant's lock, learned from pg_locks, is awaited or held by something that is no migration", async () => {
    const moved = await figuresSince(host);
    await hand.closeGate();
    const first = host.data("ada", `mutation { ${createGated("first")} }`);
    await held(database);
    const seizing = host.data("bob", seize("visible"));
    await exclusively(false);
    await host.data("ada", `mutation { ${create("beside a waiter")} }`);
    await exclusively(false);
    await hand.openGate();
    await first;
    await exclusively(true);
    await host.data("ada", `mutation { ${create("beside a holder")} }`);
    await exclusively(true);

    // The lock also keeps migrations apart: they never proceed without it, and name its holder.
    const { code, stdout, stderr } = await migrate("create table never (id int)", "--lock-timeout", "200ms");
    const role = new URL(database.hostUrl).username;
    expect(code).toBe(1);
    expect(stdout + stderr).toMatch(
      new RegExp(
        `LOCK_TIMEOUT.*pid \\d+ \\(${role}, rowhouse:.*\\) holds it, exclusively, and is no migration`,
        "s",
      ),
    );
    await exclusively(true);

    await gate.openGate();
    expect(await seizing).toEqual({ seize: "done" });
    for (const label of ["first", "beside a waiter", "beside a holder"]) {
      expect(await countOf(database, "ada", label)).toBe(1);
    }
    expect(await moved()).toEqual({ failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 });
    expect(await migrate("create table at_last (id int)")).toMatchObject({ code: 0 });
  });

  it("waits for a migration, but not for a foreign waiter behind it", async () => {
    await hand.beginMigration();
    const seizing = host.data("bob", seize("visible"));
    await exclusively(false);
    const writing = host.data("ada", `mutation { ${create("behind both")} }`);
    await held(database, 2);
    expect(await countOf(database, "ada", "behind both")).toBe(0);
    await hand.run("commit");
    await exclusively(true);
    await writing;
    await exclusively(true);
    expect(await countOf(database, "ada", "behind both")).toBe(1);
    await gate.openGate();
    expect(await seizing).toEqual({ seize: "done" });
  });

  it("is still proven by its revisions", async () => {
    await host.data("ada", `mutation { ${create("known")} }`);
    const moved = await figuresSince(host);
    await hand.closeGate();
    const first = host.data("ada", `mutation { ${createGated("long")} }`);
    await held(database);
    const seizing = host.data("bob", seize("visible"));
    await exclusively(false);
    await hand.run("alter table item add column unlocked integer not null default 3");
    await host.data("ada", `mutation { ${create("after")} }`);
    await exclusively(false);
    await hand.openGate();
    await first;
    await gate.openGate();
    await seizing;
    expect(await countOf(database, "ada", "long")).toBe(1);
    expect((await moved()).retries).toBeGreaterThan(0);
  });
});

describe("the secret of the locks", () => {
  const as = (role: string, sql: string): Promise<unknown> =>
    database
      .execute(`begin; set local role ${quote(role)}; ${sql}; rollback`)
      .finally(() => database.execute("rollback"));

  it.each([
    "select * from rowhouse.lock_secret",
    "select rowhouse.tenant_lock_key('ada')",
    "select rowhouse.lock_tenant('ada')",
    "lock table rowhouse.migrating in row exclusive mode",
    "select rowhouse.await_migration(1)",
  ])("is not accessible to a tenant's role: %s", async (sql) => {
    await expect(as(tenants[1]?.roles.anonymous ?? "", sql)).rejects.toMatchObject({ code: "42501" });
  });

  it("is not visible to the host's role either, which cannot pose as a migration", async () => {
    const role = new URL(database.hostUrl).username;
    await database.execute(`begin; set local role ${quote(role)}`);
    try {
      expect(await database.query("select * from rowhouse.lock_secret")).toEqual([]);
      expect(await database.query("select rowhouse.tenant_lock_key('ada')::text as key")).toEqual([{ key }]);
    } finally {
      await database.execute("rollback");
    }
    for (const sql of [
      "select rowhouse.lock_tenant('ada')",
      "lock table rowhouse.migrating in row exclusive mode",
    ]) {
      await expect(as(role, sql)).rejects.toMatchObject({ code: "42501" });
    }
  });
});
