import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { RenewAfter } from "../../src/shared/protocol/messages.ts";
import type { Connection } from "../../workers/postgres/connection.ts";
import { TenantPool } from "../../workers/postgres/connection-pool.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

const never = { tenants: 0, ageMs: 0, memoryMb: 0 };
const poolSize = 3;
let database: TestDatabase;
let pool: TenantPool;
const said: string[] = [];

beforeAll(async () => {
  database = await createDatabase("renewals");
});
afterAll(() => database.drop());
afterEach(() => pool.close());

function open(limits: Partial<RenewAfter>, url = database.url): void {
  pool = new TenantPool({
    url,
    poolSize,
    poolReserve: 2,
    applicationName: "rowhouse:renewals-test",
    resultBytes: 1_000_000,
    statementTimeoutMs: 30_000,
    log: (_, message) => said.push(message),
    renewAfter: { ...never, ...limits, periodMs: 20 },
  });
}

const acquire = (tenant: string): Promise<Connection> => pool.acquire(undefined, { tenant, prepares: false });

async function openAll(tenant: string): Promise<Set<number | null>> {
  const all = await Promise.all(Array.from({ length: poolSize }, () => acquire(tenant)));
  for (const connection of all) connection.release();
  return new Set(all.map(({ client }) => client.processID));
}

it("every connection that has seen so many tenants is renewed, one after the other, and no request fails", async () => {
  open({ tenants: 5 });
  const before = await openAll("t0");
  let renewed = 0;
  let most = 0;
  for (let round = 1; renewed < 2 * poolSize; round += 1) {
    await openAll(`t${round}`);
    await nextTurn();
    const { tenants } = pool.takeRenewals();
    renewed += tenants;
    most = Math.max(most, poolSize - pool.stats.idle);
  }
  // Of the idle ones, no more than the one that is being renewed is missing.
  expect(most).toBeLessThanOrEqual(1);
  const after = await openAll("t0");
  expect([...after].filter((backend) => before.has(backend))).toEqual([]);
});

it("a connection in a transaction is not renewed, however old, and is once it is returned", async () => {
  open({ ageMs: 1 });
  const connection = await acquire("t1");
  await connection.send([{ text: "begin" }, { text: "create temporary table kept (id int)" }]);
  // Its turns come and go: others are renewed meanwhile.
  for (let renewed = 0; renewed < 5; ) {
    (await acquire("t2")).release();
    await nextTurn();
    renewed += pool.takeRenewals().age;
  }
  await connection.send([{ text: "insert into kept values (1)" }, { text: "rollback" }]);
  expect(connection.brokenBy).toBeNull();
  const before = connection.client.processID;
  connection.release();
  await expect
    .poll(() => database.query(`select from pg_stat_activity where pid = ${before}`))
    .toHaveLength(0);
});

it("a connection whose backend has taken so much memory is renewed", async () => {
  // A new backend takes more.
  open({ memoryMb: 1 });
  const before = await openAll("t1");
  let renewed = 0;
  await expect
    .poll(() => {
      renewed += pool.takeRenewals().memory;
      return renewed;
    })
    .toBe(poolSize);
  expect([...(await openAll("t1"))].filter((backend) => before.has(backend))).toEqual([]);
});

it("without the right to see a session's memory, says so once, and serves", async () => {
  await database.execute(`create role ${database.name}_plain login password 'plain'`);
  open({ memoryMb: 16 }, database.urlAs(`${database.name}_plain`, "plain"));
  await openAll("t1");
  const words = /does not tell a session's memory.*permission denied/;
  await expect.poll(() => said.filter((line) => words.test(line))).toHaveLength(1);
  const connection = await acquire("t1");
  await connection.send([{ text: "select 1" }]);
  connection.release();
  expect(pool.takeRenewals().memory).toBe(0);
  await pool.close();
  open(never);
  await database.execute(`drop role ${database.name}_plain`);
});
