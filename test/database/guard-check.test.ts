import { Client } from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { SchemaChanged } from "../../src/shared/protocol/schema-moved.ts";
import { advisoryWaits, type TestDatabase } from "../support/database.ts";
import { guardOf, installGuard } from "../support/guard-control.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";

/** The optimistic check of the revisions, and the assertion that decides where the check cannot. */
let database: TestDatabase;
let bench: AdaptorBench;
let migration: Client;

beforeAll(async () => {
  database = await adaptorDatabase("guard_check", ["lou"]);
  await installGuard(database);
  await database.execute(`
    revoke all on schema rowhouse from public;
    create sequence lou.runs; grant usage on lou.runs to lou;
    create function lou.refuse() returns text language plpgsql as $$
      begin perform nextval('lou.runs'); return set_config(null, 'x', true); end $$;
    create function lou.run(command text) returns text language plpgsql as $$
      begin execute command; return 'done'; end $$`);
});
beforeEach(async () => {
  bench = adaptorOn(database, 1);
  migration = new Client({ connectionString: database.url });
  await migration.connect();
});
afterEach(async () => {
  await migration.end();
  await bench.close();
  await database.execute("delete from lou.item where id > 1; drop schema if exists mia");
});
afterAll(() => database.drop());

const guarded = async (reads = false): Promise<Request> =>
  bench.request("lou", { guard: await guardOf(database, "lou", reads) });
const count = async (): Promise<number> => (await database.query("select from lou.item where id > 1")).length;
let moves = 0;
const move = (): string => `comment on table lou.item is 'moved ${++moves}'`;
/** Expects `error` to report the revision that the schema has moved to. */
const expectMoved = async (error: unknown): Promise<void> => {
  expect(error).toBeInstanceOf(SchemaChanged);
  const [revision] = (await guardOf(database, "lou")).revisions;
  if (error instanceof SchemaChanged) expect(JSON.parse(error.revisions)).toEqual({ lou: revision });
};
const insert = "insert into item values (2, 'new')";

const ways: Record<string, (request: Request, text?: string) => Promise<unknown>> = {
  "a write of one statement": (request, text = insert) =>
    bench.withPgClient.singleWrite(request.settings, { text }),
  "a transaction": (request, text = insert) =>
    bench.withPgClient(request.settings, async (client) => {
      await client.query({ text: "select 1" });
      return client.query({ text });
    }),
};

