import { escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, itemsOf, itemsQuery, type TenantDatabase } from "../support/host-tenants.ts";

let database: TenantDatabase;
let host: TestHost;
let role: string;

beforeAll(async () => {
  database = await createTenantDatabase("refused");
  role = quote(new URL(database.hostUrl).username);
  const tenants = [];
  for (const id of ["acme", "late0", "late1", "late2", "last"]) tenants.push(await database.tenant(id));
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 2 } },
      tenants,
      pooling: true,
    },
    connected: database.connected,
  });
  await host.data("acme", itemsQuery);
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

const disconnect = () =>
  database.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}:'",
  );

describe("a database that refuses connections of the host's role", () => {
  it.each([
    [
      "whose password was changed",
      "28P01",
      () => `alter role ${role} password 'another'`,
      () => `alter role ${role} password '${database.password}'`,
    ],
    ["that may not log in", "28000", () => `alter role ${role} nologin`, () => `alter role ${role} login`],
    [
      "that has reached its connection limit",
      "53300",
      () => `alter role ${role} connection limit 0`,
      () => `alter role ${role} connection limit -1`,
    ],
  ])(
    "%s (%s) leads to 503 with Retry-After and a logged cause, and to service again once it is repaired",
    async (_, state, take, give) => {
      const late = `late${["28P01", "28000", "53300"].indexOf(state)}`;
      await database.execute(take());
      try {
        // One tenant that was served before, and one that is not yet decided.
        for (const tenant of ["acme", late]) {
          // A connection that ends a moment later may be retried first.
          await vi.waitFor(
            async () => {
              // Also those that were being opened.
              await disconnect();
              const answer = await host.graphql(tenant, itemsQuery);
              const retryAfter = Number(answer.headers["retry-after"]) > 0;
              expect({ status: answer.status, retryAfter }).toEqual({ status: 503, retryAfter: true });
              expect(["DATABASE_UNREACHABLE", "NO_CAPACITY"]).toContain(answer.code);
              expect(answer.text).not.toMatch(/password|role|28P01|28000|53300/);
              const requestId = answer.headers["x-request-id"];
              const { error } = await host.process.line("request.failed", { requestId });
              expect(JSON.stringify(error)).toContain(state);
            },
            { timeout: 20_000, interval: 200 },
          );
        }
      } finally {
        await database.execute(give());
      }
      for (const tenant of ["acme", late]) {
        await vi.waitFor(async () => expect(await host.data(tenant, itemsQuery)).toEqual(itemsOf(tenant)), {
          timeout: 20_000,
          interval: 200,
        });
      }
    },
  );

  it("after a reconnect, the role's timeouts end none of the host's own sessions, and a new tenant is served", async () => {
    await database.execute(`
      alter role ${role} set idle_session_timeout = '1s';
      alter role ${role} set idle_in_transaction_session_timeout = '1s';
      alter role ${role} set statement_timeout = '5s'`);
    await disconnect();
    await vi.waitFor(async () => expect(await host.data("last", itemsQuery)).toEqual(itemsOf("last")), {
      timeout: 20_000,
      interval: 200,
    });
    await vi.waitFor(() => expect(host.process.linesOf("database.listening").length).toBeGreaterThan(1), {
      timeout: 20_000,
    });
    const ours =
      "select pid from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:[0-9a-f]{8}:' order by pid";
    const before = await database.query(ours);
    const { length } = host.process.linesOf("database.lost");
    await database.query("select pg_sleep(2.5)");
    // Others may have been opened meanwhile.
    expect(await database.query(ours)).toEqual(expect.arrayContaining(before));
    expect(host.process.linesOf("database.lost")).toHaveLength(length);
    await database.execute(`alter role ${role} reset all`);
  });
});
