import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

let database: TenantDatabase;
let tenant: TenantRecord;
let cwd: string;

beforeAll(async () => {
  database = await createTenantDatabase("watch");
  tenant = await database.tenant(
    "ada",
    'create table note (id int primary key); create table "It\'s" (id int primary key); create view seen as select 1 as one;',
  );
  const config = { databases: { main: { url: database.url } }, tenants: [tenant] };
  ({ path: cwd } = await directoryWith({ "host.json": JSON.stringify(config) }));
  await run("install");
});

afterAll(() => database.drop());

const run = (...args: string[]) => runCli({ args: [...args, "--config", "host.json"], cwd });

it("rowhouse watch lists a tenant's tables, watches and releases those named as in SQL, and doctor says which are outdated", async () => {
  const listed = await run("watch", "ada");
  expect(listed).toMatchObject({ code: 0, stdout: expect.stringMatching(/\.note +not watched/) });
  const watched = await run("watch", "ada", "note", `"It's"`);
  expect(watched, watched.stderr).toMatchObject({ code: 0 });
  expect(watched.stdout).toMatch(/"It's" +watched\n.*\.note +watched/s);
  expect((await run("doctor")).stdout).toMatch(/ok {4}database main: 2 tables are watched/);
  const schema = watched.stdout.match(/^(\S+)\.note /m)?.[1];
  await database.execute(`alter table ${schema}.note add column code text; alter table ${schema}.note drop constraint note_pkey;
    alter table ${schema}.note add primary key (code, id)`);
  expect((await run("watch", "ada")).stdout).toMatch(/\.note +outdated/);
  expect((await run("doctor")).stdout).toMatch(
    /warn {2}database main: tables are watched only in part.*\.note/,
  );
  expect((await run("watch", "ada", "note")).stdout).toMatch(/\.note +watched/);
  expect((await run("watch", "ada", "note", "--undo")).stdout).toMatch(/\.note +not watched/);
});

it.each([
  [["nobody"], 1, /no tenant named/],
  [["ada", "nothing"], 1, /relation "nothing" does not exist/],
  [["ada", "seen"], 1, /not a table/],
  [["ada", "--undo"], 2, /--undo needs tables/],
  [[], 2, /tenant/i],
])("rowhouse watch %j is refused", async (args, code, stderr) => {
  expect(await run("watch", ...args)).toMatchObject({ code, stderr: expect.stringMatching(stderr) });
});
