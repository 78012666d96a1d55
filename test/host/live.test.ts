/** Live queries over server-sent events: a subscriber hears of its own tenant, as itself, until it may not any more. */
import { createClient } from "graphql-sse";
import { Agent, fetch } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { AuthHost } from "../support/auth-host.ts";
import { type AuthTenant, authTenant, dropRoles } from "../support/auth-tenants.ts";
import { directoryWith, TestHost } from "../support/host.ts";
import { runCli } from "../support/host-process.ts";
import { createTenantDatabase, type TenantDatabase, type TenantRecord } from "../support/host-tenants.ts";

const auth = new AuthHost();
const watched = "select rowhouse.watch('item'::regclass);";
let database: TenantDatabase;
let host: TestHost;
let cat: AuthTenant;
const open: Stream[] = [];
const agent = new Agent({ connections: 200, bodyTimeout: 0 });

interface Message {
  readonly event: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever a host sends.
  readonly data: any;
}

/** A stream and what has come of it. */
class Stream {
  readonly messages: Message[] = [];
  readonly status: number;
  readonly ended: Promise<void>;
  readonly #leave = new AbortController();

  constructor(response: Awaited<ReturnType<typeof fetch>>, leave: AbortController) {
    this.status = response.status;
    this.#leave = leave;
    this.ended = this.#read(response).catch(() => {});
  }

  async #read({ body }: Awaited<ReturnType<typeof fetch>>): Promise<void> {
    let text = "";
    for await (const chunk of body ?? []) {
      text += new TextDecoder().decode(chunk);
      const parts = text.split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const [, event, data] = /^event: (\w+)\ndata:(.*)$/.exec(part) ?? [];
        if (event !== undefined) {
          this.messages.push({ event, data: data?.trim() ? JSON.parse(data) : null });
        }
      }
    }
  }

  get last(): Message | undefined {
    return this.messages.at(-1);
  }

  /** Waits for that many messages. */
  async count(count: number): Promise<readonly Message[]> {
    await expect.poll(() => this.messages.length).toBeGreaterThanOrEqual(count);
    return this.messages;
  }

  leave(): void {
    this.#leave.abort();
  }
}

async function subscribe(
  tenant: string,
  query: string,
  headers: Record<string, string> = {},
  search = "",
): Promise<Stream> {
  const leave = new AbortController();
  const response = await fetch(`${host.url}/graphql${search}`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "text/event-stream",
      "x-tenant": tenant,
      ...headers,
    },
    body: JSON.stringify({ query }),
    dispatcher: agent,
    signal: leave.signal,
  });
  const stream = new Stream(response, leave);
  open.push(stream);
  return stream;
}

const live = "query @live { allItems(orderBy: PRIMARY_KEY_ASC) { nodes { label } } }";
const labels = (message: Message | undefined): string[] =>
  message?.data.data.allItems.nodes.map(({ label }: { label: string }) => label);
const executions = (): Promise<number> => host.metric("realtime_executions");
const runs = (): Promise<number> => host.metric("realtime_runs_total");

beforeAll(async () => {
  database = await createTenantDatabase("live");
  const tenants: TenantRecord[] = [];
  for (const id of ["ada", "bob"]) {
    tenants.push(await database.tenant(id));
    await database.change(id, watched);
  }
  cat = await authTenant(database, "cat");
  await database.change("cat", "select rowhouse.watch('item'::regclass), rowhouse.watch('note'::regclass)");
  const config = { databases: { main: { url: database.url } }, tenants };
  const { path: cwd } = await directoryWith({ "host.json": JSON.stringify(config) });
  const granted = await runCli({
    args: ["install", "--config", "host.json", "--grant", `${database.name}_host`],
    cwd,
  });
  expect(granted, granted.stderr).toMatchObject({ code: 0 });
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [...tenants, { ...cat, jwt: { secret: auth.own, audience: "acme" } }],
      pooling: true,
      realtime: { poll: "20ms", minInterval: "10ms", ping: "200ms", tenantConnections: 5 },
    },
    connected: database.connected,
  });
});

afterEach(async () => {
  for (const each of open.splice(0)) each.leave();
  await expect.poll(() => host.metric("realtime_subscriptions")).toBe(0);
});

afterAll(async () => {
  await host.stop();
  await agent.close();
  await dropRoles(database);
  await database.drop();
});

