import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { advisoryWaits, type TestDatabase } from "../support/database.ts";
import { guardOf, installGuard } from "../support/guard-control.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let bench: AdaptorBench;
let two: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("guard_adaptor", ["gus"]);
  await installGuard(database);
  // As the tenant: it has no right on the control schema.
  await database.execute(`
    revoke all on schema rowhouse from public;
    create function gus.forget() returns void language plpgsql as $$ begin execute 'deallocate all'; end $$;
    create function gus.say() returns trigger language plpgsql as $$
      begin insert into gus.said values (current_user); return null; end $$;
    create table gus.said (role text);
    grant insert, select on gus.said to gus;
    create function gus.shout() returns trigger language plpgsql as $$
      begin for n in 1..30 loop raise notice '%', repeat('x', 50000); end loop; return null; end $$;
    create table gus.loud (id int); grant insert, select on gus.loud to gus;
    create constraint trigger loud after insert on gus.loud deferrable initially deferred
      for each row execute function gus.shout();
    create constraint trigger said after insert on gus.item deferrable initially deferred
      for each row execute function gus.say()`);
  bench = adaptorOn(database, 1, 1_000_000);
  two = adaptorOn(database, 2);
});
afterEach(async () => {
  await database.execute("delete from gus.item where id > 1; delete from gus.said");
});
afterAll(async () => {
  await bench.close();
  await two.close();
  await database.drop();
});

const guarded = async (on = bench, reads = false): Promise<Request> =>
  on.request("gus", { guard: await guardOf(database, "gus", reads) });
const insert = (id: number): { text: string } => ({ text: `insert into item values (${id}, 'new')` });
const write = (request: Request, text: string, on = bench): Promise<unknown> =>
  on.withPgClient(request.settings, (client) => client.query({ text }));
const count = async (): Promise<number> =>
  Number((await database.query("select count(*) as n from gus.item where id > 1"))[0]?.["n"]);
let moves = 0;
const move = (): Promise<void> => {
  moves += 1;
  return database.execute(`comment on table gus.item is 'moved ${moves}'`);
};
const changed = { code: "SCHEMA_CHANGED" };

describe("a guarded write", () => {
  it("commits as the tenant's role, so that deferred triggers run as it", async () => {
    const request = await guarded();
    await write(request, insert(2).text);
    expect(await count()).toBe(1);
    expect(await database.query("select role from gus.said")).toEqual([{ role: "gus" }]);
    expect(request.marked()).toBe(true);
  });

  it("leaves nothing if its revisions move before it or while it runs, and the ledger is clear again", async () => {
    const late = await guarded();
    await move();
    await expect(write(late, insert(2).text)).rejects.toMatchObject(changed);
    expect(late.marked()).toBe(false);

    const overtaken = await guarded();
    const writing = bench.withPgClient(overtaken.settings, async (client) => {
      await client.query(insert(2));
      await move();
    });
    await expect(writing).rejects.toMatchObject(changed);
    expect(overtaken.marked()).toBe(false);
    expect(await count()).toBe(0);
  });

  it("reports SCHEMA_CHANGED even if a callback swallows it and throws something else", async () => {
    const request = await guarded();
    await move();
    const writing = bench.withPgClient(request.settings, async (client) => {
      await client.query(insert(2)).catch(() => undefined);
      await client.query(insert(3)).catch(() => undefined);
      throw new Error("my own words");
    });
    await expect(writing).rejects.toMatchObject(changed);

    const swallowed = await guarded();
    await move();
    await expect(
      bench.withPgClient(swallowed.settings, (client) => client.query(insert(2)).catch(() => null)),
    ).rejects.toMatchObject(changed);
    expect(await count()).toBe(0);
  });

  it("that fails reports SCHEMA_CHANGED if a changed schema may be the cause, else its own error", async () => {
    const broken = (during: () => Promise<void>) => async (request: Request) =>
      bench.withPgClient(request.settings, async (client) => {
        await client.query(insert(2));
        await during();
        await client.query({ text: "insert into item (no_such_column) values (1)" });
      });
    await expect(broken(async () => undefined)(await guarded())).rejects.toMatchObject({ code: "42703" });
    await expect(broken(move)(await guarded())).rejects.toMatchObject(changed);
    // The connection is usable as before.
    expect(await bench.read(await guarded(), "select current_user as role")).toEqual([{ role: "gus" }]);
    expect(await count()).toBe(0);
  });

  it.each([
    ["throws for a failed statement", "insert into item (no_such_column) values (1)"],
    ["throws for what it reads", "select 1"],
  ])("reports a changed schema rather than the error that a callback %s", async (_, text) => {
    const worded = (during: () => Promise<void>) => async (request: Request) =>
      bench.withPgClient(request.settings, async (client) => {
        await client.query(insert(2));
        await during();
        await client.query({ text }).catch(() => undefined);
        throw new Error("my own words");
      });
    await expect(worded(async () => undefined)(await guarded())).rejects.toThrow("my own words");
    await expect(worded(move)(await guarded())).rejects.toMatchObject(changed);
    expect(await count()).toBe(0);
  });

  it("does not commit once another transaction of its request has met a changed schema", async () => {
    const request = await guarded(two);
    const { promise: begun, resolve: isBegun } = Promise.withResolvers<void>();
    const { promise: go, resolve: goOn } = Promise.withResolvers<void>();
    const beside = two
      .withPgClient(request.settings, async (client) => {
        await client.query({ text: "select 1" });
        isBegun();
        await go;
      })
      .catch((error: unknown) => error);
    await begun;
    const failing = two.withPgClient(request.settings, async (client) => {
      await client.query(insert(2));
      await move();
    });
    await expect(failing).rejects.toMatchObject(changed);
    goOn();
    expect(await beside).toMatchObject(changed);
    expect(request.marked()).toBe(false);
    await expect(write(request, insert(3).text, two)).rejects.toMatchObject(changed);
    expect(await count()).toBe(0);
  });

  it("counts as possibly committed if its commit was never answered", async () => {
    const request = await guarded();
    // More notices at the commit than a result may bring: the connection is discarded in the middle of it.
    await expect(write(request, "insert into loud values (1)")).rejects.toThrow(/larger than/);
    expect(request.marked()).toBe(true);
  });

  it("works on a connection whose prepared statements a function has deallocated, and never runs without its role", async () => {
    for (let round = 0; round < 3; round += 1) {
      await write(await guarded(), insert(10 + round).text);
      await bench.read(await guarded(), "select forget()");
      await write(await guarded(), insert(20 + round).text);
      // Inside a write, the statements that end it are gone too: it leaves nothing, and the next one works.
      const inside = write(await guarded(), "select forget()");
      await inside.catch((error: unknown) => expect(error).toMatchObject({ code: "26000" }));
    }
    expect(await count()).toBe(6);
    expect(await bench.read(await guarded(), "select current_user as role")).toEqual([{ role: "gus" }]);
  });

  it("sends no statement of the guard if its request has none", async () => {
    const plain = bench.request("gus");
    await database.execute("select pg_advisory_lock(rowhouse.tenant_lock_key('gus'))");
    await write(plain, insert(2).text);
    await database.execute("select pg_advisory_unlock(rowhouse.tenant_lock_key('gus'))");
    const own = adaptorOn(database);
    await write(own.request("gus"), insert(3).text, own);
    // Asked as the session's user: a tenant cannot see them.
    const connection = await own.sessions.acquire();
    const { rows } = await connection.send([{ text: "select name from pg_prepared_statements" }]);
    connection.release();
    expect(rows.length).toBeGreaterThan(0);
    expect(JSON.stringify(rows)).not.toMatch(/await_migration|look|assert/);
    await own.close();
  });
});

