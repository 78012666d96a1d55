import type { DatabaseError } from "pg";
import { describe, expect, test, vi } from "vitest";
import {
  assertRevisions,
  beginWrite,
  changed,
  guardDatabase,
  lockExclusively,
} from "../support/guard-database.ts";

const guard = guardDatabase();

describe("a write", () => {
  test("waits for a migration that holds the lock, and then fails with the revision that it committed", async () => {
    const [migration, writer] = [await guard.owner(), await guard.host()];
    await migration.query("begin");
    await lockExclusively(migration);
    await writer.query("begin");
    const writing = beginWrite(writer, [guard.before]).catch((error: unknown) => error);
    await guard.blocked(writer.pid);
    await migration.query("alter table shop.item add column waited_for int");
    await migration.query("commit");
    const error = await writing;
    expect(error).toMatchObject(changed);
    const detail = JSON.parse((error as DatabaseError).detail ?? "");
    expect(detail).toEqual({ shop: await guard.revision() });
    expect(BigInt(detail.shop)).toBeGreaterThan(BigInt(guard.before));
    await writer.query("rollback");
  });

  test("goes on after a migration that was rolled back", async () => {
    const [migration, writer] = [await guard.owner(), await guard.host()];
    await migration.query("begin");
    await lockExclusively(migration);
    await migration.query("alter table shop.item add column never int");
    await writer.query("begin");
    const writing = beginWrite(writer, [guard.before]);
    await guard.blocked(writer.pid);
    await migration.query("rollback");
    await writing;
    await assertRevisions(writer, [guard.before]);
    await writer.query("commit");
  });

  test("holds up its tenant's migration until it ends, but neither other writes nor another tenant's migration", async () => {
    const [writer, other, migration] = [await guard.host(), await guard.host(), await guard.owner()];
    await writer.query("begin");
    await beginWrite(writer, [guard.before]);
    await other.query("begin");
    await beginWrite(other, [guard.before]);
    await other.query("commit");
    await migration.query("begin");
    await lockExclusively(migration, "globex");
    const migrating = lockExclusively(migration);
    await guard.blocked(migration.pid);
    await writer.query("commit");
    await migrating;
    await migration.query("rollback");
  });

  test("fails at its end if DDL by hand that was in progress at its start has been committed since", async () => {
    const [psql, writer] = [await guard.owner(), await guard.host()];
    await psql.query("begin; alter table shop.item add column by_hand int");
    await writer.query("begin");
    await beginWrite(writer, [guard.before]);
    await assertRevisions(writer, [guard.before]);
    await psql.query("commit");
    await expect(assertRevisions(writer, [guard.before])).rejects.toMatchObject(changed);
    await writer.query("rollback");
  });

  test("fails likewise if both assertions are in one statement", async () => {
    const [psql, writer, gate] = [await guard.owner(), await guard.owner(), await guard.owner()];
    await gate.query("begin");
    await lockExclusively(gate, "gate");
    const writing = writer
      .query({
        text: `select rowhouse.begin_write('acme', array['shop'], array[$1::bigint]),
          pg_advisory_xact_lock(rowhouse.tenant_lock_key('gate')),
          rowhouse.assert_revisions(array['shop'], array[$1::bigint])`,
        values: [guard.before],
      })
      .catch((error: unknown) => error);
    await guard.blocked(writer.pid);
    await psql.query("alter table shop.item add column in_between int");
    await gate.query("commit");
    expect(await writing).toMatchObject(changed);
  });

  test("takes no row locks under READ COMMITTED", async () => {
    const writer = await guard.host();
    await writer.query("begin");
    await beginWrite(writer, [guard.before]);
    await assertRevisions(writer, [guard.before]);
    const held = await guard.test.query(
      "select mode from pg_locks where pid = $1 and relation = 'rowhouse.schema_revision'::regclass",
      [writer.pid],
    );
    expect(held.map((row) => row["mode"])).not.toContain("RowShareLock");
    await writer.query("commit");
  });
});

test.each<[string, string[] | null, string[] | null]>([
  ["another number", ["shop"], ["1"]],
  ["a number for a schema that is missing", ["nowhere"], ["1"]],
  ["0 for a schema that exists", ["shop"], ["0"]],
  ["one number too few", ["shop", "other"], ["="]],
  ["one schema too few", [], ["="]],
  ["no lists at all", null, null],
])("an assertion with %s fails", async (_, schemas, revisions) => {
  const given = revisions?.map((each) => (each === "=" ? guard.before : each)) ?? null;
  await expect(
    (await guard.host()).query("select rowhouse.assert_revisions($1, $2)", [schemas, given]),
  ).rejects.toMatchObject(changed);
});

test("a write without a tenant is refused, as it would hold no lock", async () => {
  await expect(
    (await guard.host()).query("select rowhouse.begin_write(null, '{}', '{}')"),
  ).rejects.toMatchObject({ code: "22004" });
});

test("the host's role may call the guard under any search path, but not touch revisions; a tenant's role may do neither", async () => {
  const host = await guard.host();
  await guard.test.execute(`
    create function other.unnest(text[]) returns setof text language sql as 'select null';
    create function other.cardinality(text[]) returns int language sql as 'select 0';
    grant usage on schema other to ${guard.role}`);
  await host.query("set search_path = other, pg_catalog");
  await assertRevisions(host, [guard.before]);
  await expect(assertRevisions(host, ["1"])).rejects.toMatchObject(changed);
  await expect(host.query("select rowhouse.touch_schemas(array['shop'])")).rejects.toMatchObject({
    code: "42501",
  });
  await expect(host.query("select from rowhouse.schema_revision")).rejects.toMatchObject({ code: "42501" });
  await guard.test.execute(`revoke usage on schema rowhouse from ${guard.role}`);
  await expect((await guard.host()).query("select rowhouse.tenant_lock_key('acme')")).rejects.toMatchObject({
    code: "42501",
  });
  await guard.test.execute(`grant usage on schema rowhouse to ${guard.role}`);
});

test("a migration gets its turn within three seconds among writes of a second each that overlap", async () => {
  const stop = new AbortController();
  let finished = 0;
  const write = async (delayMs: number): Promise<void> => {
    const writer = await guard.host();
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    while (!stop.signal.aborted) {
      await writer.query("begin");
      await beginWrite(writer, [guard.before]);
      await writer.query("select pg_sleep(1)");
      await writer.query("commit");
      finished += 1;
    }
  };
  const writers = [0, 250, 500, 750].map(write);
  try {
    // Each of them has written, and from now on one of them holds the lock at any moment.
    await vi.waitFor(() => expect(finished).toBeGreaterThanOrEqual(4), { timeout: 20_000 });
    const migration = await guard.owner();
    await migration.query("begin");
    const locking = lockExclusively(migration);
    await guard.blocked(migration.pid);
    const startedMs = performance.now();
    await locking;
    expect(performance.now() - startedMs).toBeLessThan(3_000);
    await migration.query("commit");
  } finally {
    stop.abort();
    await Promise.all(writers);
  }
});
