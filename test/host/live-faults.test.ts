/** Live queries while parts of the host fail: whatever happens, the last result is that of the last change, and no write is sent twice. */
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { TestHost } from "../support/host.ts";
import { type DatabaseProxy, openProxy } from "../support/host-proxy.ts";
import { createLiveDatabase, type LiveDatabase, liveQuery } from "../support/live-database.ts";
import { LiveSocket } from "../support/live-sockets.ts";

const preset = fileURLToPath(new URL("../support/host-preset.ts", import.meta.url));
const realtime = {
  poll: "20ms",
  minInterval: "10ms",
  ping: "1s",
  initTimeout: "5m",
  tenantConnections: 250,
  tenantSubscriptions: 20,
  connectionSubscriptions: 50,
};
let database: LiveDatabase;
let proxy: DatabaseProxy;
let host: TestHost;
/** Of the same tenants, but from its config, and with bob without subscriptions. */
let other: TestHost;
const sockets: LiveSocket[] = [];

function socket(tenant: string, of = host): LiveSocket {
  const made = new LiveSocket(of, tenant);
  sockets.push(made);
  return made;
}

let made = 0;
/** Commits a change of the tenant; returns what shows it. */
async function change(tenant: string): Promise<string> {
  made += 1;
  const label = `canary_${tenant} made ${made}`;
  await database.change(tenant, `insert into item (label) values ('${label}')`);
  return label;
}

/** An event stream, of which only the text matters. */
async function stream(path: string, options: RequestInit, tenant: string, of = host) {
  const leave = new AbortController();
  const answer = await fetch(`${of.url}${path}`, {
    ...options,
    headers: { "x-tenant": tenant, accept: "text/event-stream", ...options.headers },
    signal: leave.signal,
  });
  let text = "";
  const read = async (): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) text += decoder.decode(chunk, { stream: true });
    host.sentinel.see(tenant, text);
  };
  const ended = read().catch(() => {});
  return { status: answer.status, ended, leave: () => leave.abort(), text: () => text };
}
const post = (query: string): RequestInit => ({
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ query }),
});
const asked = (query: string): string => `/graphql?${new URLSearchParams({ query })}`;

beforeAll(async () => {
  database = await createLiveDatabase("live_faults", "ada", "bob", "eve");
  await database.grant();
  proxy = await openProxy(database.hostUrl);
  for (const { id, schemas, roles } of database.tenants) {
    await database.query("insert into rowhouse.tenant (id, schemas, roles) values ($1, $2, $3)", [
      id,
      JSON.stringify(Object.entries(schemas).map(([logical, physical]) => ({ logical, physical }))),
      JSON.stringify(roles),
    ]);
  }
  const common = { pooling: true, preset, limits: { addressConnections: 1_000 } };
  const start = (url: string, more: object): Promise<TestHost> =>
    TestHost.start({ config: { databases: { main: { url, install: false } }, ...common, ...more } });
  host = await start(proxy.through(database.hostUrl), { tenants: { table: { database: "main" } }, realtime });
  const [ada, bob] = database.tenants;
  other = await start(database.hostUrl, { tenants: [ada, { ...bob, realtime: false }], realtime });
});

afterEach(async () => {
  for (const each of sockets.splice(0)) each.raw.terminate();
  await expect.poll(() => host.metric("realtime_subscriptions")).toBe(0);
});

afterAll(async () => {
  await host.stop();
  await other.stop();
  await proxy.close();
  await database.drop();
});

describe("a live query goes on", () => {
  it("on every host of its database, over evictions and changes of the schema among the changes of its rows", async () => {
    const both = await Promise.all([socket("ada").init(), socket("ada", other).init()]);
    for (const each of both) each.subscribe("1");
    await Promise.all(both.map((each) => each.count(1)));
    let last = "";
    for (let round = 1; round <= 12; round += 1) {
      last = await change("ada");
      if (round % 4 === 1) await host.adminJson("/evict", { tenant: "ada" });
      if (round % 4 === 2) await database.change("ada", `alter table item add column extra_${round} int`);
      if (round % 4 === 3) await other.adminJson("/flush", {});
    }
    await Promise.all(both.map((each) => each.shows(last)));
    for (const { messages } of both) expect(messages.every(({ type }) => type === "next")).toBe(true);
  });

  it("when its thread dies in the middle of a run, and so does the next one", async () => {
    const ada = await socket("ada").init();
    ada.subscribe("1");
    ada.subscribe("slow", "query @live { slow(seconds: 0.3) allItems { nodes { label } } }");
    await ada.count(2);
    const crashes = 'cell_terminations_total{reason="crashed"}';
    const before = await host.metric(crashes);
    await change("ada");
    await database.asleep();
    // It is sent once more, to another thread.
    const killing = host.graphql("ada", '{ endless(kind: "exit") }');
    await expect.poll(() => host.metric(crashes), { timeout: 20_000 }).toBeGreaterThan(before);
    await killing;
    const last = await change("ada");
    await Promise.all([ada.shows(last), ada.shows(last, "slow")]);
    expect(ada.messages.every(({ type }) => type === "next")).toBe(true);
  });

  it("when the database cannot be reached for a while, with what was changed meanwhile; one that begins then waits for it", async () => {
    const ada = await socket("ada").init();
    ada.subscribe("1");
    await ada.count(1);
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name ~ '^rowhouse:.*front'",
    );
    await ada.shows(await change("ada"));
    await proxy.cut();
    const last = await change("ada");
    ada.subscribe("2", `${liveQuery} # another one`);
    // With each the host asks whether they may stay, which it cannot know.
    for (let pings = 0; pings < 2; pings += 1) await once(ada.raw, "ping");
    await proxy.restore();
    await Promise.all([ada.shows(last), ada.shows(last, "2")]);
    expect(ada.messages.every(({ type }) => type === "next")).toBe(true);
  });
});

