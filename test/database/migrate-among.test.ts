import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { migrateTenant } from "../../src/control/tenant-migration.ts";
import type { Database } from "../../src/postgres/database.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import {
  acme,
  migrationDatabase,
  openForMigrations,
  seenOf,
  withoutJit,
} from "../support/migration-database.ts";

const main = migrationDatabase();

const role = `migrating_${randomBytes(4).toString("hex")}`;
beforeAll(() => main.test.execute(`create role ${role} login password 'word'`));
afterAll(() => main.test.execute(`drop owned by ${role} cascade; drop role ${role}`));

describe("among writes, a migration", () => {
  async function waiting(most = 1): Promise<void> {
    await vi.waitFor(
      async () => {
        const rows = await main.test.query(
          `select from pg_locks l join pg_stat_activity a using (pid)
            where a.application_name = 'rowhouse:test:migrate' and not l.granted and a.datname = current_database()`,
        );
        expect(rows).toHaveLength(most);
      },
      { timeout: 20_000, interval: 10 },
    );
  }

  test("waits for one that has begun, which commits", async () => {
    const writer = await main.connect();
    const { revisions } = await main.seen();
    await writer.query("begin");
    await writer.query("select rowhouse.begin_write('acme', $1, $2)", [
      ["acme_app"],
      [revisions["acme_app"]],
    ]);
    const migrating = main.migrate("alter table item add column extra int");
    await waiting();
    await writer.query("insert into acme_app.item values (1, 'written')");
    await writer.query("select rowhouse.assert_revisions($1, $2)", [["acme_app"], [revisions["acme_app"]]]);
    await writer.query("commit");
    expect(await migrating).toMatchObject({ applied: true });
    expect(await main.test.query("select label, extra from acme_app.item")).toEqual([
      { label: "written", extra: null },
    ]);
  });

  test("gives up after its lock timeout, whether the tenant's lock or a table is held, and changes nothing", async () => {
    const before = await main.seen();
    const writer = await main.connect();
    for (const holding of [
      "select pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key('acme'))",
      "select from acme_app.item",
    ]) {
      await writer.query("begin");
      await writer.query(holding);
      const error = await main
        .migrate("create table never (id int); alter table item add column extra int", {
          lockTimeoutMs: 100,
        })
        .catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: "LOCK_TIMEOUT", retryable: true });
      await writer.query("commit");
    }
    expect(await main.seen()).toEqual(before);
  });

  test("sees what another migration of its tenant has just committed, even if serializable is the default", async () => {
    await main.test.execute(
      `alter database ${main.test.name} set default_transaction_isolation = 'serializable'`,
    );
    const strict = openForMigrations(main.test.url);
    const writer = await main.connect();
    await writer.query("begin");
    await writer.query("select pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key('acme'))");
    const both = Promise.all(
      ["one", "two"].map((name) => migrateTenant(strict, acme, { sql: `create table ${name} (id int)` })),
    );
    await waiting(2);
    await writer.query("commit");
    const order = ({ revisions }: { revisions: Readonly<Record<string, string>> }) =>
      Number(revisions["acme_app"]);
    const [first, second] = (await both).sort((a, b) => order(a) - order(b));
    expect(second?.from).toBe(first?.to);
    await strict.close();
    await main.test.execute(`alter database ${main.test.name} reset default_transaction_isolation`);
  });

  test("whose backend is terminated leaves nothing, and fails with DATABASE_UNREACHABLE", async () => {
    const before = await main.seen();
    const migrating = main
      .migrate("create table never (id int); select pg_sleep(60)")
      .catch((thrown: unknown) => thrown);
    await vi.waitFor(
      async () => {
        const rows = await main.test.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rowhouse:test:migrate' and wait_event = 'PgSleep' and datname = current_database()",
        );
        expect(rows).toHaveLength(1);
      },
      { timeout: 20_000 },
    );
    expect(await migrating).toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(await main.seen()).toEqual(before);
  });
});

