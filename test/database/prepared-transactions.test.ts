import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { migrateTenant } from "../../src/control/tenant-migration.ts";
import { type Embedded, startEmbedded } from "../../src/embedded/server.ts";
import { Database } from "../../src/postgres/database.ts";
import { Listener } from "../../src/postgres/listener.ts";
import { poll } from "../../src/realtime/event-table.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";

/** A server of its own: by default, and on the other tests' server, PostgreSQL has no prepared transactions. */
let directory: string;
let server: Embedded;
let client: Client;
let listener: Listener;
const heard: string[] = [];
const ignore = (): void => {};

const databaseOf = (more: object = {}): Database =>
  new Database({ name: "main", url: server.url, applicationName: "rowhouse:test", observe: ignore, ...more });

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "rowhouse-prepared-"));
  await chmod(directory, 0o755);
  const first = await startEmbedded({ directory, persistent: true });
  const once = new Client({ connectionString: first.url });
  await once.connect();
  await once.query("alter system set max_prepared_transactions = 4");
  await once.end();
  await first.close();
  server = await startEmbedded({ directory, persistent: true });
  const database = databaseOf();
  await installControl(database, ignore);
  await database.close();
  client = new Client({ connectionString: server.url });
  await client.connect();
  await client.query("create schema shop; create table shop.item (id int primary key)");
  listener = new Listener({
    name: "main",
    url: server.url,
    applicationName: "rowhouse:test",
    observe: ignore,
  });
  listener.on("rowhouse_schema", (payload) => heard.push(payload));
  await listener.open();
});

afterAll(async () => {
  await listener.close();
  await client.end();
  await server.close();
  await rm(directory, { recursive: true, force: true });
});

async function revision(): Promise<string> {
  const { rows } = await client.query<{ revision: string }>(
    "select revision::text from rowhouse.schema_revision where schema_name = 'shop'",
  );
  return rows[0]?.revision ?? "0";
}

/** What was heard of schema `shop` up to a notification that is sent now. */
async function heardSince(start: number): Promise<string[]> {
  await client.query("select pg_notify('rowhouse_schema', 'mark')");
  await expect.poll(() => heard.slice(start)).toContain("mark");
  return heard.slice(start).filter((payload) => payload !== "mark");
}

describe("on a server with prepared transactions", () => {
  it.each<[string, readonly string[]]>([
    ["DDL", ["begin", "alter table shop.item add column a int", "prepare transaction 'one'"]],
    ["in one message", ["begin; alter table shop.item add column b int; prepare transaction 'one'"]],
    [
      "behind SET CONSTRAINTS",
      [
        "begin",
        "alter table shop.item add column c int",
        "set constraints all immediate",
        "comment on table shop.item is 'c'",
        "PREPARE /* x */ TRANSACTION 'one'",
      ],
    ],
    [
      "behind SET CONSTRAINTS in a function",
      [
        "begin",
        "alter table shop.item add column d int",
        "do $$ begin execute 'set con' || 'straints all immediate'; end $$",
        "prepare transaction 'one'",
      ],
    ],
  ])("a transaction with DDL can be prepared: %s", async (_, statements) => {
    const before = await revision();
    const start = heard.length;
    for (const statement of statements) await client.query(statement);
    // Nothing of it is visible yet.
    expect(await revision()).toBe(before);
    await client.query("commit prepared 'one'");
    expect(BigInt(await revision())).toBeGreaterThan(BigInt(before));
    // The notification is lost, which is why hosts read revisions periodically on such a server.
    expect(await heardSince(start)).toEqual([]);
    expect((await client.query("select from rowhouse.schema_touch")).rows).toEqual([]);
  });

  it("a prepared transaction that is rolled back moves nothing", async () => {
    const before = await revision();
    await client.query("begin; alter table shop.item add column gone int; prepare transaction 'one'");
    await client.query("rollback prepared 'one'");
    expect(await revision()).toBe(before);
  });

  it.each<[string, string]>([
    ["by itself", "alter table shop.item add column e int"],
    ["in a transaction", "begin; alter table shop.item add column f int; commit"],
    ["in a function", "do $$ begin alter table shop.item add column g int; end $$"],
  ])("DDL that is committed as usual is notified as usual: %s", async (_, sql) => {
    const start = heard.length;
    await client.query(sql);
    expect(await heardSince(start)).toEqual([
      JSON.stringify({ schema: "shop", revision: await revision() })
        .replaceAll('":"', '" : "')
        .replace(',"', ', "'),
    ]);
  });

  it("a managed migration is notified, although it sets constraints before its end", async () => {
    const start = heard.length;
    const database = databaseOf({ freshConnections: true });
    const tenant = parseTenant(
      { id: "shop", schemas: { app: "shop" } },
      { database: "main", databases: ["main"] },
    );
    await migrateTenant(database, tenant, { sql: "create table prepared_later (id int)" });
    await database.close();
    expect(await heardSince(start)).toHaveLength(1);
  });
});

it("a prepared transaction's events are found once it is committed, and not if it is rolled back", async () => {
  const database = databaseOf();
  await client.query("create table shop.seen (id int primary key); select rowhouse.watch('shop.seen')");
  await client.query("select rowhouse.register_realtime('test', '1 hour')");
  let { snapshot } = await poll(database, null, [], null);
  for (const [end, events] of [
    ["rollback", {}],
    ["commit", { shop: 1 }],
  ] as const) {
    await client.query("begin");
    await client.query("insert into shop.seen values (1)");
    await client.query("prepare transaction 'seen'");
    const before = await poll(database, snapshot, ["shop"], null);
    await client.query(`${end} prepared 'seen'`);
    const after = await poll(database, before.snapshot, ["shop"], null);
    snapshot = after.snapshot;
    expect([before.events, after.events]).toEqual([{}, events]);
  }
  await database.close();
});