describe("a live query", () => {
  it("is sent again when its tenant's tables change, and nobody else's is", async () => {
    const ada = await subscribe("ada", live);
    const bob = await subscribe("bob", live);
    await Promise.all([ada.count(1), bob.count(1)]);
    expect(ada.status).toBe(200);
    for (let round = 1; round <= 3; round += 1) {
      await database.change("ada", `insert into item (label) values ('canary_ada new ${round}')`);
      await ada.count(1 + round);
      expect(labels(ada.last)).toContain(`canary_ada new ${round}`);
    }
    expect(bob.messages).toHaveLength(1);
    expect(labels(bob.messages[0]).every((label) => label.startsWith("canary_bob"))).toBe(true);
    await database.change("ada", "delete from item where label like '% new %'");
    await ada.count(5);
    expect(labels(ada.last)).toHaveLength(3);
  });

  it("says nothing where the result is the same", async () => {
    const ada = await subscribe("ada", "query @live { itemByRowId(rowId: 1) { label } }");
    await ada.count(1);
    const before = await runs();
    await database.change("ada", "update item set mood = 'keen' where id = 2");
    await expect.poll(runs).toBeGreaterThan(before);
    await database.change(
      "ada",
      "update item set mood = 'calm' where id = 2; update item set label = 'canary_ada uno' where id = 1",
    );
    await ada.count(2);
    expect(ada.messages.map(({ data }) => data.data.itemByRowId.label)).toEqual([
      "canary_ada one",
      "canary_ada uno",
    ]);
    await database.change("ada", "update item set label = 'canary_ada one' where id = 1");
  });

  it("runs once for all subscribers with equal requests", async () => {
    const streams = await Promise.all([1, 2, 3, 4].map(() => subscribe("ada", live)));
    await Promise.all(streams.map((each) => each.count(1)));
    await expect.poll(executions).toBe(1);
    // Whatever else had to be run again because of the start.
    const repeats = async (): Promise<number> => (await runs()) - (await runs());
    await expect.poll(repeats).toBe(0);
    const before = await runs();
    await database.change("ada", "insert into item (label) values ('canary_ada shared')");
    await Promise.all(streams.map((each) => each.count(2)));
    for (const each of streams) expect(labels(each.last)).toContain("canary_ada shared");
    expect((await runs()) - before).toBeLessThan(4);
    await database.change("ada", "delete from item where label = 'canary_ada shared'");
    await Promise.all(streams.map((each) => each.count(3)));
  });

  it("is not shared by requests with other query strings, which a preset may read", async () => {
    const streams = await Promise.all(
      ["", "?for=1", "?for=2", "?for=2"].map((search) => subscribe("ada", live, {}, search)),
    );
    await Promise.all(streams.map((each) => each.count(1)));
    await expect.poll(executions).toBe(3);
  });

  it("is served after its instance was evicted, and after its schema has changed, without a new subscription", async () => {
    const ada = await subscribe("ada", live);
    await ada.count(1);
    await host.adminJson("/evict", { tenant: "ada" });
    await database.change("ada", "insert into item (label) values ('canary_ada evicted')");
    await ada.count(2);
    await database.change("ada", "alter table item add column extra int");
    await database.change("ada", "insert into item (label) values ('canary_ada altered')");
    await expect.poll(() => labels(ada.last)).toContain("canary_ada altered");
    await database.change("ada", "alter table item drop column extra; delete from item where id > 3");
    await expect.poll(() => labels(ada.last)).toHaveLength(3);
  });

  it("ends with an error if a change of the schema breaks it, and others go on", async () => {
    const moods = await subscribe("bob", "query @live { allItems { nodes { mood } } }");
    const bob = await subscribe("bob", live);
    await Promise.all([moods.count(1), bob.count(1)]);
    await database.change("bob", "alter table item rename mood to temper");
    await database.change("bob", "insert into item (label) values ('canary_bob late')");
    await moods.ended;
    expect(moods.messages.slice(-2)).toMatchObject([
      { event: "next", data: { errors: [{ message: expect.stringMatching(/mood/) }] } },
      { event: "complete" },
    ]);
    await expect.poll(() => labels(bob.last)).toContain("canary_bob late");
    await database.change("bob", "delete from item where id > 3; alter table item rename temper to mood");
  });

  it("runs every so often if it says so, for what nobody watches", async () => {
    const ada = await subscribe(
      "ada",
      "query @live(refresh: 1) { allParts(orderBy: PRIMARY_KEY_ASC) { nodes { name } } }",
    );
    await ada.count(1);
    await database.change("ada", "update part set name = 'canary_ada renamed' where id = 1");
    await ada.count(2);
    expect(JSON.stringify(ada.last)).toContain("canary_ada renamed");
    await database.change("ada", "update part set name = 'canary_ada one part' where id = 1");
  });

  it("works with the official client", async () => {
    const client = createClient({
      url: `${host.url}/graphql`,
      headers: { "x-tenant": "ada" },
      retryAttempts: 0,
    });
    const results = client.iterate({ query: live });
    const first = await results.next();
    await database.change("ada", "insert into item (label) values ('canary_ada client')");
    const second = await results.next();
    expect(JSON.stringify([first.value, second.value])).toMatch(/^((?!client).)*canary_ada client/s);
    await results.return?.();
    client.dispose();
    await database.change("ada", "delete from item where id > 3");
  });
});

