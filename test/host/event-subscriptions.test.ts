/** `Subscription` fields: a client hears all events of its own tenant's topics, in order, whatever becomes of cells and schemas. */
import type { Client } from "graphql-ws";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { AuthHost } from "../support/auth-host.ts";
import { type AuthTenant, authTenant, dropRoles } from "../support/auth-tenants.ts";
import { TestHost } from "../support/host.ts";
import { subscriptionPresetFile } from "../support/host-files.ts";
import { createLiveDatabase, type LiveDatabase, liveQuery } from "../support/live-database.ts";
import { clientOf, type Result, Subscribed, type Transport } from "../support/subscribed.ts";

const auth = new AuthHost();
let database: LiveDatabase;
let cat: AuthTenant;
let host: TestHost;
const clients: { dispose(): unknown }[] = [];

/** Subscribes with the official client; resolves when the host has run the operation. */
async function subscribe(
  tenant: string,
  query: string,
  {
    transport = "a WebSocket",
    at = host,
    variables = {},
    token,
  }: { transport?: Transport; at?: TestHost; variables?: Record<string, unknown>; token?: string } = {},
): Promise<Subscribed> {
  const subscribed = new Subscribed();
  const client = clientOf(at, tenant, subscribed, { transport, token });
  clients.push(client);
  const before = await at.metric("realtime_executions");
  subscribed.leave = client.subscribe(
    { query, variables },
    {
      next: (result: Result) => {
        at.sentinel.see(tenant, JSON.stringify(result));
        subscribed.results.push(result);
      },
      error: (error) => {
        subscribed.error = error;
      },
      complete: () => {
        subscribed.completed = true;
      },
    },
  );
  await expect
    .poll(async () => subscribed.error !== null || (await at.metric("realtime_executions")) > before)
    .toBe(true);
  return subscribed;
}

const publish = (tenant: string, topic: string, ...payloads: readonly string[]): Promise<void> =>
  database.change(
    tenant,
    payloads.map((payload) => `select rowhouse.publish('${topic}', '${payload}')`).join("; "),
  );

const heard = (topic: string, more = ""): string =>
  `subscription { heard(topic: "${topic}") { payload ${more} } }`;
const numbers = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => String(from + index));

beforeAll(async () => {
  database = await createLiveDatabase("event_subscriptions", "ada", "bob", "eve");
  cat = await authTenant(database, "cat");
  await database.grant();
  await database.execute("create schema common");
  await database.execute(
    "grant usage on schema rowhouse, common to public; grant execute on function rowhouse.publish to public",
  );
  host = await start(true);
});

/** A host whose poller has settled, and goes on: transactions of before its first subscriber, in whatever database, may cut others off. */
async function start(pooling: boolean, requestTimeout = "10s"): Promise<TestHost> {
  const made = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [
        ...database.tenants.map((tenant) => ({ ...tenant, sharedSchemas: ["common"] })),
        { ...cat, jwt: { secret: auth.own, audience: "acme" } },
      ],
      pooling,
      preset: subscriptionPresetFile,
      limits: { requestTimeout },
      realtime: { poll: "20ms", ping: "500ms" },
      cells: { memoryMb: 900, heapMb: 160, max: 2 },
    },
    connected: database.connected,
  });
  const kept = await fetch(`${made.url}/graphql`, {
    method: "POST",
    headers: { "x-tenant": "eve", "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify({ query: liveQuery }),
  });
  void kept.text().catch(() => {});
  const reaches = (name: string, value: number): Promise<void> =>
    vi.waitFor(async () => expect(await made.metric(name)).toBeGreaterThanOrEqual(value), {
      timeout: 20_000,
    });
  await reaches("realtime_executions", 1);
  await database.settled();
  await reaches("realtime_poll_seconds_count", 2 + (await made.metric("realtime_poll_seconds_count")));
  return made;
}

afterEach(async () => {
  for (const each of clients.splice(0)) await each.dispose();
  await expect.poll(() => host.metric("realtime_subscriptions")).toBe(1);
});

afterAll(async () => {
  await host.stop();
  await dropRoles(database);
  await database.drop();
});