describe.each(Object.keys(ways))("%s", (way) => {
  const write = (request: Request, text?: string): Promise<unknown> =>
    ways[way]?.(request, text) ?? Promise.reject();
  const blocked = (): Promise<void> => expect.poll(() => advisoryWaits(database)).toHaveLength(1);
  const lock = "begin; select rowhouse.lock_tenant('lou')";

  it("waits for a managed migration that moves nothing, and then commits", async () => {
    await migration.query(lock);
    const writing = write(await guarded());
    await blocked();
    expect(await count()).toBe(0);
    await migration.query("commit");
    await writing;
    expect(await count()).toBe(1);
  });

  it("waits for a managed migration, and fails with the new revision", async () => {
    await migration.query(lock);
    const request = await guarded();
    const writing = write(request).catch((error: unknown) => error);
    await blocked();
    await migration.query(`${move()}; commit`);
    const error = await writing;
    await expectMoved(error);
    expect(request.marked()).toBe(false);
    expect(await count()).toBe(0);
  });

  it("waits behind a managed migration that is itself waiting", async () => {
    const reader = new Client({ connectionString: database.url });
    await reader.connect();
    await reader.query("begin; select pg_advisory_xact_lock_shared(rowhouse.tenant_lock_key('lou'))");
    const migrating = migration.query(lock);
    await blocked();
    const writing = write(await guarded());
    await expect.poll(() => advisoryWaits(database)).toHaveLength(2);
    await reader.end();
    await migrating;
    await migration.query("commit");
    await writing;
    expect(await count()).toBe(1);
  });

  it("runs nothing if its schema moved before it began, and reports the new revision", async () => {
    const late = await guarded();
    await database.execute(move());
    const error = await write(late, "select 1 / 0").catch((cause: unknown) => cause);
    await expectMoved(error);
    expect(late.marked()).toBe(false);
  });

  it("commits nothing if its schema moved while it ran, and reports the new revision", async () => {
    const overtaken = await guarded();
    await database.execute("select pg_advisory_lock(4731)");
    const writing = write(overtaken, "insert into item select 3, pg_advisory_xact_lock(4731)::text").catch(
      (error: unknown) => error,
    );
    await expect.poll(() => advisoryWaits(database, 4731)).toHaveLength(1);
    await migration.query(move());
    await database.execute("select pg_advisory_unlock_all()");
    const error = await writing;
    await expectMoved(error);
    expect(overtaken.marked()).toBe(false);
    expect(await count()).toBe(0);
  });

  it("keeps its own errors, even one with the guard's code, and is not run again because of them", async () => {
    await database.execute("alter sequence lou.runs restart");
    await expect(write(await guarded(), "select refuse()")).rejects.toMatchObject({ code: "22004" });
    expect(await database.query("select last_value::int as n from lou.runs")).toEqual([{ n: 1 }]);
  });

  it("is guarded even under an isolation level that its session was not known to have", async () => {
    const level = `alter database "${database.name}"`;
    await database.execute(`${level} set default_transaction_isolation = 'repeatable read'`);
    const connection = await bench.sessions.acquire();
    await database.execute(`${level} reset default_transaction_isolation`);
    expect(connection.readCommitted).toBe(false);
    // As if the server's configuration had changed since.
    Object.defineProperty(connection, "readCommitted", { value: true });
    connection.release();
    const request = await guarded();
    await database.execute("select pg_advisory_lock(4732)");
    const writing = write(request, "insert into item select 3, pg_advisory_xact_lock(4732)::text").catch(
      (error: unknown) => error,
    );
    await expect.poll(() => advisoryWaits(database, 4732)).toHaveLength(1);
    const moving = migration.query(move());
    // Under this level it waits for the guard's lock on the row of the revision.
    await expect
      .poll(() =>
        database.query(
          "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'comment on table lou.item%' and datname = current_database()",
        ),
      )
      .toHaveLength(1);
    await database.execute("select pg_advisory_unlock_all()");
    expect(await writing).not.toBeInstanceOf(Error);
    await moving;
    expect(await count()).toBe(1);
  });

  it("is guarded for several schemas at once, one without a revision included", async () => {
    await database.execute("create schema mia");
    const both = (revision: string, more = "0"): Request =>
      bench.request("lou", {
        guard: {
          reads: false,
          schemas: ["lou", "mia", "nowhere"],
          revisions: [revision, more, "0"],
          lock: "1",
        },
      });
    const revisions = async () => [
      (await guardOf(database, "lou")).revisions[0] ?? "",
      (await guardOf(database, "mia")).revisions[0] ?? "",
    ];
    const [lou = "", mia = ""] = await revisions();
    await write(both(lou, mia));
    expect(await count()).toBe(1);
    await database.execute("comment on schema mia is 'moved'");
    await expect(write(both(lou, mia), "select 1")).rejects.toMatchObject({ code: "SCHEMA_CHANGED" });
    const two = { reads: false, schemas: ["lou", "mia"], lock: "1" };
    const current = await revisions();
    await write(bench.request("lou", { guard: { ...two, revisions: current } }), "select 1");
    for (const stale of [
      [lou, mia],
      [mia, current[1] ?? ""],
    ]) {
      const request = bench.request("lou", { guard: { ...two, revisions: stale } });
      await expect(write(request, "select 1")).rejects.toMatchObject({ code: "SCHEMA_CHANGED" });
    }
  });
});

describe("a guard of many schemas", () => {
  const names = Array.from({ length: 17 }, (_, index) => `wide_${index}`);
  const guardOfAll = async (count: number, reads = false) => {
    const all = await Promise.all(
      ["lou", ...names.slice(1, count)].map((name) => guardOf(database, name, reads)),
    );
    return {
      reads,
      lock: "1",
      schemas: all.flatMap(({ schemas }) => schemas),
      revisions: all.flatMap(({ revisions }) => revisions),
    };
  };

  // The last one does not exist: it has no revision.
  it.each([2, 4, 5, 16, 17])("of %i proves each of them, a missing one included", async (count) => {
    for (const name of names.slice(1, count - 1)) await database.execute(`create schema ${name}`);
    try {
      const guard = await guardOfAll(count);
      expect(guard.revisions.at(-1)).toBe("0");
      const request = (): Request => bench.request("lou", { guard });
      for (let run = 0; run < 7; run += 1) {
        await bench.withPgClient.singleWrite(request().settings, { text: "select 1" });
      }
      for (const ddl of [
        `comment on schema ${names[count - 2]} is 'moved'`,
        `create schema ${names[count - 1]}`,
      ]) {
        if (ddl.includes(names[0] ?? "")) continue;
        const proven = await guardOfAll(count);
        await database.execute(ddl);
        const stale = (reads = false): Request => bench.request("lou", { guard: { ...proven, reads } });
        const writing = bench.withPgClient.singleWrite(stale().settings, { text: "select 1" });
        await expect(writing).rejects.toMatchObject({ code: "SCHEMA_CHANGED" });
        await expect(bench.read(stale(true), "select 1")).rejects.toMatchObject({ code: "SCHEMA_CHANGED" });
      }
    } finally {
      for (const name of names) await database.execute(`drop schema if exists ${name}`);
    }
  });
});

describe("a guarded read", () => {
  it("fails with the new revision if its schema has moved, and runs under the new one", async () => {
    const late = await guarded(true);
    await database.execute(move());
    const error = await bench.read(late, "select name from item").catch((cause: unknown) => cause);
    await expectMoved(error);
    expect(await bench.read(await guarded(true), "select name from item")).toEqual([{ name: "lou" }]);
  });
});
