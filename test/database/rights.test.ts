import { escapeIdentifier } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from "vitest";
import { controlState, installControl } from "../../src/control/install.ts";
import { grantRights, grantSql, missingRights, rightsOf } from "../../src/control/rights.ts";
import { migrateTenant } from "../../src/control/tenant-migration.ts";
import { Database } from "../../src/postgres/database.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installVersion } from "../support/old-control.ts";

const open: Database[] = [];
const databases: TestDatabase[] = [];
const ignore = (): void => {};
const suffix = process.pid;
const owner = `owner_${suffix}`;
const host = `Host, "odd" ${suffix}`;
const migrator = `migrator_${suffix}`;
const group = `group_${suffix}`;
const roles = [owner, host, migrator, group];
const tenant = parseTenant(
  { id: "shop", schemas: { app: "shop" } },
  { database: "main", databases: ["main"] },
);

const connect = (url: string, more: object = {}): Database => {
  const made = new Database({
    name: "main",
    url,
    applicationName: "rowhouse:test",
    observe: ignore,
    ...more,
  });
  open.push(made);
  return made;
};

/** Hardened, as scripts do before anything is installed, for every role that installs. */
async function hardened(): Promise<TestDatabase> {
  const made = await createDatabase("rights");
  databases.push(made);
  await made.execute(`
    grant create on database ${made.name} to ${owner};
    alter default privileges revoke execute on functions from public;
    alter default privileges for role ${owner} revoke execute on functions from public`);
  return made;
}

beforeAll(async () => {
  const made = await createDatabase("rights");
  databases.push(made);
  for (const each of roles) await made.execute(`create role ${escapeIdentifier(each)} login password 'word'`);
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
  for (const made of databases.splice(1)) await made.drop();
});

afterAll(async () => {
  for (const each of roles) await databases[0]?.execute(`drop role ${escapeIdentifier(each)}`);
  await databases[0]?.drop();
});

/** The statements of a write and of a host's look, as the role of `through`. */
async function serveAs(through: Database): Promise<void> {
  const { rows } = await through.query("select rowhouse.tenant_lock_key('shop')::text as key");
  const [{ key }] = rows as [{ key: string }];
  await through.transaction(async (transaction) => {
    await transaction.query("select rowhouse.await_migration($1)", [key]);
    await transaction.query(
      "select rowhouse.assert_revisions(array['shop'], array[(select revision from rowhouse.schema_revision where schema_name = 'shop')])",
    );
    await transaction.query(
      "select rowhouse.begin_write('shop', array['shop'], array[(select revision from rowhouse.schema_revision where schema_name = 'shop')])",
    );
    await transaction.query("select from rowhouse.tenant, rowhouse.tenant_host, rowhouse.migration");
    await transaction.query("select rowhouse.begin_look('1 hour')");
  });
}