describe.each(["a WebSocket", "server-sent events"] as const)("over %s", (transport) => {
  it("two tenants of one blueprint hear their own events of a topic of the same name, each in order", async () => {
    const ada = await subscribe("ada", heard("news", "item { label }"), { transport });
    const bob = await subscribe("bob", heard("news", "item { label }"), { transport });
    for (let n = 1; n <= 3; n += 1) {
      await publish("ada", "news", String(n), String(n));
      await publish("bob", "news", String(n));
      await publish("ada", "other", "4");
    }
    await Promise.all([ada.count(6), bob.count(3)]);
    const labels = ({ results }: Subscribed): string[] => results.map(({ data }) => data.heard.item.label);
    expect(ada.payloads).toEqual(["1", "1", "2", "2", "3", "3"]);
    expect(labels(ada)).toEqual(
      ["one", "one", "two", "two", "three", "three"].map((word) => `canary_ada ${word}`),
    );
    expect(labels(bob)).toEqual(["one", "two", "three"].map((word) => `canary_bob ${word}`));
  });
});

describe("a subscription", () => {
  it("hears of changes of watched tables, and only of those that are committed", async () => {
    const ada = await subscribe("ada", heard("item"));
    await database.change("bob", "update item set label = label");
    await database.execute(`begin; set local search_path = canary_ada;
      savepoint s; update item set mood = 'calm' where id = 1; rollback to s;
      update item set mood = mood where id = 2; commit`);
    await publish("ada", "item", "last");
    await ada.count(2);
    expect(ada.payloads.map((payload) => (payload === "last" ? payload : JSON.parse(payload)))).toEqual([
      { op: "UPDATE", by: ["id"], keys: [["2"]] },
      "last",
    ]);
  });

  it("hears nothing that others forge: foreign schemas, shared schemas, notifications", async () => {
    const ada = await subscribe("ada", heard("news"));
    const [adas, bobs] = database.tenants.map(({ roles }) => roles.anonymous);
    const asBob = (sql: string): Promise<void> =>
      database.execute(
        `set local role "${bobs}"; set local search_path = canary_bob, common; ${sql}; reset role`,
      );
    await expect(asBob("select rowhouse.publish('news', 'forged', 'canary_ada')")).rejects.toThrow(
      /may not publish/,
    );
    await expect(
      asBob(
        "set local search_path = canary_ada, common; select rowhouse.publish('news', 'forged', 'canary_ada')",
      ),
    ).rejects.toThrow(/may not publish/);
    await asBob("select rowhouse.publish('news', 'forged', 'common')");
    await asBob(
      "set local search_path = canary_ada, common; select rowhouse.publish('news', 'forged')",
    ).catch(() => {});
    await asBob("notify news, 'forged'; select pg_notify('canary_ada:news', 'forged')");
    await database.execute(
      `set local role "${adas}"; set local search_path = canary_ada; select rowhouse.publish('news', 'own'); reset role`,
    );
    await ada.count(1);
    expect(ada.payloads).toEqual(["own"]);
  });

  it("runs as its subscriber, may begin with an event, and shares its runs with equal requests", async () => {
    const [role] = database.tenants.map(({ roles }) => roles.anonymous);
    const greeted = await subscribe("ada", 'subscription { greeted(topic: "t") { payload role } }');
    const own = await subscribe("ada", "subscription { channel { payload } }");
    const first = await subscribe("ada", heard("t"));
    const before = await host.metric("realtime_executions");
    const second = new Subscribed();
    const client = clientOf(host, "ada", second);
    clients.push(client);
    const ran = await host.metric("realtime_runs_total");
    client.subscribe(
      { query: heard("t"), variables: {} },
      { next: (result: Result) => void second.results.push(result), error: () => {}, complete: () => {} },
    );
    await expect.poll(() => host.metric("realtime_runs_total")).toBe(ran + 1);
    expect(await host.metric("realtime_executions")).toBe(before);
    await publish("ada", "t", "1");
    await publish("ada", `of ${role}`, "2");
    await Promise.all([greeted.count(2), own.count(1), first.count(1), second.count(1)]);
    expect(greeted.results).toEqual([
      { data: { greeted: { payload: "hello", role } } },
      { data: { greeted: { payload: "1", role } } },
    ]);
    expect([own.payloads, first.payloads, second.payloads]).toEqual([["2"], ["1"], ["1"]]);
    // One for both.
    expect(await host.metric("realtime_runs_total")).toBe(ran + 4);
  });

  it("has its subscriber's rights at each event, shares with nobody of other claims, and ends with its token", async () => {
    const query = heard("note", 'asked(sql: "select body from note where id = $1::integer")');
    const tokens = await Promise.all([
      auth.sign({ user_id: 1 }),
      auth.sign({ user_id: 2, exp: Math.floor(Date.now() / 1000) + 4 }),
    ]);
    const [one, two] = [
      await subscribe("cat", query, { token: tokens[0] }),
      await subscribe("cat", query, { token: tokens[1] }),
    ];
    await publish("cat", "note", "1", "2");
    await Promise.all([one.count(2), two.count(2)]);
    const notes = ({ results }: Subscribed): string[] => results.map(({ data }) => data.heard.asked);
    expect(notes(one)).toEqual(["canary_cat note of 1", null]);
    expect(notes(two)).toEqual([null, "canary_cat note of 2"]);
    await expect.poll(() => two.closes).toEqual([{ code: 4403, reason: "TOKEN_EXPIRED" }]);
    await publish("cat", "note", "1");
    await one.count(3);
    expect(two.results).toHaveLength(2);
  });

  it("goes on after a result with an error", async () => {
    const ada = await subscribe("ada", 'subscription { failing(topic: "t") { payload } }');
    await publish("ada", "t", "fail", "fine");
    await ada.count(2);
    expect(ada.results).toMatchObject([
      { data: { failing: null }, errors: [{ message: "failed as asked", path: ["failing"] }] },
      { data: { failing: { payload: "fine" } } },
    ]);
  });

  it("takes no topic from a client that PostgreSQL cannot store, and still hears the others", async () => {
    const topics = ["\0", "\ud800", "x".repeat(256), ""];
    const odd = await Promise.all(
      topics.map((topic) =>
        subscribe("ada", "subscription($topic: String!) { heard(topic: $topic) { payload } }", {
          variables: { topic },
        }),
      ),
    );
    const ada = await subscribe("ada", heard("Grüße €"));
    await publish("ada", "Grüße €", "1");
    await ada.count(1);
    expect(odd.map(({ error }) => error)).toEqual([null, null, null, null]);
  });
});

