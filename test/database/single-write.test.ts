import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { Pipeline } from "../../src/shared/postgres/pipeline.ts";
import { advisoryWaits, type TestDatabase } from "../support/database.ts";
import { guardOf, installGuard } from "../support/guard-control.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";
import { until } from "../support/worker-instance.ts";

let database: TestDatabase;
let bench: AdaptorBench;
beforeAll(async () => {
  database = await adaptorDatabase("single_write", ["ada", "bob"]);
  await installGuard(database);
  await database.execute(`
    revoke all on schema rowhouse from public;
    create table ada.late (id int unique deferrable initially deferred); grant insert, select on ada.late to ada;
    create table ada.said (role text, path text); grant insert, select on ada.said to ada;
    create function ada.say() returns trigger language plpgsql as $$
      begin insert into said values (current_user, current_setting('search_path')); return null; end $$;
    create constraint trigger say after insert on ada.late deferrable initially deferred
      for each row execute function ada.say();
    create function ada.forget() returns int language plpgsql as $$ begin deallocate all; return 1; end $$`);
  bench = adaptorOn(database);
});
afterEach(async () => {
  vi.restoreAllMocks();
  // On the same connection, which keeps nothing of the write and is usable.
  const state = "select current_user as role, current_setting('app.x', true) as x, pg_backend_pid() as pid";
  expect(await bench.read(bench.request("bob"), state)).toMatchObject([{ role: "bob" }]);
  await database.execute("delete from ada.item where id > 1; delete from ada.late; delete from ada.said");
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

const plain = (): Request => bench.request("ada");
const guarded = async (): Promise<Request> => bench.request("ada", { guard: await guardOf(database, "ada") });
const write = (request: Request, text: string, values: unknown[] = []) =>
  bench.withPgClient.singleWrite(request.settings, { text, values });
const insert = "insert into item values ($1, 'new') returning id, current_user as role";
const ids = async (): Promise<unknown[]> =>
  (await database.query("select id from ada.item where id > 1 order by id")).map((row) => row["id"]);
let moves = 0;
const move = (): Promise<void> => database.execute(`comment on table ada.item is 'moved ${++moves}'`);
const changed = { code: "SCHEMA_CHANGED" };
const sleeping = async (): Promise<number> =>
  (
    await database.query(
      "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    )
  ).length;

/** How many other connections run a statement with that text, or have it as their last. */
const running = async (text: string): Promise<number> =>
  (
    await database.query(
      "select from pg_stat_activity where datname = current_database() and position($1 in query) > 0 and pid <> pg_backend_pid()",
      [text],
    )
  ).length;

describe.each([
  ["without a guard", async () => plain()],
  ["with a guard", guarded],
])("a write of one statement, %s,", (_, requested) => {
  it("is sent in one group with its commit, and returns the statement's rows", async () => {
    const bursts = vi.spyOn(Pipeline.prototype, "handleReadyForQuery");
    // This makes the connection the tenant's.
    await bench.read(await requested(), "select 1");
    for (const id of [2, 3, 4]) {
      const request = await requested();
      bursts.mockClear();
      expect((await write(request, insert, [id])).rows).toEqual([{ id, role: "ada" }]);
      expect(bursts).toHaveBeenCalledTimes(1);
      expect(request.marked()).toBe(true);
    }
    expect(await ids()).toEqual([2, 3, 4]);
  });

  it("leaves neither rows nor a mark if it fails, by itself or at its commit", async () => {
    for (const [text, code] of [
      ["insert into item values (2, 'x'), (1, 'taken')", "23505"],
      ["insert into late values (1), (1)", "23505"],
      ["insert into nowhere values (1)", "42P01"],
      ["nonsense", "42601"],
    ] as const) {
      const request = await requested();
      await expect(write(request, text)).rejects.toMatchObject({ code });
      expect(request.marked()).toBe(false);
    }
    expect(await ids()).toEqual([]);
    expect(await database.query("select * from ada.late")).toEqual([]);
  });

  it("commits as the tenant's role, on its search path", async () => {
    await write(await requested(), "insert into late values (7)");
    expect(await database.query("select * from ada.said")).toEqual([{ role: "ada", path: "ada, pg_temp" }]);
  });

  it("is run again, once, if its statement is no longer prepared", async () => {
    for (const id of [2, 3]) await write(await requested(), insert, [id]);
    await bench.read(plain(), "select forget()");
    await write(await requested(), insert, [4]);
    expect(await ids()).toEqual([2, 3, 4]);
  });

  it("is kept even if clearing the session after it fails, and the session is cleared later", async () => {
    await write(plain(), insert, [2]);
    const text = "insert into item values (3, set_config('app.x', 'mine', false)) returning forget()";
    await write(plain(), text);
    expect(await ids()).toEqual([2, 3]);
    const [left] = await bench.read(bench.request("bob"), "select current_setting('app.x', true) as x");
    expect(left).not.toEqual({ x: "mine" });
  });

  it("that is cancelled is stopped in PostgreSQL, and counts as possibly committed", async () => {
    const request = await requested();
    const writing = write(request, "insert into item select 5, pg_sleep(600)::text");
    const failing = expect(writing).rejects.toMatchObject({ code: "CANCELLED" });
    await until(async () => (await sleeping()) === 1);
    request.scope.cancel();
    await failing;
    await until(async () => (await sleeping()) === 0);
    expect(request.marked()).toBe(true);
    expect(await ids()).toEqual([]);
  });

  it("whose connection is lost counts as possibly committed, and the error says so", async () => {
    const request = await requested();
    const writing = write(request, "insert into item select 5, pg_sleep(600)::text");
    const failing = expect(writing).rejects.toThrow(/may or may not have been committed/);
    await until(async () => (await sleeping()) === 1);
    await database.execute(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    await failing;
    expect(request.marked()).toBe(true);
  });

  it("whose result is too large fails with an error that says that it may be committed", async () => {
    const text = "insert into item values (6, 'x') returning repeat('x', 3000000)";
    await expect(write(await requested(), text)).rejects.toThrow(/larger than.*may or may not/);
    // What has been sent runs on without us, its commit included.
    await until(async () => (await running("repeat('x', 3000000)")) === 0);
  });

  it.each(["commit", "rollback", "set role bob", "copy item from stdin", "begin"])(
    "does not send %j",
    async (text) => {
      const request = await requested();
      await expect(write(request, text)).rejects.toMatchObject({ code: "INTERNAL" });
      expect(request.marked()).toBe(false);
    },
  );

  it("sends nothing once the host has taken over its request's answer", async () => {
    const request = await requested();
    request.scope.hostFailure = new Error("the host's");
    await expect(write(request, insert, [9])).rejects.toThrow("the host's");
    expect(await ids()).toEqual([]);
  });
});

describe("a guarded write of one statement", () => {
  it("leaves nothing if its revisions move before it or while it runs, and the ledger is clear again", async () => {
    const late = await guarded();
    await move();
    await expect(write(late, insert, [2])).rejects.toMatchObject(changed);
    expect(late.marked()).toBe(false);

    const overtaken = await guarded();
    await database.execute("select pg_advisory_lock(4713)");
    const writing = write(overtaken, "insert into item select 3, pg_advisory_xact_lock(4713)::text").catch(
      (error: unknown) => error,
    );
    await until(async () => (await advisoryWaits(database, 4713)).length === 1);
    await move();
    await database.execute("select pg_advisory_unlock_all()");
    expect(await writing).toMatchObject(changed);
    expect(overtaken.marked()).toBe(false);
    expect(await ids()).toEqual([]);
  });

  it("that fails reports SCHEMA_CHANGED if a changed schema may be the cause, else its own error", async () => {
    const [current, overtaken] = [await guarded(), await guarded()];
    const text = "insert into item (no_such_column) values (1)";
    await expect(write(current, text)).rejects.toMatchObject({ code: "42703" });
    await database.execute("select pg_advisory_lock(4714)");
    const failing = write(overtaken, "insert into item select 1, pg_advisory_xact_lock(4714)::text").catch(
      (error: unknown) => error,
    );
    await until(async () => (await advisoryWaits(database, 4714)).length === 1);
    await move();
    await database.execute("select pg_advisory_unlock_all()");
    expect(await failing).toMatchObject(changed);
  });
});
