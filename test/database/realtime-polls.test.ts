/** What was committed between two snapshots, each event once, whatever order transactions begin and end in. */
import { randomInt } from "node:crypto";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { installControl } from "../../src/control/install.ts";
import type { Observation } from "../../src/observability/observation.ts";
import { Database } from "../../src/postgres/database.ts";
import { EventPoller, type EventPollerOptions } from "../../src/realtime/event-poller.ts";
import { poll } from "../../src/realtime/event-table.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { settled as ended } from "../support/live-database.ts";
import { pgbouncerVersion, startPgBouncer } from "../support/pgbouncer.ts";

const schemas = ["one", "two", "three", "four"];
let database: TestDatabase;
let front: Database;
const pollers: EventPoller[] = [];
const seen: Observation[] = [];

const connect = (url: string): Database =>
  new Database({
    name: "main",
    url,
    applicationName: "rowhouse:test",
    observe: (observation) => void seen.push(observation),
  });

async function client(): Promise<Client> {
  const made = new Client({ connectionString: database.url });
  await made.connect();
  return made;
}

beforeAll(async () => {
  database = await createDatabase("realtime_polls");
  front = connect(database.url);
  await installControl(front, () => {});
  for (const schema of schemas) {
    await database.execute(
      `create schema ${schema}; create table ${schema}.item (id int primary key, value int); select rowhouse.watch('${schema}.item')`,
    );
  }
});

afterEach(async () => {
  await Promise.all(pollers.splice(0).map((each) => each.close()));
  seen.length = 0;
});

afterAll(async () => {
  await front.close();
  await database.drop();
});

const events = async (): Promise<number> => {
  const [row] = await database.query<{ count: number }>("select count(*)::int as count from rowhouse.event");
  return row?.count ?? -1;
};

function poller(options: Partial<EventPollerOptions> = {}): EventPoller {
  const made = new EventPoller({
    database: front,
    host: `host ${pollers.length}`,
    pollMs: 10,
    retentionMs: 60_000,
    observe: (observation) => void seen.push(observation),
    ...options,
  });
  pollers.push(made);
  return made;
}

/** Counts the calls of a listener. */
function listener(): { calls: number; readonly hear: () => void } {
  const made = {
    calls: 0,
    hear: () => {
      made.calls += 1;
    },
  };
  return made;
}

/** Waits until nothing is under way any more that a poller could have to wait for, on a server that other tests use as well. */
async function settled(): Promise<void> {
  await ended(database);
  const from = polls();
  await expect.poll(polls).toBeGreaterThan(from + 1);
}

const polls = (): number => seen.filter(({ kind }) => kind === "realtime.polled").length;

/** Writes for a schema in transactions of all kinds; returns how many events it committed. */
async function write(schema: string, base: number): Promise<number> {
  const writer = await client();
  let committed = 0;
  let id = base;
  const insert = async (): Promise<void> => {
    id += 1;
    await writer.query(`insert into ${schema}.item values ($1, 0)`, [id]);
  };
  for (let round = 0; round < 40; round += 1) {
    await writer.query("begin");
    await insert();
    const kind = randomInt(4);
    if (kind === 0) {
      await writer.query("savepoint before");
      await insert();
      await writer.query("rollback to before");
    } else if (kind === 1) {
      await writer.query("savepoint before");
      await insert();
      committed += 1;
    } else if (kind === 2) {
      await new Promise((resolve) => setTimeout(resolve, randomInt(20)));
    }
    if (randomInt(3) === 0) {
      await writer.query("rollback");
      committed -= kind === 1 ? 1 : 0;
    } else {
      await writer.query("commit");
      committed += 1;
    }
  }
  await writer.end();
  return committed;
}

/** Polls until `stop`, then once more; returns the events of each schema. */
async function collect(through: Database, stop: { is: boolean }, ready: () => void) {
  let { snapshot } = await poll(through, null, [], null);
  ready();
  const counts: Record<string, number> = {};
  for (let last = false; !last; ) {
    last = stop.is;
    const polled = await poll(through, snapshot, schemas, null);
    snapshot = polled.snapshot;
    for (const [schema, count] of Object.entries(polled.events)) {
      counts[schema] = (counts[schema] ?? 0) + count;
    }
  }
  return counts;
}