describe("no event is lost, doubled or out of order", () => {
  it("over evictions, flushes and changes of the schema", async () => {
    const ada = await subscribe("ada", heard("n", "role(after: 0.02) item { label }"));
    const bob = await subscribe("bob", heard("n", "item { label }"));
    const ways = [
      () => host.adminJson("/evict", { tenant: "ada" }),
      () => host.adminJson("/flush", {}),
      () => database.change("ada", "alter table item add more text"),
      () => database.change("ada", "alter table item drop more"),
    ];
    let n = 0;
    for (const way of ways) {
      for (let round = 0; round < 3; round += 1) {
        await publish("ada", "n", ...numbers(n + 1, 10));
        await publish("bob", "n", ...numbers(n + 1, 10));
        n += 10;
        if (round === 0) await way();
      }
    }
    await Promise.all([ada.count(n), bob.count(n)]);
    await publish("ada", "n", "last");
    await ada.count(n + 1);
    expect(ada.payloads).toEqual([...numbers(1, n), "last"]);
    expect(bob.payloads).toEqual(numbers(1, n));
    expect([...ada.closes, ...bob.closes]).toEqual([]);
  });

  it("over the death of the thread in the middle of a batch", async () => {
    const ada = await subscribe("ada", heard("n", "role(after: 0.05)"));
    await publish("ada", "n", ...numbers(1, 40));
    await database.asleep();
    const killed = host.graphql("bob", "{ exit }");
    await host.process.line("cell.terminated");
    await publish("ada", "n", ...numbers(41, 5));
    await killed;
    await ada.count(45);
    expect(ada.payloads).toEqual(numbers(1, 45));
  });

  it("where a transaction has a thousand, their results are long, and a neighbour listens to nothing and never ends", async () => {
    const forEver = new Subscribed();
    const client = clientOf(host, "ada", forEver);
    clients.push(client);
    client.subscribe(
      { query: "subscription { forEver { payload } }" },
      {
        next: () => {},
        error: (error) => {
          forEver.error = error;
        },
        complete: () => {},
      },
    );
    const ada = await subscribe("ada", heard("n"));
    const long = await subscribe("ada", heard("n", "long(length: 100000)"));
    await database.change(
      "ada",
      "select count(rowhouse.publish('n', n::text)) from generate_series(1, 1000) n",
    );
    await Promise.all([ada.count(1000), long.count(1000)]);
    expect(ada.payloads).toEqual(numbers(1, 1000));
    expect(long.payloads).toEqual(numbers(1, 1000));
    await expect.poll(() => forEver.error).toMatchObject([{ extensions: { code: "DEADLINE" } }]);
  });
});