describe("if PUBLIC may not execute functions", () => {
  it("a host's role is told its missing rights, and the suggested SQL grants them, even to an odd role name", async () => {
    const made = await hardened();
    await installControl(connect(made.url), ignore);
    await made.execute("create schema shop; create table shop.item (id int)");
    const through = connect(made.urlAs(host, "word"));
    const nothing = await controlState(through);
    expect(nothing).toMatchObject({ version: 0 });
    expect(nothing.missing).toEqual([expect.stringContaining("may not read schema rowhouse of database")]);

    // The grants of an older version of the documentation.
    await made.execute(`grant usage on schema rowhouse to ${escapeIdentifier(host)};
      grant select on all tables in schema rowhouse to ${escapeIdentifier(host)};
      grant execute on function rowhouse.tenant_lock_key to ${escapeIdentifier(host)}`);
    const { version, missing } = await controlState(through, { tenants: true });
    expect(version).toBe(0);
    expect(missing[0]).toMatch(
      /may not call rowhouse\.assert_revisions, call rowhouse\.await_migration, call rowhouse\.lock_holders of/,
    );
    const [, sql = ""] = /as \S+: (grant .*;) \(/s.exec(missing[0] ?? "") ?? [];
    expect(sql).toContain(escapeIdentifier(host));
    await made.execute(sql);
    expect(await controlState(through, { tenants: true })).toMatchObject({ missing: [] });
  });

  it.each<[string, string]>([
    ["itself", host],
    ["as a member of a group", group],
  ])("one call grants a host everything it needs: %s", async (_, granted) => {
    const made = await hardened();
    const superuser = connect(made.url);
    await installControl(superuser, ignore);
    await made.execute("create schema shop; create table shop.item (id int)");
    if (granted === group) await made.execute(`grant ${group} to ${escapeIdentifier(host)}`);
    const { given, lacking } = await grantRights(superuser, granted, "serve");
    expect(given).toEqual(rightsOf.serve);
    expect(lacking).toEqual([]);
    expect(await grantRights(superuser, granted, "serve")).toEqual({ given: [], lacking: [] });
    await serveAs(connect(made.urlAs(host, "word")));
    if (granted === group) await made.execute(`revoke ${group} from ${escapeIdentifier(host)}`);
  });

  it("a migrating role can migrate with its own rights, and may not read tenants' secrets", async () => {
    const made = await hardened();
    const superuser = connect(made.url);
    await installControl(superuser, ignore);
    await made.execute(`create schema shop authorization ${migrator}`);
    expect((await grantRights(superuser, migrator, "migrate")).lacking).toEqual([]);
    const through = connect(made.urlAs(migrator, "word"), { freshConnections: true });
    await migrateTenant(through, tenant, { sql: "create table item (id int)" });
    await through.query("select rowhouse.touch_schemas(array['shop'])");
    await expect(through.query("select from rowhouse.tenant")).rejects.toMatchObject({ code: "42501" });
  });

  it("a role that may not grant is told the SQL, and nothing is granted to a role that does not exist", async () => {
    const made = await hardened();
    await installControl(connect(made.url), ignore);
    const through = connect(made.urlAs(migrator, "word"));
    const { given, lacking } = await grantRights(through, group, "serve");
    expect(given).toEqual([]);
    await made.execute(grantSql(lacking, group));
    expect(await missingRights(connect(made.url), rightsOf.serve, group)).toEqual([]);
    expect(await grantRights(through, "nobody at all", "serve")).toEqual({ given: null, lacking: [] });
  });

  it("the owner can still serve, migrate and register tenants after a superuser takes over the schema", async () => {
    const made = await hardened();
    const own = connect(made.urlAs(owner, "word"), { freshConnections: true });
    expect(await installControl(own, ignore)).toMatchObject({ eventTriggers: false });
    await own.query("create schema shop");
    expect(await installControl(connect(made.url), ignore)).toMatchObject({
      eventTriggers: true,
      missing: [],
    });
    expect((await controlState(own, { tenants: true })).missing).toEqual([]);
    await migrateTenant(own, tenant, { sql: "create table item (id int)" });
    await serveAs(own);
    await own.query(`insert into rowhouse.tenant (id, schemas) values ('shop', '["shop"]')`);
    await own.query("delete from rowhouse.tenant");
  });
});

test("a host that looks for changes is told which right it needs to record them", async () => {
  const made = await hardened();
  const own = connect(made.urlAs(owner, "word"));
  await installControl(own, ignore);
  await grantRights(own, group, "serve");
  await made.execute(`revoke execute on function rowhouse.note_look from ${group}`);
  const { version, expected, missing } = await controlState(connect(made.urlAs(group, "word")));
  expect(version).toBe(expected);
  expect(missing).toContainEqual(
    expect.stringMatching(/may not call rowhouse\.note_look .*each host polls by itself/),
  );
});

test("an upgrade from version 5 keeps the rights of host and migrating role, even if a superuser takes over", async () => {
  const made = await hardened();
  const own = connect(made.urlAs(owner, "word"));
  await installVersion(own, 5);
  // What hosts and migrating roles were granted then, when PUBLIC could execute functions.
  await own.transaction((transaction) =>
    transaction.execute(`
      grant usage on schema rowhouse to ${group}, ${migrator};
      grant select on rowhouse.migration, rowhouse.schema_revision, rowhouse.tenant, rowhouse.tenant_host to ${group};
      grant select on rowhouse.schema_revision to ${migrator};
      grant select, insert, update on rowhouse.applied to ${migrator};
      grant execute on function rowhouse.touch_schemas to ${migrator};
      grant execute on function rowhouse.tenant_lock_key, rowhouse.assert_revisions, rowhouse.begin_write to ${group};
      grant execute on function rowhouse.tenant_lock_key, rowhouse.run_migration to ${migrator}`),
  );
  await made.execute(`create schema shop authorization ${migrator}`);
  await installControl(connect(made.url), ignore);
  const [schema] = await made.query(
    "select nspowner::regrole::text as owner from pg_namespace where nspname = 'rowhouse'",
  );
  expect(schema).not.toEqual({ owner });
  for (const role of [owner, group]) {
    const through = connect(made.urlAs(role, "word"));
    expect((await controlState(through, { tenants: true })).missing).toEqual([]);
    await through.query("select rowhouse.tenant_lock_key('shop')");
  }
  await migrateTenant(connect(made.urlAs(migrator, "word"), { freshConnections: true }), tenant, {
    sql: "create table item (id int)",
  });
  await serveAs(connect(made.urlAs(group, "word")));
});

test("a role without the right to tenants' lock keys is told so, and can be granted it", async () => {
  const made = await hardened();
  const superuser = connect(made.url);
  await installControl(superuser, ignore);
  await grantRights(superuser, group, "serve");
  await made.execute(`revoke execute on function rowhouse.tenant_lock_key from ${group}`);
  const through = connect(made.urlAs(group, "word"));
  const { version, missing } = await controlState(through);
  expect(version).toBe(0);
  expect(missing).toEqual([
    expect.stringMatching(
      new RegExp(
        `^role ${group} may not call rowhouse\\.tenant_lock_key of .*grant execute on function rowhouse\\.tenant_lock_key\\(text\\) to ${group};`,
      ),
    ),
  ]);
  await grantRights(superuser, group, "serve");
  expect((await controlState(through)).missing).toEqual([]);
});
