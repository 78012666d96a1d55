import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { advisoryWaits, type TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";
import { until } from "../support/worker-instance.ts";

const tenants = ["sha", "shb", "shc", "shd", "she", "shf"] as const;
type Name = (typeof tenants)[number];

let database: TestDatabase;
let bench: AdaptorBench;
/** The test's own locks: a statement that waits for one sleeps until the test opens it. */
const gates = new Set<number>();

beforeAll(async () => {
  database = await adaptorDatabase("tenant_shares", tenants);
});
beforeEach(() => {
  bench = adaptorOn(database, 4, 1_000_000, 4);
});
afterEach(async () => {
  for (const gate of gates) await open(gate);
  await bench.close();
});
afterAll(() => database.drop());

async function shut(...keys: number[]): Promise<void> {
  for (const key of keys) {
    await database.query("select pg_advisory_lock($1)", [key]);
    gates.add(key);
  }
}

async function open(key: number): Promise<void> {
  gates.delete(key);
  await database.query("select pg_advisory_unlock($1)", [key]);
}

interface Sleep {
  readonly request: Request;
  readonly answer: Promise<unknown>;
}

/** A read of that tenant that sleeps while the gate is shut. */
function sleep(tenant: Name, gate: number, on = bench): Sleep {
  const request = on.request(tenant);
  const answer = on
    .read(request, "select pg_advisory_xact_lock_shared($1)::text, 'woken' as said", undefined, [gate])
    .catch((error: unknown) => error);
  return { request, answer };
}

const sleeps = (tenant: Name, gate: number, count: number, on = bench): Sleep[] =>
  Array.from({ length: count }, () => sleep(tenant, gate, on));

/** Waits until exactly `count` sleep in PostgreSQL. */
const sleeping = (count: number, gate: number | null = null): Promise<unknown> =>
  until(async () => (await advisoryWaits(database, gate)).length === count || undefined);

const cancelAll = async (all: readonly Sleep[]): Promise<void> => {
  for (const { request } of all) request.scope.cancel();
  await Promise.all(all.map(({ answer }) => answer));
};

const served = (tenant: Name, on = bench) => on.read(on.request(tenant), "select name from item");

describe("while tenants sleep on as many connections as they can get", () => {
  it.each([
    ["two", 2],
    ["three", 3],
    ["four", 4],
  ])("%s of them with a hundred requests each, another is served at once", async (_, count) => {
    await shut(1);
    const all = tenants.slice(0, count).flatMap((tenant) => sleeps(tenant, 1, 100));
    // All of the pool's, and one more for each tenant that had none.
    await sleeping(4 + count - 1);
    const victim = tenants[count] ?? "shf";
    for (let round = 0; round < 5; round += 1) expect(await served(victim)).toEqual([{ name: victim }]);
    expect(await advisoryWaits(database, 1)).toHaveLength(4 + count - 1);
    expect(bench.sessions.stats).toMatchObject({ reserve: count, waiting: 100 * count - (4 + count - 1) });
    await cancelAll(all);
  });

  it("more of them than connections, another is served once they are known to be slow", async () => {
    await bench.close();
    bench = adaptorOn(database, 2, 1_000_000, 2);
    await shut(1, 2);
    const first = tenants.slice(0, 5).flatMap((tenant) => sleeps(tenant, 1, 5));
    await sleeping(4);
    const slept = `select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'
      and clock_timestamp() - query_start > '1.1 s'`;
    await until(async () => (await database.query(slept)).length === 4 || undefined);
    const again = tenants.slice(0, 4).flatMap((tenant) => sleeps(tenant, 2, 5));
    await cancelAll(first);
    await sleeping(3, 2);
    for (let round = 0; round < 5; round += 1) expect(await served("shf")).toEqual([{ name: "shf" }]);
    expect(await advisoryWaits(database, 2)).toHaveLength(3);
    await cancelAll(again);
  });

  it("a tenant that keeps coming is served by the connection that was opened for it", async () => {
    await shut(1);
    const all = sleeps("sha", 1, 20);
    await sleeping(4);
    const pids = new Set<string>();
    for (let round = 0; round < 20; round += 1) {
      pids.add(JSON.stringify(await bench.read(bench.request("shb"), "select pg_backend_pid() as pid")));
    }
    expect(pids.size).toBe(1);
    expect(bench.sessions.stats).toMatchObject({ total: 5, reserve: 1, idle: 1 });
    await cancelAll(all);
  });

  it("connections opened beyond the pool's size are closed again when nobody needs them", async () => {
    await shut(1);
    const all = tenants.slice(0, 4).flatMap((tenant) => sleeps(tenant, 1, 4));
    await sleeping(7);
    expect(bench.sessions.stats).toMatchObject({ total: 7, reserve: 3 });
    await open(1);
    await Promise.all(all.map(({ answer }) => answer));
    const backends =
      "select from pg_stat_activity where application_name = 'rowhouse:adaptor-test' and datname = current_database()";
    await until(async () => (bench.sessions.stats.reserve === 0 ? true : undefined));
    await until(async () => (await database.query(backends)).length <= 4 || undefined);
    expect(await served("sha")).toEqual([{ name: "sha" }]);
  });
});

describe("if no connection is free", () => {
  it("the tenant that holds fewest is next, and each tenant's requests keep their order", async () => {
    await bench.close();
    bench = adaptorOn(database, 2, 1_000_000, 0);
    await shut(1, 2);
    sleep("sha", 1);
    sleep("sha", 2);
    await sleeping(2);
    const order: string[] = [];
    const ask = (tenant: Name, name: string) =>
      bench.read(bench.request(tenant), `select '${name}' as name`).then(() => order.push(name));
    const all = [ask("sha", "a1"), ask("sha", "a2"), ask("shb", "b1"), ask("shc", "c1"), ask("shb", "b2")];
    await open(1);
    await Promise.all(all.slice(2));
    // The other one still sleeps: tenant a holds that one, and the last connection is for tenants that hold none.
    expect(order).toEqual(["b1", "c1", "b2"]);
    expect(await advisoryWaits(database, 2)).toHaveLength(1);
    await open(2);
    await Promise.all(all);
    expect(order.slice(3)).toEqual(["a1", "a2"]);
  });

  it("the connection of a cancelled request, or a new one for a lost one, goes to the next waiter", async () => {
    await bench.close();
    bench = adaptorOn(database, 1, 1_000_000, 0);
    await shut(1);
    const cancelled = sleep("sha", 1);
    await sleeping(1);
    const [leaving, behind] = [sleep("shb", 1), served("shc")];
    leaving.request.scope.cancel();
    cancelled.request.scope.cancel();
    expect(await behind).toEqual([{ name: "shc" }]);
    expect(await Promise.all([leaving.answer, cancelled.answer])).toMatchObject([
      { code: "CANCELLED" },
      { code: "CANCELLED" },
    ]);
    const lost = bench
      .withPgClient(bench.request("sha").settings, (client) => client.query({ text: "select pg_sleep(60)" }))
      .catch((error: unknown) => error);
    const asleep =
      "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()";
    const next = served("shb");
    await until(async () => (await database.query(asleep)).length === 1 || undefined);
    expect(await next).toEqual([{ name: "shb" }]);
    expect(await lost).toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(bench.sessions.stats).toMatchObject({ total: 1, idle: 1, waiting: 0 });
  });

  it("a tenant waits as if there were no reserve if PostgreSQL refuses it a connection", async () => {
    const login = `shares_${database.name.split("_").at(-1)}`;
    await database.execute(
      `create role ${login} login password 'word' connection limit 2; grant ${tenants.join(", ")} to ${login}`,
    );
    const own = adaptorOn({ ...database, url: database.urlAs(login, "word") }, 2, 1_000_000, 2);
    try {
      await shut(1, 2);
      const all = [sleep("sha", 1, own), sleep("sha", 2, own)];
      await sleeping(2);
      const waiting = served("shb", own);
      await until(async () => (own.sessions.stats.waiting === 1 ? true : undefined));
      await open(1);
      expect(await waiting).toEqual([{ name: "shb" }]);
      expect(await advisoryWaits(database, 2)).toHaveLength(1);
      expect(own.sessions.stats).toMatchObject({ total: 2, reserve: 0, waiting: 0 });
      await open(2);
      await Promise.all(all.map(({ answer }) => answer));
    } finally {
      await own.close();
      await database.execute(`drop owned by ${login}; drop role ${login}`);
    }
  });

  it("and PostgreSQL refuses the pool's own, the pool keeps asking until it gets one", async () => {
    const login = `full_${database.name.split("_").at(-1)}`;
    await database.execute(
      `create role ${login} login password 'word' connection limit 1; grant ${tenants.join(", ")} to ${login}`,
    );
    const one = { ...database, url: database.urlAs(login, "word") };
    const [holder, other] = [adaptorOn(one), adaptorOn(one)];
    try {
      expect(await served("sha", holder)).toEqual([{ name: "sha" }]);
      const waiting = served("shb", other);
      // One is being opened, and is then refused.
      await until(async () => (other.sessions.stats.total > 0 ? true : undefined));
      await until(async () => (other.sessions.stats.total === 0 ? true : undefined));
      await holder.close();
      expect(await waiting).toEqual([{ name: "shb" }]);
    } finally {
      await other.close();
      await database.execute(`drop owned by ${login}; drop role ${login}`);
    }
  });
});

describe("a request that asks for a connection while it holds one", () => {
  const nested = (on: AdaptorBench, tenant: Name): Promise<unknown> => {
    const request = on.request(tenant);
    return on.withPgClient(request.settings, async (client) => {
      await client.query({ text: "update item set name = name" });
      return on.read(request, "select name from item");
    });
  };

  it.each([
    [1, 1],
    [1, 2],
    [2, 2],
    [4, 4],
  ])("gets it, even beside others of its tenant: poolSize %s, poolReserve %s", async (size, reserve) => {
    const own = adaptorOn(database, size, 1_000_000, reserve);
    try {
      // They update one row, so all but one also wait for each other in PostgreSQL.
      const answers = Array.from({ length: 10 }, () => nested(own, "sha"));
      expect(await Promise.all(answers)).toEqual(answers.map(() => [{ name: "sha" }]));
      expect(own.sessions.stats).toMatchObject({ waiting: 0, idle: own.sessions.stats.total });
    } finally {
      await own.close();
    }
  });

  it("gets it beside other tenants' requests, as long as there is one connection more than they hold", async () => {
    const own = adaptorOn(database, 2, 1_000_000, 2);
    try {
      const answers = tenants
        .slice(0, 2)
        .flatMap((tenant) => Array.from({ length: 5 }, () => nested(own, tenant)));
      expect(await Promise.all(answers)).toHaveLength(10);
    } finally {
      await own.close();
    }
  });

  it("gets the pool's last one if that is free, even without a reserve", async () => {
    const own = adaptorOn(database, 2);
    try {
      expect(await served("shb", own)).toEqual([{ name: "shb" }]);
      expect(await nested(own, "sha")).toEqual([{ name: "sha" }]);
    } finally {
      await own.close();
    }
  });

  it("fails at once with NO_CAPACITY if there can be none, and keeps nobody else from theirs", async () => {
    const own = adaptorOn(database, 1);
    try {
      await expect(nested(own, "sha")).rejects.toMatchObject({
        code: "NO_CAPACITY",
        message: expect.stringMatching(/every connection is held/),
      });
      expect(await served("shb", own)).toEqual([{ name: "shb" }]);
      expect(own.sessions.stats).toMatchObject({ total: 1, idle: 1, waiting: 0 });
    } finally {
      await own.close();
    }
  });
});
