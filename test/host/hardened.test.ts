import { escapeIdentifier } from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";

/** Where EXECUTE was taken from PUBLIC before anything was installed. */
let database: TestDatabase;
const suffix = process.pid;
const login = `Login "${suffix}"`;
const group = `hosts, of ${suffix}`;
const tenantRole = `tenant_${suffix}`;
const quote = escapeIdentifier;

beforeAll(async () => {
  database = await createDatabase("hardened");
  await database.execute(`
    create role ${quote(login)} login password 'word'; create role ${quote(group)} nologin; create role ${tenantRole} nologin;
    grant ${quote(group)} to ${quote(login)}; grant ${tenantRole} to ${quote(login)} with inherit false, set true;
    revoke all on schema public from public;
    alter default privileges revoke execute on functions from public;
    create schema shop; grant usage on schema shop to ${tenantRole};
    create table shop.item (id int generated always as identity primary key, label text);
    grant all on shop.item to ${tenantRole}`);
});

afterAll(async () => {
  const names = [login, group, tenantRole].map(quote).join(", ");
  await database.execute(`drop owned by ${names}; drop role ${names}`);
  await database.drop();
});

const asHost = {
  databases: { main: { url: "", install: false } },
  tenants: [{ id: "shop", schemas: { app: "shop" }, roles: { anonymous: tenantRole } }],
  listen: { port: 0 },
  admin: { port: 0 },
  cells: { memoryMb: 700, heapMb: 192, max: 2 },
};

async function run(args: readonly string[], url: string) {
  const config = { ...asHost, databases: { main: { url, install: false } } };
  const { path, remove } = await directoryWith({ "rowhouse.config.json": JSON.stringify(config) });
  try {
    return await runCli({ args, cwd: path });
  } finally {
    await remove();
  }
}

it("install grants a host all that it needs, and until then each command says what is missing and how to give it", async () => {
  const hostUrl = database.urlAs(login, "word");
  expect(await run(["install"], database.url)).toMatchObject({ code: 0, stderr: "" });

  // What was enough before functions ceased to be everybody's.
  await database.execute(`
    grant usage on schema rowhouse to ${quote(login)}; grant select on all tables in schema rowhouse to ${quote(login)};
    grant execute on function rowhouse.tenant_lock_key to ${quote(login)}`);
  for (const command of ["check", "doctor", "serve"]) {
    const { code, stdout, stderr } = await run([command], hostUrl);
    expect([command, code]).toEqual([command, 1]);
    expect(stdout + stderr).toMatch(/may not call rowhouse\.assert_revisions.*grant execute on function/s);
    expect(stdout + stderr).toContain(quote(login));
  }

  expect(await run(["install", "--grant", "nobody_at_all"], database.url)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/"nobody_at_all" does not exist: create role nobody_at_all nologin;/),
  });
  expect(await run(["install", "--grant", quote(group)], hostUrl)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`to ${quote(group)};`),
  });
  expect((await run(["install", "--grant", "a,,b"], database.url)).code).toBe(2);
  const both = ["install", "--grant", quote(group), "--grant-migrations", tenantRole];
  const granted = await run(both, database.url);
  expect(granted).toMatchObject({ code: 0, stderr: "" });
  expect(granted.stdout).toMatch(/was given what it needs to serve\n.*was given what it needs to migrate\n/);
  expect((await run(both, database.url)).stdout).toMatch(/has all that it needs to serve\n/);
  await database.execute(
    `revoke execute on all functions in schema rowhouse from ${tenantRole}; revoke all on all tables in schema rowhouse from ${tenantRole}; revoke usage on schema rowhouse from ${tenantRole}`,
  );

  expect((await run(["check"], hostUrl)).code).toBe(0);
  const host = await TestHost.start({
    config: { ...asHost, databases: { main: { url: hostUrl, install: false } } },
  });
  try {
    expect(
      await host.data(
        "shop",
        'mutation { createItem(input: { item: { label: "written" } }) { item { label } } }',
      ),
    ).toEqual({ createItem: { item: { label: "written" } } });
  } finally {
    await host.stop();
  }
});
