import { afterAll, beforeAll, describe, expect, it } from "vitest";
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

const ids = Array.from({ length: 20 }, (_, index) => `t${index}`);

/** How many of requests' statements are prepared on its connection, which tenants themselves cannot see. */
const prepared = `create function prepared() returns int language sql stable security definer set search_path = pg_catalog
  as $$ select count(*)::int from pg_prepared_statements where name like '%:%' $$`;

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("interleaving");
  const tenants: TenantRecord[] = [];
  for (const id of ids) tenants.push(await database.tenant(id, prepared));
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 2 } },
      tenants,
      pooling: true,
      preset: presetFile,
    },
    connected: database.connected,
  });
});

afterAll(async () => {
  await host.stop();
  await database.drop();
});

/** One tenant's requests, in a fixed order; each step accepts only its own outcome. */
const steps: readonly ((tenant: string, round: number) => Promise<void>)[] = [
  async (tenant) => {
    expect((await host.data(tenant, itemsQuery)).allItems.nodes.slice(0, 3)).toEqual(
      itemsOf(tenant).allItems.nodes,
    );
  },
  async (tenant, round) => {
    const mood = round % 2 === 0 ? "calm" : "keen";
    const query =
      "query ($mood: Mood!, $label: Label!) { nextMood(given: $mood) sameLabel(given: $label) itemsByMood(wanted: $mood) { nodes { label mood } } }";
    const label = `canary_${tenant} asks`;
    const data = await host.data(tenant, query, { mood, label });
    expect(data).toMatchObject({ nextMood: mood === "calm" ? "keen" : "calm", sameLabel: label });
    expect(data.itemsByMood.nodes.length).toBeGreaterThan(0);
    for (const node of data.itemsByMood.nodes) expect(node).toMatchObject({ mood });
  },
  async (tenant, round) => {
    const query =
      "mutation ($label: Label!) { addItem(input: { label: $label, mood: keen }) { result { label mood } } }";
    const label = `canary_${tenant} added ${round}`;
    expect(await host.data(tenant, query, { label })).toEqual({
      addItem: { result: { label, mood: "keen" } },
    });
  },
  async (tenant) => {
    const answer = await host.graphql(tenant, "{ broken }");
    expect(answer.errors?.map((error) => error.message)).toEqual([`broken for canary_${tenant} one`]);
  },
  async (tenant) => {
    const answer = await host.graphql(
      tenant,
      'mutation { addItem(input: { label: "forbidden", mood: calm }) { result { rowId } } }',
    );
    expect(answer.errors?.[0]?.message).toMatch(/value for domain (\w+\.)?label violates check constraint/);
  },
  async (tenant) => {
    const cancelled = new AbortController();
    const asking = host.graphql(tenant, "{ slow(seconds: 30) }", { signal: cancelled.signal });
    setTimeout(() => cancelled.abort(), 30);
    await expect(asking).rejects.toThrow(/abort/i);
  },
];

describe("twenty tenants of one blueprint on two connections", () => {
  it("never get each other's rows or plans, with errors and cancelled requests in between", async () => {
    // Statements are prepared from their second use on, those of several tenants side by side.
    for (let round = 0; round < 4; round += 1) for (const id of ids) await host.data(id, itemsQuery);
    expect((await host.data("t0", "{ prepared }")).prepared).toBeGreaterThan(5);
    let done = 0;
    // One tenant's steps run in sequence; all tenants run concurrently and share the connections in any order.
    await Promise.all(
      ids.map(async (tenant, index) => {
        for (let round = 0; round < 12; round += 1) {
          await steps[(index + round) % steps.length]?.(tenant, round);
          done += 1;
        }
      }),
    );
    expect(done).toBe(240);
    expect(host.sentinel.leaks).toEqual([]);
    expect(host.process.output).not.toMatch(/cached plan/);

    const { cells } = await host.adminJson("/status");
    const instances = cells.flatMap((cell: { instances: object[] }) => cell.instances);
    expect(instances).toEqual([expect.objectContaining({ kind: "pooled", tenants: 20 })]);
    // Connections of cancelled requests are being closed.
    const ofCells = async (): Promise<number> =>
      (await database.connected()).filter((name) => !name.endsWith(":front")).length;
    await expect.poll(ofCells).toBeLessThanOrEqual(2);
  });

  it("keep only the rows that each has added itself, and no cancelled statement keeps running", async () => {
    // Well before the cancelled statements, of thirty seconds each, would end on their own.
    await expect
      .poll(
        () =>
          database.query(
            "select pid from pg_stat_activity where datname = current_database() and state <> 'idle' and query ~ 'slow' and pid <> pg_backend_pid()",
          ),
        { timeout: 15_000 },
      )
      .toEqual([]);
    for (const tenant of ids) {
      const added = await database.query(`select label from ${schemaOf(tenant)}.item where id > 3`);
      expect(added).toHaveLength(2);
      for (const { label } of added) expect(label).toMatch(new RegExp(`^canary_${tenant} added \\d+$`));
    }
  });
});

describe("a plugin's field", () => {
  it("that queries without the request's settings gets an error, and no rows", async () => {
    for (const table of ["item", "canary_t1.item", "canary_t0.item"]) {
      const answer = await host.graphql("t0", `{ asNobody(table: "${table}") }`);
      expect(answer.data).toEqual({ asNobody: null });
      expect(answer.errors?.[0]?.message).toMatch(/without the request's settings/);
    }
    // The connection that it did not get is still usable.
    expect((await host.data("t1", itemsQuery)).allItems.nodes.slice(0, 3)).toEqual(
      itemsOf("t1").allItems.nodes,
    );
  });

  it("that passes a copy of the request's settings is served as the request's tenant", async () => {
    const answers = await Promise.all(ids.map((id) => host.data(id, "{ asRequest }")));
    expect(answers).toEqual(ids.map((id) => ({ asRequest: `canary_${id} one` })));
  });
});
