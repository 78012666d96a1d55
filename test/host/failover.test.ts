import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { type DatabaseProxy, openProxy } from "../support/host-proxy.ts";
import {
  createTenantDatabase,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";
import { ask, type Replicated, startReplicated } from "../support/replica.ts";

let servers: Replicated;
let database: TenantDatabase;
let tenants: TenantRecord[];
let proxy: DatabaseProxy;
const hosts: TestHost[] = [];

beforeAll(async () => {
  servers = await startReplicated();
  database = await createTenantDatabase("failover", servers.primary.url);
  tenants = [await database.tenant("ada"), await database.tenant("bob")];
  proxy = await openProxy(servers.primary.url);
  await servers.caughtUp();
});
afterAll(async () => {
  for (const host of hosts) await host.stop();
  await proxy.close();
  await servers.close();
});

/** `database.hostUrl`, but of another server. */
function at(server: "primary" | "standby", more: Record<string, string> = {}): string {
  const url = new URL(database.hostUrl);
  url.port = new URL(servers[server].url).port;
  for (const [name, value] of Object.entries(more)) url.searchParams.set(name, value);
  return url.href;
}

async function serve(url: string, listenUrl = url, more: object = {}): Promise<TestHost> {
  const main = { url, listenUrl, install: false, poolSize: 2, poolReserve: 2 };
  const host = await TestHost.start({ config: { databases: { main }, tenants, pooling: true, ...more } });
  hosts.push(host);
  return host;
}

let made = 0;
async function write(host: TestHost, tenant = "ada") {
  made += 1;
  const label = `canary_${tenant} made ${made}`;
  return host.graphql(
    tenant,
    `mutation { createItem(input: { item: { label: "${label}" } }) { item { label } } }`,
  );
}
const reads = (host: TestHost, tenant = "ada") =>
  host.data(tenant, "{ allItems(first: 1) { nodes { rowId } } }");
const refused = { status: 503, code: "DATABASE_READ_ONLY" };

/** Resolves when a write is accepted; until then each must be refused entirely. */
const writesAgain = (host: TestHost) =>
  vi.waitFor(
    async () => {
      const answer = await write(host);
      if (answer.status !== 200) expect(answer).toMatchObject(refused);
      expect(answer).toMatchObject({ status: 200, errors: undefined });
    },
    { timeout: 30_000, interval: 100 },
  );

const ended = (server: "primary" | "standby", name: string) =>
  ask(
    servers[server],
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name ~ $2",
    [database.name, name],
  );
const connectedTo = async (server: "primary" | "standby", name: string): Promise<number> => {
  const sql = "select from pg_stat_activity where datname = $1 and application_name ~ $2";
  return (await ask(servers[server], sql, [database.name, name])).length;
};

describe("connections that a failover has left on a read-only server", () => {
  it("refuse writes with Retry-After, serve reads, and are discarded once new ones accept writes", async () => {
    proxy.aim(servers.standby.url);
    const host = await serve(proxy.through(database.hostUrl), at("primary"));
    await reads(host);
    const answer = await write(host);
    expect(answer).toMatchObject(refused);
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect(answer.text).not.toMatch(/standby|recovery|25006/);
    await reads(host);
    await vi.waitFor(async () => expect(await host.metric('database_read_only{database="main"}')).toBe(1), {
      timeout: 20_000,
    });
    expect(await host.admin("/readyz")).toMatchObject({
      status: 200,
      text: expect.stringMatching(/^ok, .*read-only/),
    });

    proxy.aim(servers.primary.url);
    await writesAgain(host);
    for (let n = 0; n < 5; n += 1)
      expect(await write(host)).toMatchObject({ status: 200, errors: undefined });
    await vi.waitFor(async () => expect(await host.metric('database_read_only{database="main"}')).toBe(0), {
      timeout: 20_000,
    });
    expect(await host.admin("/readyz")).toMatchObject({ status: 200, text: "ok" });
  });

  it("of the front do not keep it from finding the primary's schema, though the standby has an older one", async () => {
    proxy.aim(servers.primary.url);
    const host = await serve(proxy.through(database.hostUrl), at("primary"));
    expect(await write(host)).toMatchObject({ status: 200, errors: undefined });
    proxy.aim(servers.standby.url);
    await ended("primary", ":front$");
    // The front queries only when needed: a tenant that it does not know yet makes it connect.
    await reads(host, "bob");
    expect(await connectedTo("standby", ":front$")).toBeGreaterThan(0);
    await pauseReplay();
    proxy.aim(servers.primary.url);
    await database.change("ada", "alter table item add column front integer");
    await writesAgain(host);
    expect(await host.data("ada", "{ itemByRowId(rowId: 1) { front } }")).toEqual({
      itemByRowId: { front: null },
    });
    await resumeReplay();
  });

  it("of the cells are replaced by ones to the primary, though their schema is an older one", async () => {
    proxy.aim(servers.standby.url);
    await servers.caughtUp();
    const host = await serve(proxy.through(database.hostUrl), at("primary"));
    await reads(host);
    await pauseReplay();
    await database.change("ada", "alter table item add column cells integer");
    proxy.aim(servers.primary.url);
    await ended("standby", ":front$");
    await writesAgain(host);
    await vi.waitFor(
      async () =>
        expect(await host.data("ada", "{ itemByRowId(rowId: 1) { cells } }")).toEqual({
          itemByRowId: { cells: null },
        }),
      { timeout: 20_000 },
    );
    await resumeReplay();
  });
});

const pauseReplay = () => ask(servers.standby, "select pg_wal_replay_pause()");
async function resumeReplay(): Promise<void> {
  await ask(servers.standby, "select pg_wal_replay_resume()");
  await servers.caughtUp();
}

describe("default_transaction_read_only", () => {
  let host: TestHost;
  beforeAll(async () => {
    host = await serve(at("primary"));
  });

  it.each([
    ["the server", "system"],
    ["the database", "database"],
    ["the role", "role"],
  ] as const)(
    "of %s refuses writes while it is set, and no longer once it is reset, without a restart",
    async (_, of) => {
      const target = {
        system: "system",
        database: `database "${database.name}"`,
        role: `role "${database.name}_host"`,
      };
      const set = async (action: string): Promise<void> => {
        await ask(servers.primary, `alter ${target[of]} ${action}`);
        await ask(servers.primary, "select pg_reload_conf()");
      };
      expect(await write(host)).toMatchObject({ status: 200, errors: undefined });
      await set("set default_transaction_read_only = on");
      // An existing connection notices only the server's setting; the others take a new connection.
      if (of !== "system") await ended("primary", ":c[0-9]+$");
      await vi.waitFor(async () => expect(await write(host)).toMatchObject(refused), { timeout: 20_000 });
      await reads(host);
      await set("reset default_transaction_read_only");
      await writesAgain(host);
      for (let n = 0; n < 5; n += 1)
        expect(await write(host)).toMatchObject({ status: 200, errors: undefined });
    },
  );
});

describe("on a standby", () => {
  const files = (main: object) => ({
    "rowhouse.config.json": JSON.stringify({ databases: { main }, tenants }),
  });
  it.each(["check", "doctor", "serve", "install"])("%s says so clearly", async (command) => {
    await servers.caughtUp();
    const url =
      command === "install"
        ? at("standby").replace(new RegExp(`${database.name}$`), "postgres")
        : at("standby");
    const { path, remove } = await directoryWith(files({ url }));
    const { code, stdout, stderr } = await runCli({ args: [command], cwd: path, env: { PORT: "0" } });
    expect(code).toBe(1);
    expect(stdout + stderr).toMatch(/standby/);
    expect(stdout + stderr).toMatch(/target_session_attrs=read-write/);
    expect(stdout + stderr).not.toMatch(/25006|cannot execute|\bat .*\.ts:/);
    await remove();
  });

  it("with listenUrl at the primary, check and doctor find no fault and say how writes will be answered", async () => {
    const { path, remove } = await directoryWith(files({ url: at("standby"), listenUrl: at("primary") }));
    const checked = await runCli({ args: ["check"], cwd: path });
    expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(/standby.*DATABASE_READ_ONLY/) });
    expect((await runCli({ args: ["doctor"], cwd: path })).stdout).toMatch(
      /^warn {2}.*standby.*DATABASE_READ_ONLY/m,
    );
    await remove();
  });

  it("migrate changes nothing and says why", async () => {
    const { path, remove } = await directoryWith({
      ...files({ url: at("standby") }),
      "some.sql": "alter table item add column never integer",
    });
    const { code, stdout, stderr } = await runCli({
      args: ["migrate", "--sql", "some.sql", "--all"],
      cwd: path,
    });
    expect(code).toBe(1);
    expect(stdout + stderr).toMatch(/standby; nothing was changed/);
    await remove();
  });
});