it("subscribers who come at once share their first runs, and none is refused for it", async () => {
  const all = await Promise.all(Array.from({ length: 8 }, () => socket("bob").init()));
  const before = await host.metric("realtime_runs_total");
  for (const each of all) for (let id = 1; id <= 50; id += 1) each.subscribe(String(id));
  await Promise.all(all.map((each) => each.count(50)));
  expect((await host.metric("realtime_runs_total")) - before).toBeLessThan(50);
  expect(await host.metric("realtime_executions")).toBe(1);
  const last = await change("bob");
  await Promise.all(all.flatMap((each) => [each.shows(last, "1"), each.shows(last, "50")]));
  expect(all.flatMap(({ messages }) => messages).filter(({ type }) => type !== "next")).toEqual([]);
});

it("sockets that do not introduce themselves keep neither their tenant's others nor another tenant's out", async () => {
  const early = await Promise.all(Array.from({ length: 220 }, () => socket("ada").open()));
  expect(await host.metric('realtime_connections{transport="websocket"}')).toBeLessThanOrEqual(220);
  await socket("bob").init();
  await expect
    .poll(() => host.metric('realtime_connections{transport="websocket"}'))
    .toBeLessThanOrEqual(201);
  expect((await Promise.race(early.map(({ closed }) => closed))).code).toBe(4408);
  await socket("ada").init();
  expect(await host.metric('realtime_closed_total{code="4408"}')).toBeGreaterThanOrEqual(20);
});

it("a tenant that is removed has its sockets closed and its streams ended", async () => {
  const [eve, idle] = await Promise.all([socket("eve").init(), socket("eve").init()]);
  eve.subscribe("1");
  await eve.count(1);
  const sse = await stream("/graphql", post(liveQuery), "eve");
  await expect.poll(sse.text).toContain("event: next");
  await database.query("delete from rowhouse.tenant where id = 'eve'");
  const gone = { code: 4401, reason: "TENANT_UNKNOWN" };
  expect(await Promise.all([eve.closed, idle.closed])).toEqual([gone, gone]);
  await sse.ended;
  expect(sse.text()).toMatch(/TENANT_UNKNOWN.*event: complete/s);
});

describe("what a client may ask for", () => {
  it("is no subscription in a request, which would go on until its deadline", async () => {
    for (const query of ["subscription { a }", "query a { allItems { totalCount } } subscription b { c }"]) {
      const answer = await host.graphql("ada", query);
      expect(answer).toMatchObject({ status: 400, code: "BAD_REQUEST" });
    }
  });

  it("is nothing to subscribe to where its tenant has realtime: false", async () => {
    const sse = await stream("/graphql", post(liveQuery), "bob", other);
    await sse.ended;
    expect(sse.status).toBe(400);
    expect(sse.text()).toMatch(/This tenant has no subscriptions/);
    expect((await socket("bob", other).closed).code).toBe(400);
    expect((await other.graphql("bob", "{ allItems { totalCount } }")).status).toBe(200);
  });

  it("are live queries by GET, as EventSource does; a mutation is refused, and so is another site's page", async () => {
    const query = asked(liveQuery);
    const live = await stream(query, {}, "ada");
    const last = await change("ada");
    await expect.poll(live.text).toContain(last);
    live.leave();
    const written = await stream(
      asked('mutation { addItem(input: { label: "canary_ada by GET" }) { result { label } } }'),
      {},
      "ada",
    );
    await written.ended;
    expect(written.text()).toMatch(/"BAD_REQUEST".*event: complete/s);
    expect(await database.query("select from canary_ada.item where label like '%by GET'")).toEqual([]);
    const foreign = await stream(query, { headers: { origin: "https://foe.example", cookie: "a=b" } }, "ada");
    foreign.leave();
    expect(foreign.status).toBe(403);
    expect((await stream(`${query}&variables=x`, {}, "ada")).status).toBe(400);
  });
});

it("a mutation beside a live query is completed before a host that ends closes their socket", async () => {
  const ending = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: database.tenants.filter(({ id }) => id === "ada"),
      realtime,
    },
  });
  const ada = await socket("ada", ending).init();
  ada.subscribe("1");
  await ada.count(1);
  await database.change(
    "ada",
    `create function slow_add(label text) returns text language plpgsql volatile as $$
     begin perform pg_sleep(1); insert into item (label) values (slow_add.label); return label; end $$`,
  );
  await ending.adminJson("/flush", {});
  ada.subscribe("m", 'mutation { slowAdd(input: { label: "canary_ada slowly" }) { result } }');
  await database.asleep();
  const stopped = ending.stop();
  expect(await ada.closed).toEqual({ code: 1001, reason: "SHUTTING_DOWN" });
  await stopped;
  expect(ada.messages.filter(({ id }) => id === "m")).toMatchObject([
    { type: "next", payload: { data: { slowAdd: { result: "canary_ada slowly" } } } },
    { type: "complete" },
  ]);
  expect(await database.query("select from canary_ada.item where label = 'canary_ada slowly'")).toHaveLength(
    1,
  );
});
