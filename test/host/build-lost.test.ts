import { escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { type DatabaseProxy, openProxy } from "../support/host-proxy.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
} from "../support/host-tenants.ts";

let database: TenantDatabase;
let proxy: DatabaseProxy;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("build_lost");
  const kinds = `create table kind (name text primary key, description text); insert into kind values ('a', 'A');
    comment on table kind is '@enum'`;
  const acme = await database.tenant("acme", kinds);
  // The build reads its rows, as the host's own role.
  const connecting = quote(new URL(database.hostUrl).username);
  await database.execute(`grant usage on schema ${quote(schemaOf("acme"))} to ${connecting};
    grant select on ${quote(schemaOf("acme"))}.kind to ${connecting}`);
  proxy = await openProxy(database.hostUrl);
  host = await TestHost.start({
    config: {
      databases: { main: { url: proxy.through(database.hostUrl), install: false, poolSize: 2 } },
      tenants: [acme],
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

const ask = () => host.graphql("acme", itemsQuery);
const builds = (result: "done" | "failed") => host.process.linesOf(`build.${result}`).length;
const retried = () => host.process.linesOf("request.retried").map(({ reason }) => reason);

/** Evicts the instance only: the decision stays, so that only the build queries the database. */
async function evicted(): Promise<void> {
  expect(await ask()).toMatchObject({ status: 200 });
  const gone = host.process.linesOf("cell.terminated").length;
  const { key } = await host.adminJson("/tenants/acme");
  await host.adminJson("/evict", { key });
  await vi.waitFor(
    () => expect(host.process.linesOf("cell.terminated").length).toBeGreaterThan(gone),
    20_000,
  );
}

describe("a connection that is lost during a build", () => {
  // At each message in turn: while connecting, at the set-up, at the introspection and at the rows of an enum table.
  it("does not fail the request, whichever message it was lost at", async () => {
    let chunk = 1;
    for (; ; chunk += 1) {
      await evicted();
      const before = proxy.dropped;
      proxy.dropNext(1, chunk);
      const answer = await host.data("acme", itemsQuery);
      expect(answer).toEqual(itemsOf("acme"));
      if (proxy.dropped === before) break;
    }
    proxy.dropNext(0);
    // The transaction's end comes after the build, and a lost read is itself sent again.
    expect(chunk).toBeGreaterThan(6);
    expect(builds("failed")).toBeGreaterThan(1);
    expect(new Set(retried())).toEqual(new Set(["connection-lost"]));
    expect(host.process.linesOf("build.failed").map(({ code }) => code)).not.toContain("BUILD_FAILED");
  });

  it("a second time fails the request with 503 and Retry-After", async () => {
    await evicted();
    const [before, again] = [builds("failed"), retried().length];
    // After the set-up of a session, which is tried four times.
    proxy.dropNext(8, 7);
    const answer = await ask();
    proxy.dropNext(0);
    expect(answer).toMatchObject({ status: 503, code: "DATABASE_UNREACHABLE" });
    expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0);
    expect([builds("failed") - before, retried().length - again]).toEqual([2, 1]);
    await vi.waitFor(async () => expect(await ask()).toMatchObject({ status: 200 }), 20_000);
  });

  it("because PostgreSQL terminated it does not fail the request either", async () => {
    await evicted();
    const before = builds("failed");
    await database.execute(`begin; lock table ${quote(schemaOf("acme"))}.kind`);
    const asked = host.data("acme", itemsQuery);
    const ended = await vi.waitFor(async () => {
      const rows = await database.query(
        `select pg_terminate_backend(pid) as ended from pg_locks
          where not granted and relation = '${schemaOf("acme")}.kind'::regclass`,
      );
      expect(rows).toEqual([{ ended: true }]);
      return rows;
    }, 20_000);
    expect(ended).toHaveLength(1);
    await vi.waitFor(() => expect(builds("failed")).toBe(before + 1), 20_000);
    await database.execute("commit");
    expect(await asked).toEqual(itemsOf("acme"));
  });
});