describe("several hosts in a URL", () => {
  it("are tried for the primary, so writes continue at the new one after a failover", async () => {
    const [url] = [new URL(database.hostUrl)];
    const ports = [new URL(servers.standby.url).port, new URL(servers.primary.url).port];
    const hostList = ports.map((port) => `127.0.0.1:${port}`).join(",");
    const several = `postgres://${url.username}:${url.password}@${hostList}${url.pathname}?target_session_attrs=read-write`;
    const host = await serve(several);
    expect(await write(host)).toMatchObject({ status: 200, errors: undefined });
    // A connection that is being opened asks the standby first.
    await expect.poll(() => connectedTo("standby", ":"), { timeout: 20_000 }).toBe(0);
    await servers.caughtUp();
    // Hosts with a single address cannot continue.
    for (const other of hosts.splice(0, hosts.length - 1)) await other.stop();
    await servers.primary.close();
    await servers.promote();
    await vi.waitFor(
      async () => expect(await write(host)).toMatchObject({ status: 200, errors: undefined }),
      { timeout: 60_000, interval: 200 },
    );
    const label = `canary_ada made ${made}`;
    const rows = await ask(
      {
        ...servers.standby,
        url: at("standby").replace(/\/\/[^@]*@/, `//postgres:${new URL(servers.standby.url).password}@`),
      },
      `select from ${schemaOf("ada")}.item where label = $1`,
      [label],
    );
    expect(rows).toHaveLength(1);
    await host.process.line("database.listening", { gap: true });
  });
});
