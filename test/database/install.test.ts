import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { controlState, installControl } from "../../src/control/install.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Database } from "../../src/postgres/database.ts";
import { Listener } from "../../src/postgres/listener.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const open: Database[] = [];
const databases: TestDatabase[] = [];
const seen: Observation[] = [];
const role = `host_${process.pid}`;
const ignore = (): void => {};

async function fresh(): Promise<TestDatabase> {
  const made = await createDatabase("install");
  databases.push(made);
  return made;
}

function connect(url: string): Database {
  const made = new Database({ name: "main", url, applicationName: "rowhouse:test", observe: ignore });
  open.push(made);
  return made;
}

beforeAll(async () => {
  await (await fresh()).execute(`create role ${role} login password 'word'`);
});

afterEach(async () => {
  seen.length = 0;
  await Promise.all(open.splice(0).map((each) => each.close()));
});

afterAll(async () => {
  for (const each of databases.slice(1)) await each.drop();
  await databases[0]?.execute(`drop role if exists ${role}`);
  await databases[0]?.drop();
});

test("a superuser installs everything, and only once even if four hosts install at the same moment", async () => {
  const database = await fresh();
  await database.execute("create schema was_there");
  const hosts = [1, 2, 3, 4].map(() => connect(database.url));
  const states = await Promise.all(hosts.map((host) => installControl(host, ignore)));
  const { version } = states[0] ?? { version: 0 };
  expect(version).toBeGreaterThan(0);
  for (const state of states)
    expect(state).toEqual({
      version,
      expected: version,
      installable: true,
      eventTriggers: true,
      hidesStatements: true,
      listsStatements: true,
      session: { standby: false, readOnly: false },
      missing: [],
    });
  const installed = await database.query("select version, xmin::text from rowhouse.migration order by 1");
  expect(installed.at(-1)).toMatchObject({ version });
  expect(
    await database.query("select from rowhouse.schema_revision where schema_name = 'was_there'"),
  ).toHaveLength(1);
  await installControl(connect(database.url), (observation) => void seen.push(observation));
  expect(await database.query("select version, xmin::text from rowhouse.migration order by 1")).toEqual(
    installed,
  );
  expect(seen).toEqual([
    { kind: "control.installed", database: "main", version, eventTriggers: true, missing: [] },
  ]);
});

test("without the right to create event triggers the rest is installed and the missing parts are named; a superuser completes it", async () => {
  const database = await fresh();
  await database.execute(`grant create on database ${database.name} to ${role}`);
  const host = connect(database.urlAs(role, "word"));
  const state = await installControl(host, ignore);
  expect(state).toMatchObject({ version: state.expected, eventTriggers: false });
  expect(state.missing).toEqual([
    expect.stringMatching(/event triggers are missing.*superuser/),
    expect.stringMatching(/prepared statements: .*superuser/),
  ]);
  expect(await controlState(host)).toEqual(state);

  await database.execute("create schema came_later");
  const complete = await installControl(connect(database.url), ignore);
  expect(complete).toMatchObject({ eventTriggers: true, missing: [] });
  expect(
    await database.query("select from rowhouse.schema_revision where schema_name = 'came_later'"),
  ).toHaveLength(1);
  // A superuser's DDL runs these functions: a lesser role may own none of them.
  expect(
    await database.query(
      `select from pg_proc where pronamespace = 'rowhouse'::regnamespace and proowner = '${role}'::regrole
       union all select from pg_class where relnamespace = 'rowhouse'::regnamespace and relowner = '${role}'::regrole
       union all select from pg_namespace where nspname = 'rowhouse' and nspowner = '${role}'::regrole`,
    ),
  ).toEqual([]);
  expect(await installControl(host, ignore)).toMatchObject({ eventTriggers: true, missing: [] });
  await host.query(`insert into rowhouse.tenant (id, schemas) values ('acme', '["acme"]')`);
});

test("a role that may create nothing is told what to run as whom, and nothing is left behind", async () => {
  const database = await fresh();
  const state = await installControl(connect(database.urlAs(role, "word")), ignore);
  expect(state).toMatchObject({ version: 0, eventTriggers: false });
  expect(state.missing[0]).toMatch(/rowhouse install/);
  expect(await database.query("select from pg_namespace where nspname = 'rowhouse'")).toEqual([]);
});

