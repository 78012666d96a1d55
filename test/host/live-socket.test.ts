/** Live queries over WebSockets: the protocol of graphql-ws, its official client, and sockets that misbehave. */
import { createClient, type Client as OfficialClient } from "graphql-ws";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { AuthHost } from "../support/auth-host.ts";
import { type AuthTenant, authTenant, dropRoles } from "../support/auth-tenants.ts";
import { TestHost } from "../support/host.ts";
import { createLiveDatabase, type LiveDatabase, liveQuery } from "../support/live-database.ts";
import { LiveSocket, labelsOf, socketProtocol as protocol } from "../support/live-sockets.ts";

const auth = new AuthHost();
let database: LiveDatabase;
let host: TestHost;
let cat: AuthTenant;
const sockets: Socket[] = [];
const clients: OfficialClient[] = [];

/** A socket of a tenant that is gone after the test. */
class Socket extends LiveSocket {
  constructor(tenant: string, headers?: Record<string, string>, protocols?: string | string[]) {
    super(host, tenant, headers, protocols);
    sockets.push(this);
  }
}

beforeAll(async () => {
  database = await createLiveDatabase("live_socket", "ada", "bob");
  cat = await authTenant(database, "cat");
  await database.change("cat", "select rowhouse.watch('item'::regclass)");
  await database.grant();
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [...database.tenants, { ...cat, jwt: { secret: auth.own, audience: "acme" } }],
      pooling: true,
      realtime: {
        poll: "20ms",
        minInterval: "10ms",
        ping: "200ms",
        initTimeout: "500ms",
        tenantConnections: 5,
        connectionSubscriptions: 3,
        origins: ["https://friend.example"],
      },
    },
    connected: database.connected,
  });
});

afterEach(async () => {
  for (const each of clients.splice(0)) await each.dispose();
  for (const each of sockets.splice(0)) each.raw.terminate();
  await expect.poll(() => host.metric("realtime_subscriptions")).toBe(0);
});

afterAll(async () => {
  await host.stop();
  await dropRoles(database);
  await database.drop();
});

