import { setTimeout as sleep } from "node:timers/promises";
import { escapeIdentifier as quote } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { advisoryWaits } from "../support/database.ts";
import { create, deafUrl, gatedMutation, Hand, held } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

const migrations = 200;
const paceMs = 200;
const rounds = 500;
const ids = Array.from({ length: 20 }, (_, index) => `t${index}`);

let database: TenantDatabase;
let hosts: TestHost[];

beforeAll(async () => {
  database = await createTenantDatabase("guard_storm");
  const tenants = [];
  for (const id of ids) tenants.push(await database.tenant(id, gatedMutation));
  const { connected, hostUrl } = database;
  // The second receives no notifications: it learns of changes only from its guard.
  hosts = [];
  for (const listenUrl of [hostUrl, deafUrl(database)]) {
    hosts.push(
      await TestHost.start({
        config: { databases: { main: { url: hostUrl, listenUrl, install: false } }, tenants, pooling: true },
        connected,
      }),
    );
  }
});
afterAll(async () => {
  for (const host of hosts) await host.stop();
  await database.drop();
});

const hostOf = (index: number): TestHost => {
  const host = hosts[index % hosts.length];
  if (host === undefined) throw new Error("no host");
  return host;
};

async function deadlocks(): Promise<number> {
  const rows = await database.query(
    "select deadlocks::int from pg_stat_database where datname = current_database()",
  );
  return Number(rows[0]?.["deadlocks"]);
}

/** Migrates a tenant by the guard's protocol. */
async function migrate(id: string, sql: string): Promise<void> {
  const hand = await Hand.open(database, id);
  try {
    await hand.beginMigration();
    await hand.run(sql);
    await hand.run("commit");
  } finally {
    await hand.close();
  }
}

describe("migrations among writes of one tenant", () => {
  it(`never deadlock with overlapping writers, in ${rounds} rounds`, async () => {
    const before = await deadlocks();
    let going = true;
    let written = 0;
    const writer = async (index: number): Promise<void> => {
      for (let n = 0; going; n += 1) {
        const label = `canary_t0 round ${index} ${n}`;
        const { status, errors } = await hostOf(index).graphql("t0", `mutation { ${create(label)} }`);
        // This schema keeps changing: a write that met migrations for all of its time gets 409 and has written nothing.
        if (status === 409) continue;
        expect({ status, errors }).toEqual({ status: 200, errors: undefined });
        written += 1;
      }
    };
    const writers = Promise.all(Array.from({ length: 6 }, (_, index) => writer(index)));
    const hand = await Hand.open(database, "t0");
    for (let round = 0; round < rounds; round += 1) {
      await hand.beginMigration();
      await expect
        .poll(() => advisoryWaits(database), {
          interval: 5,
          timeout: 20_000,
        })
        .not.toEqual([]);
      // The table's strongest lock, after the tenant's: a writer that holds one never blocks the holder of the other.
      await hand.run(`alter table item alter column mood set default '${round % 2 === 0 ? "calm" : "keen"}'`);
      await hand.run("commit");
      const count = written;
      await expect.poll(() => written, { interval: 5, timeout: 20_000 }).toBeGreaterThan(count);
    }
    going = false;
    await writers;
    await hand.close();
    expect(await deadlocks()).toBe(before);
    const rows = await database.query(
      `select count(*)::int as n, count(distinct label)::int as labels from ${quote(schemaOf("t0"))}.item where label like '% round %'`,
    );
    expect(rows).toEqual([{ n: written, labels: written }]);
  }, 240_000);

  it("are not starved by overlapping writers of one second each", async () => {
    let going = true;
    const writer = async (index: number): Promise<void> => {
      await sleep(index * 250);
      for (let n = 0; going; n += 1) {
        const answer = await hostOf(index).data(
          "t1",
          `mutation { addSlowly(input: { label: "canary_t1 slow ${index} ${n}" }) { clientMutationId } }`,
        );
        expect(answer.addSlowly).toEqual({ clientMutationId: null });
      }
    };
    const writers = Promise.all(Array.from({ length: 4 }, (_, index) => writer(index)));
    const hand = await Hand.open(database, "t1");
    const waits: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      await sleep(1_500);
      const startedMs = performance.now();
      await hand.beginMigration();
      waits.push(performance.now() - startedMs);
      await held(database, 4);
      await hand.run("alter table item set (fillfactor = 90)");
      await hand.run("commit");
    }
    going = false;
    await writers;
    await hand.close();
    // If migrations starved, they would wait until the writers stopped.
    expect(Math.max(...waits)).toBeLessThan(3_000);
    expect(Math.max(...waits)).toBeGreaterThan(100);
  });
});

describe(`${migrations} compatible migrations over ${ids.length} tenants`, () => {
  it("go unnoticed by clients of two hosts: nothing fails, is lost, doubled or mixed up", async () => {
    // The earlier tests exhaust some writers' time on purpose.
    const exhausted = (): Promise<number[]> =>
      Promise.all(hosts.map((host) => host.metric("guard_exhausted_total")));
    const before = await exhausted();
    let going = true;
    const written = new Map(ids.map((id) => [id, 0]));
    const client = async (index: number): Promise<void> => {
      for (let n = 0; going; n += 1) {
        const id = ids[(index * 7 + n) % ids.length] ?? "";
        const label = `canary_${id} storm ${index} ${n}`;
        const answer = await hostOf(index + n).data(id, `mutation { ${create(label)} }`);
        expect(answer).toEqual({ made: { item: { label } } });
        written.set(id, (written.get(id) ?? 0) + 1);
        const read = await hostOf(index + n + 1).data(
          id,
          "{ allItems(first: 5, orderBy: PRIMARY_KEY_DESC) { nodes { label mood } } }",
        );
        for (const item of read.allItems.nodes) expect(item.label).toContain(`canary_${id} `);
      }
    };
    const clients = Promise.all(Array.from({ length: 10 }, (_, index) => client(index)));
    // A client's failure ends the test at once, not after the last migration.
    let failed = false;
    clients.catch(() => {
      failed = true;
    });
    const changes = [
      (n: number) => `alter table item add column extra_${n} integer not null default ${n}`,
      (n: number) => `create index extra_index_${n} on item (label, mood)`,
      (n: number) => `comment on column item.mood is 'Changed ${n} times.'`,
    ];
    // Linear congruential: the same order in every run.
    let seed = 20_240_521;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
      return Math.floor((seed / 2_147_483_648) * below);
    };
    for (let n = 0; n < migrations && !failed; n += 1) {
      const change = changes[random(changes.length)];
      if (change !== undefined) await migrate(ids[random(ids.length)] ?? "t0", change(n));
      await sleep(paceMs);
    }
    going = false;
    await clients;
    for (const id of ids) {
      const rows = await database.query(
        `select count(*)::int as n, count(distinct label)::int as labels from ${quote(schemaOf(id))}.item where label ~ '^canary_[a-z0-9]+ storm [0-9]+ [0-9]+$'`,
      );
      const n = written.get(id);
      expect(rows, id).toEqual([{ n, labels: n }]);
    }
    let failures = 0;
    for (const host of hosts) failures += await host.metric("guard_failures_total");
    expect(await exhausted()).toEqual(before);
    expect(failures).toBeGreaterThan(0);
  }, 240_000);
});