async function exactlyOnce(throughUrl: string): Promise<void> {
  await database.query("select rowhouse.register_realtime('test', '1 hour')");
  const through = [connect(throughUrl), connect(throughUrl)];
  const stop = { is: false };
  const ready = through.map(() => Promise.withResolvers<void>());
  const collected = through.map((each, index) => collect(each, stop, () => ready[index]?.resolve()));
  await Promise.all(ready.map(({ promise }) => promise));
  // Open all the time: what it writes is older than everything else, and comes last.
  const long = await client();
  await long.query("begin");
  await long.query("insert into one.item values (-1, 0)");
  const base = randomInt(1_000_000) * 1_000;
  const written = await Promise.all(
    [...schemas, ...schemas].map(async (schema, index) => ({
      schema,
      count: await write(schema, base + index * 100),
    })),
  );
  await long.query("commit");
  await long.query("delete from one.item where id = -1");
  await long.end();
  stop.is = true;
  const expected: Record<string, number> = { one: 2 };
  for (const { schema, count } of written) expected[schema] = (expected[schema] ?? 0) + count;
  expect(await Promise.all(collected)).toEqual([expected, expected]);
  await Promise.all(through.map((each) => each.close()));
  await database.query("select rowhouse.unregister_realtime('test')");
}

describe("polls", () => {
  it("of two hosts each find every committed event once, and none of what was rolled back", async () => {
    await exactlyOnce(database.url);
  });

  it.skipIf(pgbouncerVersion === null)("find the same through PgBouncer in transaction mode", async () => {
    const pooler = await startPgBouncer([database.url]);
    await exactlyOnce(pooler.through(database.url));
    await pooler.close();
  });
});

