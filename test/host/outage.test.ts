import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { type DatabaseProxy, openProxy } from "../support/host-proxy.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;
let proxy: DatabaseProxy;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("outage");
  proxy = await openProxy(database.hostUrl);
  host = await TestHost.start({
    config: {
      databases: { main: { url: proxy.through(database.hostUrl), install: false, poolSize: 2 } },
      tenants: [
        await database.tenant("acme"),
        await database.tenant("globex"),
        await database.tenant("late"),
      ],
      pooling: true,
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await proxy.close();
  await database.drop();
});

const served = (tenant: string) =>
  vi.waitFor(async () => expect(await host.data(tenant, itemsQuery)).toEqual(itemsOf(tenant)), {
    timeout: 20_000,
    interval: 200,
  });

describe("a database that cannot be reached", () => {
  it("fails requests with 503 and Retry-After, and is served from again once it can be", async () => {
    await served("acme");
    await proxy.cut();
    // A tenant that was served before, one that is not yet decided, and a write.
    const mutation =
      'mutation { addItem(input: { label: "canary_acme lost", mood: calm }) { result { rowId } } }';
    for (const [tenant, query] of [
      ["acme", itemsQuery],
      ["late", itemsQuery],
      ["acme", mutation],
    ] as const) {
      const answer = await host.graphql(tenant, query);
      expect(answer).toMatchObject({ status: 503, code: "DATABASE_UNREACHABLE" });
      expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
      expect(answer.text).not.toMatch(/ECONN|127\.0\.0\.1|password/);
    }
    await host.process.line("database.lost", { database: "main" });
    expect(await host.admin("/healthz")).toMatchObject({ status: 200 });

    await proxy.restore();
    await served("acme");
    await served("late");
    // Notifications may have been missed, so everything is read again.
    await host.process.line("database.listening", { gap: true });
  });

  it("in the middle of a request fails that request with 503, and the process lives on", async () => {
    const asked = host.graphql("acme", "{ slow(seconds: 20) }");
    await database.asleep();
    await proxy.cut();
    const answer = await asked;
    expect(answer).toMatchObject({ status: 503, code: "DATABASE_UNREACHABLE" });
    await proxy.restore();
    await served("globex");
  });
});

describe("backends that are terminated under load", () => {
  it("fail no read, and end no cell", async () => {
    await served("acme");
    await served("globex");
    let over = false;
    let read = 0;
    const load = ["acme", "globex", "acme", "globex"].map(async (tenant) => {
      while (!over) {
        expect(await host.data(tenant, itemsQuery)).toEqual(itemsOf(tenant));
        read += 1;
      }
    });
    const stopped = (async () => {
      for (let round = 0; round < 3; round += 1) {
        const before = read;
        await vi.waitFor(() => expect(read).toBeGreaterThan(before + 20), { timeout: 20_000, interval: 5 });
        const ended = await database.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}:c'",
        );
        expect(ended.length).toBeGreaterThan(0);
      }
      const [{ read: last }] = [{ read }];
      await vi.waitFor(() => expect(read).toBeGreaterThan(last + 20), { timeout: 20_000, interval: 5 });
    })().finally(() => {
      over = true;
    });
    await Promise.all([...load, stopped]);
    expect(host.process.linesOf("cell.terminated")).toEqual([]);
  });

  it("of the front are replaced, its listener's included", async () => {
    const gaps = host.process.linesOf("database.listening").length;
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}:front'",
    );
    await host.process.until(() => host.process.linesOf("database.listening")[gaps], 20_000);
    await served("late");
    // Notifications arrive again.
    await database.change("late", "alter table item add column weight integer");
    await vi.waitFor(
      async () =>
        expect(await host.data("late", "{ itemByRowId(rowId: 1) { weight } }")).toEqual({
          itemByRowId: { weight: null },
        }),
      { timeout: 20_000 },
    );
  });
});