describe("a socket", () => {
  it("hears of its own tenant's changes on each of its subscriptions, until it completes them", async () => {
    const ada = await new Socket("ada").init();
    const bob = await new Socket("bob").init();
    ada.subscribe("all");
    ada.subscribe("one", "query @live { itemByRowId(rowId: 1) { label } }");
    bob.subscribe("all");
    await Promise.all([ada.count(2), bob.count(1)]);
    await database.change("ada", "insert into item (label) values ('canary_ada socket')");
    await ada.count(3);
    expect(ada.messages[2]).toMatchObject({ id: "all", type: "next" });
    expect(labelsOf(ada.messages[2])).toContain("canary_ada socket");
    ada.send({ type: "complete", id: "all" }, { type: "ping" });
    await ada.count(4);
    await database.change(
      "ada",
      "delete from item where id > 3; update item set label = 'canary_ada uno' where id = 1",
    );
    await ada.count(5);
    expect(ada.messages.slice(3)).toMatchObject([
      { type: "pong" },
      { id: "one", payload: { data: { itemByRowId: { label: "canary_ada uno" } } } },
    ]);
    await database.change("ada", "update item set label = 'canary_ada one' where id = 1");
    expect(JSON.stringify(bob.messages)).not.toContain("canary_ada");
    expect(bob.messages).toHaveLength(1);
  });

  it("gets one result of a mutation, and errors of an invalid operation, and goes on", async () => {
    const ada = await new Socket("ada").init();
    ada.subscribe(
      "m",
      'mutation { addItem(input: { label: "canary_ada once", mood: calm }) { result { label } } }',
    );
    await ada.count(2);
    expect(ada.messages).toMatchObject([
      { id: "m", type: "next", payload: { data: { addItem: { result: { label: "canary_ada once" } } } } },
      { id: "m", type: "complete" },
    ]);
    ada.subscribe("m", "{ nothing }");
    await ada.count(3);
    expect(ada.messages[2]).toMatchObject({
      id: "m",
      type: "error",
      payload: [{ message: expect.any(String) }],
    });
    for (const id of ["a", "b", "c", "d"]) ada.subscribe(id);
    await ada.count(7);
    expect(ada.messages.find(({ id }) => id === "d")).toMatchObject({
      type: "error",
      payload: [{ extensions: { code: "TENANT_BUSY" } }],
    });
    await database.change("ada", "delete from item where id > 3");
  });

  it.each<[string, number, object[]]>([
    ["text that is no message", 4400, [{ type: "nothing" }]],
    [
      "a subscription without a query",
      4400,
      [{ type: "connection_init" }, { type: "subscribe", id: "1", payload: {} }],
    ],
    [
      "a subscription before it introduces itself",
      4401,
      [{ type: "subscribe", id: "1", payload: { query: liveQuery } }],
    ],
    ["a second introduction", 4429, [{ type: "connection_init" }, { type: "connection_init" }]],
    ["no introduction", 4408, []],
    [
      "a token that is not taken",
      4401,
      [{ type: "connection_init", payload: { authorization: "Bearer x" } }],
    ],
  ])("is closed for %s", async (_, code, messages) => {
    const socket = await new Socket("ada").open();
    socket.send(...messages);
    expect((await socket.closed).code).toBe(code);
  });

  it("is closed for an id that is in use", async () => {
    const socket = await new Socket("ada").init();
    socket.subscribe("1");
    socket.subscribe("1");
    expect((await socket.closed).code).toBe(4409);
  });

  it.each<[string, number, string, Record<string, string>, string]>([
    ["an unknown tenant", 404, "nobody", {}, protocol],
    ["an invalid token in the head", 401, "cat", { authorization: "Bearer x.y.z" }, protocol],
    ["another protocol", 400, "ada", {}, "graphql-ws"],
    [
      "a page of another site with credentials",
      403,
      "ada",
      { origin: "https://foe.example", cookie: "a=b" },
      protocol,
    ],
  ])("is refused before it opens: %s", async (_, status, tenant, headers, offered) => {
    expect((await new Socket(tenant, headers, offered).closed).code).toBe(status);
  });

  it("may be opened by pages of other sites without credentials, and by those that are listed", async () => {
    await new Socket("ada", { origin: "https://foe.example" }).init();
    await new Socket("ada", { origin: "https://friend.example", cookie: "a=b" }).init();
  });

  it("is closed when its token expires, also without a subscription", async () => {
    const token = await auth.sign({ exp: Math.floor(Date.now() / 1000) + 3 });
    const idle = await new Socket("cat").init({ Authorization: `Bearer ${token}` });
    const busy = await new Socket("cat").init({ authorization: `Bearer ${token}` });
    busy.subscribe("1");
    expect(await Promise.all([idle.closed, busy.closed])).toEqual([
      { code: 4403, reason: "TOKEN_EXPIRED" },
      { code: 4403, reason: "TOKEN_EXPIRED" },
    ]);
  });

  it("beyond the limit of its tenant is refused, until another one closes", async () => {
    const five = await Promise.all([1, 2, 3, 4, 5].map(() => new Socket("ada").init()));
    expect((await new Socket("ada").closed).code).toBe(503);
    await new Socket("bob").init();
    five[0]?.raw.close();
    await five[0]?.closed;
    await expect
      .poll(async () => {
        const socket = new Socket("ada");
        return Promise.race([socket.open().then(() => "open"), socket.closed.then(({ code }) => code)]);
      })
      .toBe("open");
  });

  it("that does not read is given up, and its neighbours hear on time", async () => {
    await database.change(
      "ada",
      "insert into item (label) select 'canary_ada ' || repeat('x', 4000) from generate_series(1, 400)",
    );
    const slow = await new Socket("ada").init();
    const quick = await new Socket("ada").init();
    slow.raw.pause();
    slow.subscribe("1");
    quick.subscribe("1");
    await quick.count(1);
    for (let round = 2; round <= 6; round += 1) {
      await database.change("ada", `update item set label = 'canary_ada ${round}' where id = 1`);
      await quick.count(round);
    }
    await expect.poll(() => host.metric("realtime_subscriptions")).toBe(1);
    await database.change(
      "ada",
      "delete from item where id > 3; update item set label = 'canary_ada one' where id = 1",
    );
  });

  it("works with the official client", async () => {
    const client = createClient({
      url: `${host.url.replace("http", "ws")}/graphql`,
      webSocketImpl: class extends WebSocket {
        constructor(url: string, protocols: string) {
          super(url, protocols, { headers: { "x-tenant": "bob" } });
        }
      },
    });
    clients.push(client);
    const results = client.iterate({ query: liveQuery });
    const first = await results.next();
    await database.change("bob", "insert into item (label) values ('canary_bob client')");
    const second = await results.next();
    expect(JSON.stringify(first.value)).not.toContain("client");
    expect(JSON.stringify(second.value)).toContain("canary_bob client");
    await results.return?.();
    await database.change("bob", "delete from item where id > 3");
  });
});

it("a host that ends closes its sockets with 1001, and goes at once", async () => {
  const other = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: database.tenants,
      realtime: true,
    },
  });
  const first = host;
  host = other;
  const [idle, busy] = [await new Socket("ada").init(), await new Socket("bob").init()];
  busy.subscribe("1");
  await busy.count(1);
  const stopped = other.stop();
  expect(await Promise.all([idle.closed, busy.closed])).toEqual([
    { code: 1001, reason: "SHUTTING_DOWN" },
    { code: 1001, reason: "SHUTTING_DOWN" },
  ]);
  await stopped;
  host = first;
});