describe("a poller", () => {
  it("without subscriptions neither polls nor has events written, before the first and after the last", async () => {
    const made = poller();
    await database.execute("insert into one.item values (-10, 0)");
    expect([await events(), polls()]).toEqual([0, 0]);
    const one = listener();
    const end = await made.subscribe(["one"], one.hear);
    await database.execute("update one.item set value = 1 where id = -10");
    await expect.poll(() => one.calls).toBeGreaterThan(0);
    end();
    await expect.poll(() => database.query("select from rowhouse.realtime_host")).toEqual([]);
    const before = polls();
    await database.execute("delete from one.item where id = -10");
    expect(await events()).toBe(0);
    await made.subscribe(["two"], one.hear).then((over) => over());
    expect(polls() - before).toBeLessThan(3);
  });

  it("tells those who subscribed to a schema, once for any number of events, and nobody else", async () => {
    const made = poller();
    const [one, two, both] = [listener(), listener(), listener()];
    await made.subscribe(["one"], one.hear);
    await made.subscribe(["two"], two.hear);
    await made.subscribe(["one", "two"], both.hear);
    await settled();
    const before = [one.calls, two.calls, both.calls];
    await database.execute(
      "insert into one.item values (-20, 0), (-21, 0); insert into two.item values (-20, 0); delete from one.item where id < -19; delete from two.item where id = -20",
    );
    await expect.poll(() => both.calls).toBe((before[2] ?? 0) + 1);
    expect([one.calls, two.calls]).toEqual([(before[0] ?? 0) + 1, (before[1] ?? 0) + 1]);
    await database.execute("insert into three.item values (-20, 0); delete from three.item where id = -20");
    const polled = polls();
    await expect.poll(polls).toBeGreaterThan(polled + 2);
    expect(both.calls).toBe((before[2] ?? 0) + 1);
  });

  it("tells of what a transaction did that began before the host had registered", async () => {
    const early = await client();
    await early.query("begin");
    // Nobody is registered yet: this writes no event.
    await early.query("insert into one.item values (-30, 0)");
    const one = listener();
    await poller().subscribe(["one"], one.hear);
    await early.query("commit");
    await expect.poll(() => one.calls).toBeGreaterThan(0);
    await settled();
    const before = one.calls;
    await early.query("delete from one.item where id = -30");
    await early.end();
    await expect.poll(() => one.calls).toBe(before + 1);
  });

  it("that subscribes again while it ends misses nothing", async () => {
    const made = poller();
    for (let round = 0; round < 20; round += 1) {
      const one = listener();
      const end = await made.subscribe(["one"], one.hear);
      await database.execute(`insert into one.item values (${-100 - round}, 0)`);
      await expect.poll(() => one.calls, { interval: 2 }).toBeGreaterThan(0);
      end();
    }
  });

  it("keeps a long transaction's events longer than the retention, and sweeps the others", async () => {
    const made = poller({ retentionMs: 1_500, sweepMs: 100 });
    const one = listener();
    await made.subscribe(["one"], one.hear);
    const long = await client();
    await long.query("begin");
    await long.query("insert into one.item values (-40, 0)");
    await database.execute("insert into one.item values (-41, 0)");
    await expect.poll(() => one.calls).toBeGreaterThan(0);
    await expect.poll(events).toBe(0);
    const before = one.calls;
    await long.query("commit");
    await expect.poll(() => one.calls).toBeGreaterThan(before);
    await long.end();
    await database.execute("delete from one.item where id < -39");
    await expect.poll(events).toBe(0);
    expect(seen.filter(({ kind }) => kind === "realtime.gap")).toEqual([]);
  });

  it("sweeps what a restore has brought from another server", async () => {
    await poller({ retentionMs: 1_000, sweepMs: 100 }).subscribe(["one"], () => {});
    await database.execute(
      "insert into rowhouse.event (xid, schema_name, topic, payload) values ('1', 'one', 'item', ''), ('999999999999', 'one', 'item', '')",
    );
    await expect.poll(events).toBe(0);
  });

  it("leaves another host the events that it still needs", async () => {
    await database.query("select rowhouse.register_realtime('other', '1 hour')");
    const one = listener();
    const end = await poller({ retentionMs: 1_000, sweepMs: 50 }).subscribe(["one"], one.hear);
    await database.execute("insert into one.item values (-50, 0); delete from one.item where id = -50");
    await expect.poll(() => one.calls).toBeGreaterThan(0);
    const from = polls();
    await expect.poll(polls).toBeGreaterThan(from + 150);
    end();
    await expect
      .poll(() => database.query("select host from rowhouse.realtime_host"))
      .toEqual([{ host: "other" }]);
    expect(await events()).toBe(2);
    await database.query("select rowhouse.unregister_realtime('other')");
    expect(await events()).toBe(0);
  });

  it("goes on after its connection is cut, and misses nothing", async () => {
    const one = listener();
    await poller().subscribe(["one"], one.hear);
    const cut = (): Promise<unknown> =>
      database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'rowhouse:test' and pid <> pg_backend_pid()",
      );
    for (let round = 0; round < 3; round += 1) {
      const before = one.calls;
      await cut();
      await database.execute(`insert into one.item values (${-60 - round}, 0)`);
      await expect.poll(() => one.calls).toBeGreaterThan(before);
    }
    expect(seen.filter(({ kind }) => kind === "realtime.gap")).toEqual([]);
  });

  it("accepts no subscription to a schema before the poll under way has ended that does not look for it", async () => {
    const [second, third] = [listener(), listener()];
    const [reached, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let isHeld = false;
    const query: Database["query"] = async (...given) => {
      if (isHeld && given[0].includes("pg_current_snapshot")) {
        reached.resolve();
        await gate.promise;
      }
      return front.query(...given);
    };
    const made = poller({ database: { name: "main", query } });
    await made.subscribe(["one"], () => {});
    let accepted = 0;
    isHeld = true;
    await reached.promise;
    const subscribing = [second, third].map(async ({ hear }) => {
      await made.subscribe(["four"], hear);
      accepted += 1;
    });
    expect([await database.query("select 1"), accepted]).toEqual([[expect.anything()], 0]);
    gate.resolve();
    await Promise.all(subscribing);
    await database.execute("insert into four.item values (-90, 0)");
    await expect.poll(() => [second.calls > 0, third.calls > 0]).toEqual([true, true]);
  });

  it("that was away for longer than events were written for it tells everybody", async () => {
    const [one, four] = [listener(), listener()];
    const made = poller({ retentionMs: 1_000 });
    await made.subscribe(["one"], one.hear);
    await made.subscribe(["four"], four.hear);
    await database.query("update rowhouse.realtime_host set until = now() - interval '1 second'");
    // Writes no event.
    await database.execute("insert into one.item values (-70, 0)");
    expect(await events()).toBe(0);
    await expect.poll(() => [one.calls > 0, four.calls > 0]).toEqual([true, true]);
    await expect
      .poll(() => seen.find(({ kind }) => kind === "realtime.gap"), { timeout: 20_000 })
      .toMatchObject({ reason: "away" });
  });

  it("tells everybody when the server is another one", async () => {
    const one = listener();
    let other = false;
    const failedOver: EventPollerOptions["database"] = {
      name: "main",
      query: async (text, values, options) => {
        const { rows } = await front.query(text, values, options);
        const [row] = rows;
        if (!other || typeof row !== "object" || row === null || !("server" in row)) return { rows };
        return { rows: [{ ...row, server: "another" }] };
      },
    };
    await poller({ database: failedOver }).subscribe(["one"], one.hear);
    other = true;
    await expect.poll(() => one.calls).toBeGreaterThan(0);
    expect(seen.find(({ kind }) => kind === "realtime.gap")).toMatchObject({ reason: "server" });
  });

  it("refuses a subscription that it cannot register, and accepts the next", async () => {
    let refuses = true;
    const failing: EventPollerOptions["database"] = {
      name: "main",
      query: (text, values, options) =>
        refuses ? Promise.reject(new Error("no connection")) : front.query(text, values, options),
    };
    const made = poller({ database: failing });
    const one = listener();
    await expect(made.subscribe(["one"], one.hear)).rejects.toThrow("no connection");
    refuses = false;
    await expect
      .poll(() =>
        made.subscribe(["one"], one.hear).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    await database.execute("insert into one.item values (-80, 0)");
    await expect.poll(() => one.calls).toBeGreaterThan(0);
  });
});
