import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { CancellationSource } from "../../src/shared/kernel/cancellation.ts";
import type { Connection } from "../../workers/postgres/connection.ts";
import { Homes } from "../../workers/postgres/homes.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { OpenPool } from "../support/tenant-pool.ts";

const poolSize = 4;
const homes = new Homes(poolSize);
const homeOf = (tenant: string): number => homes.of({ tenant, prepares: false })[0] ?? -1;
/** Tenants of the same home. */
const [first = "", second = "", third = ""] = Array.from({ length: 50 }, (_, index) => `n${index}`).filter(
  (tenant) => homeOf(tenant) === 1,
);

let database: TestDatabase;
let pool: OpenPool;

beforeAll(async () => {
  database = await createDatabase("homes");
});
afterAll(() => database.drop());

const openPool = (homeWaitMs: number): OpenPool => new OpenPool({ url: database.url, poolSize, homeWaitMs });

beforeEach(() => {
  pool = openPool(10);
});
afterEach(() => pool.close());

const acquire = (tenant: string): Promise<Connection> => pool.acquire(tenant);
const backendOf = (connection: Connection): number | null => connection.client.processID;

async function served(tenant: string): Promise<number | null> {
  const connection = await acquire(tenant);
  connection.release();
  return backendOf(connection);
}

/** Opens all connections; one tenant alone may have them all. */
async function openAll(tenant: string): Promise<void> {
  await pool.openAll(tenant, poolSize);
}

/** After this, no connection counts as one that has seen few tenants. */
async function crowd(): Promise<void> {
  for (let index = 0; index < 60; index += 1) await openAll(`crowd${index}`);
}

it("a tenant's requests go to its home while that is free, and tenants have different ones", async () => {
  await openAll("anyone");
  const tenants = Array.from({ length: 20 }, (_, index) => `t${index}`);
  const rounds = [];
  for (let round = 0; round < 3; round += 1) {
    const backends = [];
    for (const tenant of tenants) backends.push(await served(tenant));
    rounds.push(backends);
  }
  expect(rounds[1]).toEqual(rounds[0]);
  expect(rounds[2]).toEqual(rounds[0]);
  expect(new Set(rounds[0]).size).toBe(poolSize);
});

it("a request waits for a home that others hold, and gets it before a later one of another tenant", async () => {
  await pool.close();
  pool = openPool(60_000);
  await crowd();
  const holding = await acquire(first);
  const waiting = acquire(second);
  const later = acquire(third);
  holding.release();
  const got = await waiting;
  expect(backendOf(got)).toBe(backendOf(holding));
  got.release();
  (await later).release();
});

it("a request gets another connection if its home stays busy", async () => {
  await crowd();
  const holding = await acquire(first);
  const others = await Promise.all([acquire(second), acquire(third)]);
  expect(new Set([holding, ...others].map(backendOf)).size).toBe(3);
  for (const connection of [holding, ...others]) connection.release();
});

it("a tenant alone may use every connection at once", async () => {
  await crowd();
  const all = await Promise.all(Array.from({ length: poolSize }, () => acquire(first)));
  expect(new Set(all.map(backendOf)).size).toBe(poolSize);
  for (const connection of all) connection.release();
});

it("under saturation every request gets a connection, and none is held by two", async () => {
  await crowd();
  const held = new Set<number | null>();
  const work = async (tenant: string): Promise<void> => {
    const connection = await acquire(tenant);
    expect(held).not.toContain(backendOf(connection));
    held.add(backendOf(connection));
    await connection.send([{ text: "select pg_sleep(0.001)" }]);
    held.delete(backendOf(connection));
    connection.release();
  };
  // Most of them ask for the home of the others.
  const asked = Array.from({ length: 300 }, (_, index) => (index % 3 === 0 ? `t${index}` : first));
  const done = await Promise.all([second, third, ...asked].map(work));
  expect(done).toHaveLength(302);
  const { total, idle, waiting } = pool.stats;
  expect({ idle, waiting }).toEqual({ idle: total, waiting: 0 });
});

it("a home whose backend died is opened anew, and stays the home", async () => {
  await openAll("anyone");
  const before = await served(first);
  await database.query(`select pg_terminate_backend(${before})`);
  await expect.poll(() => pool.stats.total).toBe(poolSize - 1);
  // The first request meanwhile goes to an open connection.
  expect(await served(first)).not.toBe(before);
  await expect.poll(() => pool.stats).toMatchObject({ total: poolSize, idle: poolSize });
  const after = await served(first);
  expect(await served(first)).toBe(after);
  expect(await served(second)).toBe(after);
});

it("a cancelled request that waits for its home takes nothing with it", async () => {
  await crowd();
  const holding = await acquire(first);
  const stop = new CancellationSource();
  const waiting = pool.acquire(second, stop);
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ code: "CANCELLED" });
  holding.release();
  await openAll(third);
  expect(pool.stats).toMatchObject({ total: poolSize, idle: poolSize, waiting: 0 });
});
