import { afterAll, beforeAll, expect, it } from "vitest";
import { create } from "../support/guard-host.ts";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

/** `stay` leaves the session in the tenant's role, which may not even unlock. */
const locking = `
create function take(key integer) returns text language plpgsql stable as $$
begin perform pg_advisory_lock(key); return 'taken'; end $$;
create function stay() returns text language plpgsql volatile as $$
begin perform set_config('role', current_user, false); return current_user; end $$;`;

let database: TenantDatabase;
let tenants: TenantRecord[];
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("advisory_locks");
  tenants = [await database.tenant("ada", locking), await database.tenant("bob", locking)];
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

async function run(url: string, ...args: string[]) {
  const config = { databases: { main: { url } }, tenants };
  const { path } = await directoryWith({
    "host.json": JSON.stringify(config),
    "change.sql": "create table late (id int)",
  });
  const [command = "", ...rest] = args;
  return runCli({ args: [command, "--config", "host.json", ...rest], cwd: path });
}

it("a superuser can reserve advisory locks to hosts, which then serve, write and migrate while tenants may take none", async () => {
  expect((await run(database.hostUrl, "doctor")).stdout).toMatch(/every role may take advisory locks/);
  const refused = await run(database.hostUrl, "install", "--revoke-advisory-locks");
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/advisory locks/) });
  expect((await run(database.hostUrl, "doctor")).stdout).toMatch(/every role may take advisory locks/);
  for (let time = 0; time < 2; time += 1) {
    const revoked = await run(database.url, "install", "--revoke-advisory-locks");
    expect(revoked).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/advisory locks are restricted to the roles of hosts/),
    });
  }
  expect((await run(database.hostUrl, "doctor")).stdout).toMatch(
    /ok {4}database main: advisory locks are restricted to the roles of hosts/,
  );

  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 1 } },
      tenants,
      pooling: true,
      cells: { max: 1, spare: 0 },
    },
    connected: database.connected,
  });
  const denied = await host.graphql("bob", "{ take(key: 7) }");
  expect(denied.errors).toHaveLength(1);
  expect(JSON.stringify(denied.errors)).toMatch(/permission denied for function pg_advisory_lock/);
  for (let time = 0; time < 3; time += 1) {
    await host.data("bob", "mutation { stay(input: {}) { result } }");
    for (const tenant of ["ada", "bob"]) {
      await host.data(tenant, "{ itemByRowId(rowId: 1) { label } }");
      await host.data(tenant, `mutation { ${create(`free ${time}`)} }`);
    }
  }
  expect(await run(database.url, "migrate", "--sql", "change.sql", "--tenant", "ada")).toMatchObject({
    code: 0,
  });
  await host.data("ada", `mutation { ${create("migrated")} }`);
});
