import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Decisions } from "../../src/decisions/decisions.ts";
import { LockBackoff } from "../../src/decisions/lock-backoff.ts";
import { Database } from "../../src/postgres/database.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let database: Database;
let nowMs = 0;
let probes = 0;
let decisions: Decisions;
let pauses: LockBackoff;

const tenantOf = (id: string): Tenant =>
  parseTenant({ id, schemas: { app: id } }, { database: "main", databases: ["main"] });
const [locked, alsoLocked, free] = ["locked", "also_locked", "free"].map(tenantOf) as [
  Tenant,
  Tenant,
  Tenant,
];

/** Its connection holds locks as a tenant's transaction would; waits for them are observed in pg_locks. */
beforeAll(async () => {
  server = await createDatabase("lock_pauses");
  for (const { id } of [locked, alsoLocked, free]) {
    await server.execute(
      `create schema ${id}; create table ${id}.thing (id int primary key); create view ${id}.seen as select id from ${id}.thing`,
    );
  }
  // As many connections as a host's front has.
  database = new Database({
    name: "main",
    url: server.url,
    applicationName: "front",
    observe: () => undefined,
  });
  decisions = new Decisions({
    database: () => ({ together: (statements) => database.together(statements), control: false }),
    pooling: true,
    guard: "off",
    presetVersion: "1",
    hostVersion: "1",
    observe: ({ kind }) => {
      if (kind === "schema.read") probes += 1;
    },
  });
  pauses = new LockBackoff({ decisions, clock: { now: () => nowMs } });
});
afterAll(async () => {
  await database.close();
  await server.drop();
});

const waiting = async (): Promise<string[]> => {
  // A transaction keeps its first snapshot of the backends: the front's may have come since.
  await server.query("select pg_stat_clear_snapshot()");
  const rows = await server.query<{ name: string }>(
    "select l.relation::regclass::text as name from pg_locks l join pg_stat_activity a using (pid) where a.application_name = 'front' and not l.granted and a.datname = current_database() order by 1",
  );
  return rows.map(({ name }) => name);
};
const waits = (count: number): Promise<void> =>
  vi.waitFor(async () => expect(await waiting()).toHaveLength(count), { timeout: 20_000, interval: 20 });
const refusal = async (tenant: Tenant) => {
  try {
    return await pauses.decide(tenant);
  } catch (error) {
    return error;
  }
};
const lockTimeout = (retryAfterSeconds: number) =>
  expect.objectContaining({ code: "LOCK_TIMEOUT", retryAfterSeconds });

test("tenants that lock their own tables leave one connection to the others, and are probed again after pauses", async () => {
  await server.execute(`begin; lock table locked.seen, also_locked.seen in access exclusive mode`);
  try {
    // Not known yet: each of them takes one connection, however many ask.
    const first = Promise.all([locked, alsoLocked, locked, locked].map(refusal));
    await waits(2);
    expect(probes).toBe(2);
    for (const error of await first) expect(error).toEqual(lockTimeout(1));
    // During the pause PostgreSQL is not asked.
    nowMs += 400;
    expect(await refusal(locked)).toEqual(lockTimeout(0.6));
    expect(await refusal(alsoLocked)).toEqual(lockTimeout(0.6));
    expect(probes).toBe(2);

    // Afterwards, only one of them at a time: while it waits, the free tenant is decided.
    nowMs += 600;
    const again = Promise.all([locked, alsoLocked, locked, alsoLocked].map(refusal));
    await waits(1);
    for (let round = 0; round < 5; round += 1) {
      decisions.forget(free.id);
      expect(await pauses.decide(free)).toMatchObject({ tenant: free });
      expect((await waiting()).length).toBeLessThanOrEqual(1);
    }
    for (const error of await again) expect(error).toEqual(lockTimeout(2));
  } finally {
    await server.execute("rollback");
  }
  // The lock is gone; once the pause is over, both are decided.
  expect(await refusal(locked)).toEqual(lockTimeout(2));
  nowMs += 2_000;
  expect(await pauses.decide(locked)).toMatchObject({ tenant: locked });
  expect(await pauses.decide(alsoLocked)).toMatchObject({ tenant: alsoLocked });
  // The backoff is reset.
  decisions.forget(locked.id);
  expect(await pauses.decide(locked)).toMatchObject({ tenant: locked });
});