describe("without event triggers", () => {
  let plain: TestDatabase;
  let own: Database;
  beforeAll(async () => {
    plain = await createDatabase("migrate_plain");
    await withoutJit(plain);
    await plain.execute(`grant create on database ${plain.name} to ${role}`);
    own = openForMigrations(plain.urlAs(role, "word"));
    await own.query("create schema shared");
    await own.query("create schema acme_app");
    await own.query("create table acme_app.item (id int)");
    await own.query("create table shared.common (id int)");
    expect(await installControl(own, () => {})).toMatchObject({ eventTriggers: false });
  });
  afterAll(async () => {
    await own.close();
    await plain.drop();
  });

  test("a migration moves the tenant's revisions itself, once, and a shared schema's only if it changed it", async () => {
    const at = async (sql: string): Promise<Record<string, boolean>> => {
      const before = (await seenOf(own, acme)).revisions;
      const { revisions } = await migrateTenant(own, acme, { sql });
      expect((await seenOf(own, acme)).revisions).toEqual(revisions);
      return Object.fromEntries(Object.entries(revisions).map(([name, now]) => [name, now !== before[name]]));
    };
    expect(await at("alter table item add column extra int")).toEqual({ acme_app: true, shared: false });
    for (const sql of [
      "create function shared.f() returns int language sql as 'select 1'",
      "comment on function shared.f() is 'x'",
      "alter table shared.common add column extra int",
      "create index on shared.common (extra)",
      "create type shared.mood as enum ('calm')",
      "alter type shared.mood add value 'keen'",
      "drop function shared.f()",
      `grant select on shared.common to ${role}`,
    ]) {
      expect([sql, await at(sql)]).toEqual([sql, { acme_app: true, shared: true }]);
    }
    expect(await plain.query("select from rowhouse.schema_touch")).toEqual([]);
  });

  test("a schema that the tenant only refers to moves if the migration changed it, not because it is referred to", async () => {
    await own.query("create schema lib");
    await own.query("create schema other");
    await own.query("create schema fresh");
    await own.query("create type lib.addr as (street text, city text)");
    await own.query("create table other.things (id int primary key)");
    await own.query(
      "insert into rowhouse.schema_revision (schema_name) values ('lib'), ('other'), ('fresh')",
    );
    const at = async (sql: string): Promise<Record<string, boolean>> => {
      const before = new Map(
        (await plain.query("select schema_name, revision::text from rowhouse.schema_revision")).map(
          ({ schema_name, revision }) => [schema_name, revision],
        ),
      );
      const { revisions } = await migrateTenant(own, acme, { sql });
      return Object.fromEntries(
        Object.entries(revisions).map(([name, now]) => [name, now !== before.get(name)]),
      );
    };
    const rest = { acme_app: true, shared: false };
    expect(await at("create table homes (id int, home lib.addr)")).toEqual({ ...rest, lib: false });
    expect(await at("alter table item add column home lib.addr")).toEqual({ ...rest, lib: false });
    expect(await at("alter type lib.addr rename attribute street to road")).toEqual({ ...rest, lib: true });
    // A foreign key's trigger belongs to the referenced table; the first of all is also noted in that table's row.
    await at("alter table homes add foreign key (id) references other.things");
    expect(await at("alter table item add foreign key (id) references other.things")).toEqual({
      ...rest,
      lib: false,
      other: false,
    });
    // Its earlier shape is not known, so it counts as changed.
    expect(
      await at("create type fresh.mood as enum ('calm'); alter table homes add column mood fresh.mood"),
    ).toEqual({
      ...rest,
      lib: false,
      other: false,
      fresh: true,
    });
    // What the tenant no longer refers to is counted one last time.
    expect(await at("alter table homes drop column mood; alter type fresh.mood add value 'keen'")).toEqual({
      ...rest,
      lib: false,
      other: false,
      fresh: true,
    });
    expect(await at("alter table homes add column more int")).toEqual({ ...rest, lib: false, other: false });
    expect(await at("drop schema lib, other, fresh cascade")).toEqual({ ...rest, lib: true, other: true });
  });

  test("a migration that is rolled back moves no revision", async () => {
    const before = await seenOf(own, acme);
    await expect(
      migrateTenant(own, acme, { sql: "create table a (id int); select 1 / 0" }),
    ).rejects.toMatchObject({
      code: "MIGRATION_FAILED",
    });
    expect(await seenOf(own, acme)).toEqual(before);
  });

  test("the installing role may still migrate after a superuser has completed the installation", async () => {
    const complete = openForMigrations(plain.url);
    expect(await installControl(complete, () => {})).toMatchObject({ eventTriggers: true });
    await complete.close();
    const before = (await seenOf(own, acme)).revisions;
    const { revisions } = await migrateTenant(own, acme, { sql: "create table completed (id int)" });
    expect(revisions["acme_app"]).not.toBe(before["acme_app"]);
    expect(revisions["shared"]).toBe(before["shared"]);
  });
});

test("without a control schema a migration fails and says what to run", async () => {
  const bare = await createDatabase("migrate_bare");
  const through = openForMigrations(bare.url);
  await expect(migrateTenant(through, acme, { sql: "select 1" })).rejects.toMatchObject({
    code: "CONFIG_INVALID",
    message: expect.stringMatching(/rowhouse install/),
  });
  await through.close();
  await bare.drop();
});
