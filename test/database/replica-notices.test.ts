import { afterAll, beforeAll, expect, it } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { ask, type Replicated, startReplicated } from "../support/replica.ts";

let servers: Replicated;
let host: TestHost;

const asHost = (url: string): string => {
  const own = new URL(url);
  own.username = "replica_host";
  own.password = "secret";
  return own.href;
};

beforeAll(async () => {
  servers = await startReplicated();
  const { url } = servers.primary;
  const { path: cwd, remove } = await directoryWith({
    "host.json": JSON.stringify({ databases: { main: { url } }, tenants: [] }),
  });
  const { code, stderr } = await runCli({ args: ["install", "--config", "host.json"], cwd });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  await remove();
  await ask(
    servers.primary,
    `create role replica_host login noinherit password 'secret';
    grant usage on schema rowhouse to replica_host;
    grant select on all tables in schema rowhouse to replica_host;
    grant execute on function rowhouse.tenant_lock_key to replica_host;
    create role canary_acme nologin;
    grant canary_acme to replica_host with inherit false, set true;
    create schema canary_acme;
    grant usage on schema canary_acme to canary_acme;
    create table canary_acme.item (id int primary key, label text);
    insert into canary_acme.item values (1, 'canary_acme one');
    grant select on canary_acme.item to canary_acme`,
  );
  await servers.caughtUp();
  host = await TestHost.start({
    config: {
      databases: {
        main: { url: asHost(servers.standby.url), listenUrl: asHost(servers.primary.url), install: false },
      },
      tenants: [{ id: "acme", schemas: { app: "canary_acme" }, roles: { anonymous: "canary_acme" } }],
    },
  });
});

afterAll(async () => {
  await host?.stop();
  await servers?.close();
});

it("a change that the primary announces before the replica has it is served as soon as the replica does", async () => {
  const { primary, standby } = servers;
  const items = () => host.graphql("acme", "{ itemByRowId(rowId: 1) { label weight } }");
  expect(await host.data("acme", "{ itemByRowId(rowId: 1) { label } }")).toEqual({
    itemByRowId: { label: "canary_acme one" },
  });
  await ask(standby, "select pg_wal_replay_pause()");
  await expect
    .poll(() => ask(standby, "select pg_get_wal_replay_pause_state() as state"))
    .toEqual([{ state: "paused" }]);
  const before = await host.metric("notice_reads_total");
  await ask(primary, "alter table canary_acme.item add column weight int not null default 7");
  // The host was notified, and has asked without finding it.
  await expect.poll(() => host.metric("notice_reads_total")).toBeGreaterThan(before + 2);
  expect((await items()).errors?.[0]?.message).toMatch(/Cannot query field "weight"/);
  await ask(standby, "select pg_wal_replay_resume()");
  await expect
    .poll(async () => (await items()).data)
    .toEqual({ itemByRowId: { label: "canary_acme one", weight: 7 } });
});
