import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { GraphqlAnswer } from "../support/exchanged.ts";
import { TestHost } from "../support/host.ts";
import { presetFile } from "../support/host-files.ts";
import {
  createTenantDatabase,
  itemsOf,
  itemsQuery,
  schemaOf,
  type TenantDatabase,
  type TenantRecord,
} from "../support/host-tenants.ts";

/** Two pooled shapes, and one that cannot be pooled. */
const extras: Record<string, string> = {
  a0: "",
  a1: "",
  a2: "",
  b0: "create table other (id integer)",
  b1: "create table other (id integer)",
  own: "create table :schema.pg_group (id integer primary key)",
};
const ids = Object.keys(extras);

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("churn");
  const tenants: TenantRecord[] = [];
  for (const [id, extra] of Object.entries(extras)) tenants.push(await database.tenant(id, extra));
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 2 } },
      tenants,
      pooling: true,
      preset: presetFile,
      cells: { memoryMb: 900, heapMb: 160, max: 3 },
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

/** Repeats the command until it evicts something. */
const evicts = (path: string, target: object) =>
  vi.waitFor(async () => expect((await host.adminJson(path, target)).evicted).not.toEqual([]), {
    timeout: 20_000,
    interval: 100,
  });

const addQuery =
  "mutation ($label: Label!) { addItem(input: { label: $label, mood: calm }) { result { label } } }";

describe("under evictions, flushes, schema changes and dying cells", () => {
  it("every answer is the tenant's own or a 503 with Retry-After, and every confirmed write is kept", async () => {
    const disturbances: readonly (() => Promise<unknown>)[] = [
      () => evicts("/evict", { tenant: "a0" }),
      () => evicts("/flush", {}),
      () => database.change("b0", `comment on table item is 'Comment ${performance.now()}'`),
      () => host.graphql("b1", '{ endless(kind: "array") }'),
      () => evicts("/evict", { tenant: "own" }),
      () => database.change("a1", "create table if not exists later (id integer)"),
    ];
    let over = false;
    const refused: GraphqlAnswer[] = [];
    const added = new Map<string, boolean>();
    let read = 0;
    const clients = ids.map(async (id) => {
      for (let turn = 0; !over; turn += 1) {
        const writes = turn % 3 === 2;
        const label = `canary_${id} turn ${turn}`;
        const answer = await host.graphql(id, writes ? addQuery : itemsQuery, { variables: { label } });
        const done = answer.status === 200;
        if (writes) added.set(label, done);
        if (!done) refused.push(answer);
        else if (writes) expect(answer.errors ?? answer.data.addItem.result).toEqual({ label });
        else {
          expect(answer.errors ?? answer.data.allItems.nodes.slice(0, 3)).toEqual(itemsOf(id).allItems.nodes);
          read += 1;
        }
        await sleep(done ? 2 : 100);
      }
    });
    const ended = Promise.all(clients).finally(() => {
      over = true;
    });
    ended.catch(() => undefined);
    for (let round = 0; round < 2 && !over; round += 1) {
      for (const disturb of disturbances) {
        await disturb();
        await sleep(250);
      }
    }
    over = true;
    await ended;

    expect(read).toBeGreaterThan(50);
    for (const { status, headers, text } of refused) {
      expect({ status, text }).toMatchObject({ status: 503 });
      expect(Number(headers["retry-after"])).toBeGreaterThan(0);
    }
    for (const id of ids) {
      const rows = await database.query(`select label from ${schemaOf(id)}.item where id > 3`);
      const stored = new Set(rows.map((row) => String(row["label"])));
      const told = [...added].filter(([label, done]) => done && label.startsWith(`canary_${id} `));
      expect(told.map(([label]) => label).filter((label) => !stored.has(label))).toEqual([]);
    }
    // The intended disturbances did happen.
    const reasons = new Set(host.process.linesOf("cell.terminated").map((line) => line["reason"]));
    expect(reasons).toContain("over-budget");
    expect(await host.metric('evictions_total{reason="requested"}')).toBeGreaterThan(0);
    expect(await host.metric('evictions_total{reason="flushed"}')).toBeGreaterThan(0);
  });
});
