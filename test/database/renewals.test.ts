import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { RenewAfter } from "../../src/shared/protocol/messages.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { OpenPool } from "../support/tenant-pool.ts";

const never = { tenants: 0, ageMs: 0, memoryMb: 0 };
const poolSize = 3;
let database: TestDatabase;
let pool: OpenPool;
let plainUrl: string;
const said: string[] = [];

beforeAll(async () => {
  database = await createDatabase("renewals");
  await database.execute(`create role ${database.name}_plain login password 'plain'`);
  plainUrl = database.urlAs(`${database.name}_plain`, "plain");
});
afterAll(async () => {
  await database.execute(`drop role ${database.name}_plain`);
  await database.drop();
});
afterEach(() => pool.close());

function open(limits: Partial<RenewAfter>, url = database.url, size = { poolSize, poolReserve: 2 }): void {
  said.length = 0;
  pool = new OpenPool({
    url,
    ...size,
    log: (_, message) => said.push(message),
    renewAfter: { ...never, ...limits, periodMs: 20 },
  });
}

const openAll = (tenant: string): Promise<Set<number | null>> => pool.openAll(tenant, poolSize);

/** Waits for that many renewals for `reason`. */
async function renewed(reason: keyof ReturnType<OpenPool["takeRenewals"]>, count: number): Promise<void> {
  let sum = 0;
  await expect
    .poll(() => {
      sum += pool.takeRenewals()[reason];
      return sum;
    })
    .toBeGreaterThanOrEqual(count);
}

/** Waits until the session was asked for its memory. */
async function asked(backend: number | null | undefined): Promise<void> {
  const text = `select from pg_stat_activity where pid = ${backend} and query like '%pg_backend_memory_contexts%'`;
  await expect.poll(() => database.query(text)).toHaveLength(1);
}

it("every connection that has seen so many tenants is renewed, one after the other, and no request fails", async ({
  signal,
}) => {
  open({ tenants: 5 });
  const before = await openAll("t0");
  let count = 0;
  let most = 0;
  for (let round = 1; count < 2 * poolSize && !signal.aborted; round += 1) {
    await openAll(`t${round}`);
    await nextTurn();
    const { tenants } = pool.takeRenewals();
    count += tenants;
    most = Math.max(most, poolSize - pool.stats.idle);
  }
  // Of the idle ones, no more than the one that is being renewed is missing.
  expect(most).toBeLessThanOrEqual(1);
  const after = await openAll("t0");
  expect([...after].filter((backend) => before.has(backend))).toEqual([]);
});

it("a connection in a transaction is not renewed, however old, and is once it is returned", async ({
  signal,
}) => {
  open({ ageMs: 1 });
  const connection = await pool.acquire("t1");
  await connection.send([{ text: "begin" }, { text: "create temporary table kept (id int)" }]);
  // Its turns come and go: others are renewed meanwhile.
  for (let count = 0; count < 5 && !signal.aborted; ) {
    (await pool.acquire("t2")).release();
    await nextTurn();
    count += pool.takeRenewals().age;
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
  await renewed("memory", poolSize);
  expect([...(await openAll("t1"))].filter((backend) => before.has(backend))).toEqual([]);
});

it("so is one that has taken it for a tenant that it knew already when it was asked before", async () => {
  open({ memoryMb: 64 }, database.url, { poolSize: 1, poolReserve: 0 });
  const connection = await pool.acquire("t1");
  const backend = connection.client.processID;
  connection.release();
  await asked(backend);
  const again = await pool.acquire("t1");
  expect(again.client.processID).toBe(backend);
  await again.send([{ text: swelling }]);
  again.release();
  await renewed("memory", 1);
});

/** Prepares statements until the backend has 64 MB more. */
const swelling = `do $$ declare bytes bigint; step int := 0; begin
  loop
    step := step + 1;
    execute format('prepare swelling%s as select %L', step, repeat('x', 1000000));
    select sum(total_bytes) into bytes from pg_backend_memory_contexts;
    exit when bytes > 80 * 1048576;
  end loop;
end $$`;

it("without the right to see a session's memory, says so once, and serves", async () => {
  open({ memoryMb: 16 }, plainUrl);
  await openAll("t1");
  const words = /does not tell a session's memory.*permission denied/;
  await expect.poll(() => said.filter((line) => words.test(line))).toHaveLength(1);
  const connection = await pool.acquire("t1");
  await connection.send([{ text: "select 1" }]);
  connection.release();
  expect(pool.takeRenewals().memory).toBe(0);
});

it("the question for a session's memory runs nothing of a tenant's, whatever search path is left in the session", async () => {
  await database.execute(`
    create schema evil;
    create table evil.run (by name);
    create function evil.div(numeric, integer) returns numeric language sql
      as 'insert into evil.run values (session_user); select 1.0';
    create operator evil./ (leftarg = numeric, rightarg = integer, function = evil.div);
    create function evil.sum_next(numeric, bigint) returns numeric language sql
      as 'insert into evil.run values (session_user); select 1.0';
    create aggregate evil.sum(bigint) (sfunc = evil.sum_next, stype = numeric, initcond = '0')`);
  open({ memoryMb: 1 });
  const connection = await pool.acquire("t1");
  await connection.send([{ text: "set search_path = evil, pg_catalog" }]);
  connection.release();
  await renewed("memory", 1);
  expect(await database.query("select by from evil.run")).toEqual([]);
});

it("a connection that is due is kept as long as no other can be had, and renewed once one can", async () => {
  const limit = (count: number): Promise<void> =>
    database.execute(`alter role ${database.name}_plain connection limit ${count}`);
  await limit(poolSize);
  open({ ageMs: 1 }, plainUrl);
  const before = await openAll("t1");
  await expect.poll(() => said.join()).toMatch(/is kept, for no other can be had: too many connections/);
  expect(await openAll("t1")).toEqual(before);
  expect(pool.takeRenewals().age).toBe(0);
  await limit(-1);
  await renewed("age", poolSize);
});

it("no connection is renewed while the reserve is open to the last: there would be one too many", async () => {
  open({ ageMs: 1, memoryMb: 100_000 });
  const held = await Promise.all(["t1", "t2", "t3", "t4", "t5"].map((tenant) => pool.acquire(tenant)));
  const before = held[0]?.client.processID;
  held.shift()?.release();
  // It has its turns, but none to be renewed.
  await asked(before);
  const again = await pool.acquire("t1");
  expect(again.client.processID).toBe(before);
  expect(pool.takeRenewals().age).toBe(0);
  for (const connection of [again, ...held]) connection.release();
});
