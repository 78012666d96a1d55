import { once } from "node:events";
import { createServer } from "node:net";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import type { Observation } from "../../src/observability/observation.ts";
import { Listener } from "../../src/postgres/listener.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { openProxy } from "../support/host-proxy.ts";

let database: TestDatabase;
/** Disallowing connections to a database takes a connection to another one: this one. */
let beside: TestDatabase;
const open: Listener[] = [];
const seen: Observation[] = [];

function listener(url = database.url): Listener {
  const made = new Listener({
    name: "main",
    url,
    applicationName: "rowhouse:h1:listen",
    observe: (observation) => void seen.push(observation),
    connectTimeoutMs: 1_000,
    retryMs: 200,
  });
  open.push(made);
  return made;
}

beforeAll(async () => {
  [database, beside] = await Promise.all([createDatabase("listen"), createDatabase("beside")]);
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
  seen.length = 0;
});

afterAll(async () => {
  await database.drop();
  await beside.drop();
});

test("a notification reaches the handlers of its channel, with its payload, once committed", async () => {
  const heard: string[] = [];
  const one = listener();
  one.on("Odd channel", (payload) => heard.push(`odd ${payload}`));
  one.on("plain", (payload) => heard.push(`plain ${payload}`));
  await one.open();
  await database.execute("begin; select pg_notify('plain', 'rolled back'); rollback");
  await database.execute(`select pg_notify('Odd channel', '1')`);
  await database.execute(`notify plain`);
  await expect.poll(() => heard).toEqual(["odd 1", "plain "]);
});

test("a cut connection is opened again, reports the gap once it listens, and misses nothing from then on", async () => {
  const heard: string[] = [];
  let gaps = 0;
  const one = listener();
  one.on("news", (payload) => heard.push(payload));
  one.onGap(() => {
    gaps++;
  });
  await one.open();
  for (const round of [1, 2]) {
    await cut();
    await expect.poll(() => gaps, { timeout: 20_000 }).toBe(round);
    await database.query("select pg_notify('news', $1)", [`round ${round}`]);
    await expect.poll(() => heard.at(-1)).toBe(`round ${round}`);
  }
  expect(seen.filter(({ kind }) => kind === "database.listening")).toEqual([
    { kind: "database.listening", database: "main", gap: false },
    { kind: "database.listening", database: "main", gap: true },
    { kind: "database.listening", database: "main", gap: true },
  ]);
  expect(seen.some(({ kind }) => kind === "database.lost")).toBe(true);
});

test("while the server accepts no connections it keeps trying, and listens as soon as it can", async () => {
  let gaps = 0;
  const one = listener();
  one.on("news", () => {});
  one.onGap(() => {
    gaps++;
  });
  await one.open();
  await beside.query(`alter database ${database.name} allow_connections false`);
  await cut();
  await expect
    .poll(() => seen.filter(({ kind }) => kind === "database.lost").length, { timeout: 20_000 })
    .toBeGreaterThan(2);
  expect(gaps).toBe(0);
  await beside.query(`alter database ${database.name} allow_connections true`);
  await expect.poll(() => gaps, { timeout: 20_000 }).toBe(1);
});

test("open throws if there is no server, and does not keep trying", async () => {
  const one = listener("postgres://a:s3cret-word@127.0.0.1:1/x");
  await expect(one.open()).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect(seen).toEqual([]);
});

test("close ends the connection, even during an attempt to reconnect", async () => {
  const one = listener();
  await one.open();
  await beside.query(`alter database ${database.name} allow_connections false`);
  await cut();
  await one.close();
  await beside.query(`alter database ${database.name} allow_connections true`);
  expect(await listening()).toBe(0);
});

const listening = async (): Promise<number> =>
  (await database.query("select from pg_stat_activity where application_name = 'rowhouse:h1:listen'")).length;

async function cut(): Promise<void> {
  await expect.poll(listening).toBe(1);
  await database.query(
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'rowhouse:h1:listen'",
  );
}

test("a listener can be closed while it reconnects to a server that does not answer", async () => {
  const proxy = await openProxy(database.url);
  const one = listener(proxy.through(database.url));
  await one.open();
  await proxy.cut();
  const silent = createServer((socket) => socket.resume()).listen(proxy.port, "127.0.0.1");
  await once(silent, "connection");
  await one.close();
  expect(seen.filter((each) => each.kind === "database.listening")).toHaveLength(1);
  silent.close();
});
