/** What a subscription that was busy reads of the events that it missed: all of them, or nothing. */
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";
import { EventPoller } from "../../src/realtime/event-poller.ts";
import type { Span } from "../../src/realtime/event-table.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const retentionMs = 600_000;
const topics = [{ schema: "one", topic: "news" }];
const enough = { events: 300, characters: 100_000 };
let database: TestDatabase;
let front: Database;
let poller: EventPoller;
let span: Span | null = null;

beforeAll(async () => {
  database = await createDatabase("realtime_reads");
  front = new Database({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: () => undefined,
  });
  await installControl(front, () => {});
  await database.execute("create schema one");
  poller = new EventPoller({
    database: front,
    host: "host",
    pollMs: 10,
    retentionMs,
    observe: () => undefined,
  });
  await poller.subscribe(["one"], (each) => {
    span = each;
  });
});

beforeEach(() => {
  span = null;
});

afterAll(async () => {
  await poller.close();
  await front.close();
  await database.drop();
});

/** Publishes in one transaction; resolves to the span that it is in. */
async function published(count: number, length = 1): Promise<Span> {
  await database.query(
    "select rowhouse.publish('news', repeat('x', $2), 'one') from generate_series(1, $1)",
    [count, length],
  );
  await expect.poll(() => span).not.toBeNull();
  if (span === null) throw new Error("no span");
  return span;
}

it("it reads the events of a span, over several pages", async () => {
  const events = await poller.read(await published(250), topics, enough);
  expect(events).toHaveLength(250);
  expect(events?.[0]).toEqual(["one", "news", "x"]);
});

it("it reads none if they are more, or longer, than may wait for it", async () => {
  expect(await poller.read(await published(301), topics, enough)).toBeNull();
  span = null;
  expect(await poller.read(await published(101, 1_000), topics, enough)).toBeNull();
});

it("it reads none of a span so old that events of it may have been deleted", async () => {
  const recent = await published(1);
  expect(await poller.read(recent, topics, enough)).toHaveLength(1);
  const old = { ...recent, sinceMs: performance.now() - retentionMs - 1 };
  expect(await poller.read(old, topics, enough)).toBeNull();
});