test("a role that may not read the control schema is told so", async () => {
  const database = await fresh();
  await installControl(connect(database.url), ignore);
  const state = await controlState(connect(database.urlAs(role, "word")));
  expect(state.missing).toEqual([
    expect.stringMatching(new RegExp(`role ${role} may not read schema rowhouse`)),
  ]);
});

test("a control schema whose installed migration has another checksum is refused", async () => {
  const database = await fresh();
  const host = connect(database.url);
  await installControl(host, ignore);
  await database.query("update rowhouse.migration set checksum = 'other' where version = 1");
  await expect(installControl(host, ignore)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});

test("disabled event triggers count as missing, and installing enables them", async () => {
  const database = await fresh();
  const host = connect(database.url);
  await installControl(host, ignore);
  await database.execute("alter event trigger rowhouse_sql_drop disable");
  expect(await controlState(host)).toMatchObject({ eventTriggers: false });
  expect(await installControl(host, ignore)).toMatchObject({ eventTriggers: true, missing: [] });
});

test("a committed DDL command notifies schema and revision, a rolled-back one does not", async () => {
  const database = await fresh();
  await installControl(connect(database.url), ignore);
  const heard = await listen(database, "rowhouse_schema");
  await database.execute("begin; create schema never; rollback");
  await database.execute(`create schema "O'Dd ""one"""`);
  const rows = await database.query<{ schema_name: string; revision: string }>(
    "select schema_name, revision::text from rowhouse.schema_revision where schema_name like 'O%'",
  );
  await expect
    .poll(() => heard.map((payload) => JSON.parse(payload)))
    .toEqual([{ schema: `O'Dd "one"`, revision: rows[0]?.revision }]);
});

test("each change of a tenant notifies its id, and a truncate notifies all tenants at once", async () => {
  const database = await fresh();
  await installControl(connect(database.url), ignore);
  const heard = await listen(database, "rowhouse_tenant");
  await database.execute(`insert into rowhouse.tenant (id, schemas) values ('acme', '["acme"]')`);
  await database.execute("update rowhouse.tenant set enabled = false");
  await database.execute("update rowhouse.tenant set id = 'acme2'");
  await database.execute("delete from rowhouse.tenant");
  await database.execute("truncate rowhouse.tenant cascade");
  await expect.poll(() => heard).toEqual(["acme", "acme", "acme", "acme2", "acme2", ""]);
});

test("a host belongs to one tenant, in any spelling, can move within a transaction, and is free after a delete", async () => {
  const database = await fresh();
  await installControl(connect(database.url), ignore);
  const add = (id: string, hosts: string[]): Promise<unknown> =>
    database.query("insert into rowhouse.tenant (id, hosts, schemas) values ($1, $2, $3)", [
      id,
      hosts,
      '["x"]',
    ]);
  await add("acme", ["Acme.Example.", "acme.example", "www.acme.example"]);
  expect(await database.query("select hosts from rowhouse.tenant")).toEqual([
    { hosts: ["acme.example", "www.acme.example"] },
  ]);
  await expect(add("globex", ["ACME.example"])).rejects.toMatchObject({ code: "23505" });
  await expect(add("globex", ["globex.example:8080"])).rejects.toMatchObject({ code: "23514" });
  await add("globex", ["globex.example"]);
  await database.execute(`begin; set constraints all deferred;
    update rowhouse.tenant set hosts = '{globex.example}' where id = 'acme';
    update rowhouse.tenant set hosts = '{acme.example}' where id = 'globex'; commit`);
  const held = "select host, tenant from rowhouse.tenant_host order by host";
  expect(await database.query(held)).toEqual([
    { host: "acme.example", tenant: "globex" },
    { host: "globex.example", tenant: "acme" },
  ]);
  await database.execute("delete from rowhouse.tenant where id = 'globex'");
  await add("initech", ["acme.example"]);
  await database.execute("update rowhouse.tenant set id = 'initech2' where id = 'initech'");
  expect(await database.query(held)).toEqual([
    { host: "acme.example", tenant: "initech2" },
    { host: "globex.example", tenant: "acme" },
  ]);
});

async function listen(database: TestDatabase, channel: string): Promise<string[]> {
  const heard: string[] = [];
  const listener = new Listener({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: ignore,
  });
  listener.on(channel, (payload) => heard.push(payload));
  await listener.open();
  // Closed after each test.
  listeners.push(listener);
  return heard;
}

const listeners: Listener[] = [];
afterEach(async () => {
  await Promise.all(listeners.splice(0).map((each) => each.close()));
});