describe("a subscriber", () => {
  it("gets one result of what is not live, and equal mutations are never one", async () => {
    const query = await subscribe("ada", "{ allItems { totalCount } }");
    await query.ended;
    expect(query.messages.map(({ event }) => event)).toEqual(["next", "complete"]);
    const add = `mutation { addItem(input: { label: "canary_ada twice", mood: calm }) { result { label } } }`;
    const both = await Promise.all([subscribe("ada", add), subscribe("ada", add)]);
    await Promise.all(both.map(({ ended }) => ended));
    for (const each of both) expect(each.messages.map(({ event }) => event)).toEqual(["next", "complete"]);
    const rows = await database.query("select from canary_ada.item where label = 'canary_ada twice'");
    expect(rows).toHaveLength(2);
    await database.change("ada", "delete from item where id > 3");
  });

  it("is told of an invalid operation, and of all else as of a request", async () => {
    const invalid = await subscribe("ada", "query @live { nothing }");
    await invalid.ended;
    expect(invalid.messages).toMatchObject([
      { event: "next", data: { errors: [{}] } },
      { event: "complete" },
    ]);
    const misplaced = await subscribe("ada", "mutation @live { addItem(input: {}) { clientMutationId } }");
    await misplaced.ended;
    expect(misplaced.messages[0]).toMatchObject({
      data: { errors: [{ message: expect.stringMatching(/live/) }] },
    });
    expect((await subscribe("nobody", live)).status).toBe(404);
    expect((await subscribe("cat", live, { authorization: "Bearer x.y.z" })).status).toBe(401);
  });

  it("who would take a single answer gets one", async () => {
    const answer = await host.graphql("ada", live, {
      headers: { "x-tenant": "ada", accept: "application/json, text/event-stream" },
    });
    expect(answer.headers["content-type"]).toMatch(/application\/json/);
    expect(answer.headers["rowhouse-live"]).toBeUndefined();
  });

  it("of another account sees its own rows only, and what is hidden from it says nothing", async () => {
    const query = "query @live { allNotes { nodes { body } } }";
    const [one, two] = await Promise.all(
      [1, 2].map(async (user) => {
        const token = await auth.sign({ user_id: user, exp: Math.floor(Date.now() / 1000) + 600 });
        return subscribe("cat", query, { authorization: `Bearer ${token}` });
      }),
    );
    await Promise.all([one?.count(1), two?.count(1)]);
    await database.change("cat", "insert into note values (10, 2, 'canary_cat for two')");
    await two?.count(2);
    expect(JSON.stringify(two?.last)).toMatch(/note of 2.*for two/);
    expect(JSON.stringify(one?.messages)).not.toMatch(/for two|note of 2/);
    await database.change("cat", "delete from note where id = 10");
  });

  it("whose token expires is cut off with a reason, also while nothing changes", async () => {
    const token = await auth.sign({ exp: Math.floor(Date.now() / 1000) + 3 });
    const stream = await subscribe("cat", live, { authorization: `Bearer ${token}` });
    await stream.ended;
    expect(stream.messages.slice(-2)).toMatchObject([
      { event: "next", data: { errors: [{ extensions: { code: "TOKEN_EXPIRED" } }] } },
      { event: "complete" },
    ]);
  });

  it("beyond the limit of its tenant is refused, and those of others are not", async () => {
    for (let count = 0; count < 5; count += 1) await subscribe("ada", `${live} # ${count}`);
    const refused = await subscribe("ada", live);
    expect(refused.status).toBe(503);
    const bob = await subscribe("bob", live);
    await bob.count(1);
    open[0]?.leave();
    await expect.poll(async () => (await subscribe("ada", live)).status).toBe(200);
  });
});

it("a host that ends cuts its streams off without an end, and goes at once", async () => {
  const other = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false } },
      tenants: [{ id: "ada", schemas: ["canary_ada"], roles: { anonymous: `canary_ada_${database.name}` } }],
      realtime: true,
    },
  });
  const [first, before] = [host, open.length];
  host = other;
  const stream = await subscribe("ada", live);
  await stream.count(1);
  await other.stop();
  host = first;
  await stream.ended;
  expect(open).toHaveLength(before + 1);
  expect(stream.messages.map(({ event }) => event)).toEqual(["next"]);
});