describe("a guarded read", () => {
  it("fails if the revisions have moved, even if it turns out to be a write", async () => {
    expect(await bench.read(await guarded(bench, true), "select name from item")).toEqual([{ name: "gus" }]);
    const [read, writing] = [await guarded(bench, true), await guarded(bench, true)];
    await move();
    await expect(bench.read(read, "select name from item")).rejects.toMatchObject(changed);
    await expect(bench.read(writing, insert(2).text)).rejects.toMatchObject(changed);
    expect(await count()).toBe(0);
    await bench.read(await guarded(bench, true), insert(2).text);
    expect(await count()).toBe(1);
  });
});

describe.each(["repeatable read", "serializable"])("under %s", (level) => {
  let own: AdaptorBench;
  beforeAll(async () => {
    await database.execute(
      `alter database "${database.name}" set default_transaction_isolation = '${level}'`,
    );
    own = adaptorOn(database, 1);
  });
  afterAll(async () => {
    await own.close();
    await database.execute(`alter database "${database.name}" reset default_transaction_isolation`);
  });

  it("a serialization failure of the guard is SCHEMA_CHANGED; one of the tenant's own SQL stays the tenant's", async () => {
    await write(await guarded(own), insert(2).text, own);
    const [overtaken, hand] = [await guarded(own), new Client({ connectionString: database.url })];
    await hand.connect();
    await hand.query("begin; select rowhouse.lock_tenant('gus')");
    const writing = write(overtaken, insert(3).text, own).catch((error: unknown) => error);
    await expect.poll(() => advisoryWaits(database)).toHaveLength(1);
    await hand.query(`comment on table gus.item is 'under ${level}'; commit`);
    await hand.end();
    expect(await writing).toMatchObject({ ...changed, cause: { code: "40001" } });

    const clash = own.withPgClient((await guarded(own)).settings, async (client) => {
      await client.query({ text: "select 1 from item" });
      await database.execute("update gus.item set name = name where id = 1");
      await client.query({ text: "update item set name = 'mine' where id = 1" });
    });
    await expect(clash).rejects.toMatchObject({ code: "40001" });
    expect(await count()).toBe(1);
  });
});
