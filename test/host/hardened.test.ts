import { escapeIdentifier } from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";

/** EXECUTE was revoked from PUBLIC before anything was installed. */
let database: TestDatabase;
const suffix = process.pid;
const login = `Login "${suffix}"`;
const group = `hosts, of ${suffix}`;
const tenantRole = `tenant_${suffix}`;
const migrator = `migrator_${suffix}`;
const quote = escapeIdentifier;

beforeAll(async () => {
  database = await createDatabase("hardened");
  await database.execute(`
    create role ${quote(login)} login password 'word'; create role ${quote(group)} nologin; create role ${tenantRole} nologin; create role ${migrator} nologin;
    grant ${quote(group)} to ${quote(login)}; grant ${tenantRole} to ${quote(login)} with inherit false, set true;
    revoke all on schema public from public;
    alter default privileges revoke execute on functions from public;
    create schema shop; grant usage on schema shop to ${tenantRole};
    create table shop.item (id int generated always as identity primary key, label text);
    grant all on shop.item to ${tenantRole}`);
  expect(await run(["install"], database.url)).toMatchObject({ code: 0, stderr: "" });
  // The grants that were enough while PUBLIC could execute functions.
  await database.execute(`
    grant usage on schema rowhouse to ${quote(login)}; grant select on all tables in schema rowhouse to ${quote(login)};
    grant execute on function rowhouse.tenant_lock_key to ${quote(login)}`);
});

afterAll(async () => {
  const names = [login, group, tenantRole, migrator].map(quote).join(", ");
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

const hostUrl = (): string => database.urlAs(login, "word");

it.each(["check", "doctor", "serve"])(
  "%s names the rights that a host's role lacks, and how to grant them",
  async (command) => {
    const { code, stdout, stderr } = await run([command], hostUrl());
    expect([command, code]).toEqual([command, 1]);
    expect(stdout + stderr).toMatch(/may not call rowhouse\.assert_revisions.*grant execute on function/s);
    expect(stdout + stderr).toContain(quote(login));
  },
);

it("install refuses to grant to a missing role or an invalid name, and prints the grants that it may not issue", async () => {
  expect(await run(["install", "--grant", "nobody_at_all"], database.url)).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/"nobody_at_all" does not exist: create role nobody_at_all nologin;/),
  });
  expect(await run(["install", "--grant", quote(group)], hostUrl())).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`to ${quote(group)};`),
  });
  expect((await run(["install", "--grant", "a,,b"], database.url)).code).toBe(2);
});

it("install grants a host all the rights it needs to serve and write", async () => {
  const both = ["install", "--grant", quote(group), "--grant-migrations", migrator];
  const granted = await run(both, database.url);
  expect(granted).toMatchObject({ code: 0, stderr: "" });
  expect(granted.stdout).toMatch(
    /was granted what it needs to serve\n.*was granted what it needs to migrate\n/,
  );
  expect((await run(both, database.url)).stdout).toMatch(/already has what it needs to serve\n/);
  const databases = { main: { url: hostUrl(), install: false } };
  const host = await TestHost.start({ config: { ...asHost, databases } });
  try {
    expect(
      await host.data(
        "shop",
        'mutation { createItem(input: { item: { label: "canary_shop written" } }) { item { label } } }',
      ),
    ).toEqual({ createItem: { item: { label: "canary_shop written" } } });
  } finally {
    await host.stop();
  }
});