describe("a subscriber is never told a part in silence", () => {
  it("whose topic has become another one, which SQL had chosen, subscribes anew", async () => {
    const ada = await subscribe("ada", "subscription { named { payload } }");
    await publish("ada", "canary_ada one", "1");
    await ada.count(1);
    await database.change("ada", "update item set label = 'canary_ada uno' where id = 1");
    await publish("ada", "canary_ada one", "2");
    await expect.poll(() => ada.closes).toEqual([{ code: 1012, reason: "EVENTS_LOST" }]);
    expect(ada.payloads).toEqual(["1"]);
    await database.change("ada", "update item set label = 'canary_ada one' where id = 1");
  });

  it("that is behind by more than is kept for it subscribes anew", async () => {
    const ada = await subscribe("ada", heard("n", "role(after: 0.5)"));
    const bob = await subscribe("bob", heard("n"));
    for (let round = 0; round < 3; round += 1) {
      await database.change(
        "ada",
        "select count(rowhouse.publish('n', n::text)) from generate_series(1, 1000) n",
      );
    }
    await expect.poll(() => ada.closes).toEqual([{ code: 1012, reason: "EVENTS_LOST" }]);
    await publish("bob", "n", "1");
    await bob.count(1);
    expect(bob.closes).toEqual([]);
  });
});

it("a change of the schema ends the operation that it breaks, and no other of the socket", async () => {
  await database.change("ada", "alter table item add gone text");
  const results = { broken: new Subscribed(), fine: new Subscribed() };
  const client = clientOf(host, "ada", results.fine);
  clients.push(client);
  const begin = (subscribed: Subscribed, query: string): void => {
    (client as Client).subscribe(
      { query },
      {
        next: (result) => void subscribed.results.push(result),
        error: (error) => {
          subscribed.error = error;
        },
        complete: () => {},
      },
    );
  };
  const before = await host.metric("realtime_executions");
  begin(results.broken, heard("n", "item { gone }"));
  begin(results.fine, heard("n"));
  await expect.poll(() => host.metric("realtime_executions")).toBe(before + 2);
  await publish("ada", "n", "1");
  await Promise.all([results.broken.count(1), results.fine.count(1)]);
  await database.change("ada", "alter table item drop gone");
  await publish("ada", "n", "2");
  await results.fine.count(2);
  await expect.poll(() => results.broken.error).toMatchObject([{ message: /Cannot query field "gone"/ }]);
  expect(results.fine.payloads).toEqual(["1", "2"]);
  expect(results.fine.closes).toEqual([]);
});

it("a dedicated instance serves them as a pooled one does, and tells them when its host ends", async () => {
  // Longer than anything here waits for.
  const dedicated = await start(false, "5m");
  let idle = new Subscribed();
  try {
    const ada = await subscribe("ada", heard("n", "item { label }"), { at: dedicated });
    const bob = await subscribe("bob", heard("n", "item { label }"), { at: dedicated });
    await publish("ada", "n", "1");
    await publish("bob", "n", "2");
    await Promise.all([ada.count(1), bob.count(1)]);
    expect(ada.results).toEqual([{ data: { heard: { payload: "1", item: { label: "canary_ada one" } } } }]);
    expect(bob.results).toEqual([{ data: { heard: { payload: "2", item: { label: "canary_bob two" } } } }]);
    const token = await auth.sign({ user_id: 1, exp: Math.floor(Date.now() / 1000) + 4 });
    const expiring = await subscribe("cat", heard("other"), { at: dedicated, token });
    await expect.poll(() => expiring.closes).toEqual([{ code: 4403, reason: "TOKEN_EXPIRED" }]);
    idle = await subscribe("ada", heard("other"), { at: dedicated });
  } finally {
    await dedicated.stop();
  }
  expect(idle.closes).toEqual([{ code: 1001, reason: "SHUTTING_DOWN" }]);
});
