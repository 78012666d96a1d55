import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("read_only", ["ada"]);
  await database.execute(`
    create function ada.refuses() returns int language plpgsql as
      $$ begin raise exception 'not here' using errcode = '25006'; end $$;
    create function ada.closes() returns int language plpgsql as $$
      begin set transaction read only; insert into ada.item values (7, 'x'); return 1; end $$`);
  bench = adaptorOn(database, 2);
});
afterEach(async () => {
  await set(false);
  await database.execute("delete from ada.item where id > 1");
  await bench.close();
  bench = adaptorOn(database, 2);
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

/** Applies to new connections only; existing ones keep what they had. */
const set = (on: boolean) =>
  database.execute(
    `alter database "${database.name}" ${on ? "set default_transaction_read_only = on" : "reset default_transaction_read_only"}`,
  );
const insert = (id: number) => ({ text: `insert into item values (${id}, 'x')`, values: [] });
const single = (request: Request, id: number) => bench.withPgClient.singleWrite(request.settings, insert(id));
const callback = (request: Request, id: number) =>
  bench.withPgClient(request.settings, (client) => client.query(insert(id)));
const ids = async () =>
  (await database.query("select id from ada.item where id > 1 order by id")).map(({ id }) => id);
const pids = async () =>
  (
    await database.query(
      "select pid from pg_stat_activity where application_name = 'rowhouse:adaptor-test' and datname = current_database() order by pid",
    )
  ).map(({ pid }) => pid);
const refused = { code: "DATABASE_READ_ONLY" };

/** Connections from a time when the database was read-only. */
async function oldConnections(): Promise<unknown[]> {
  await set(true);
  const slow = "select pg_sleep(0.2)";
  await Promise.all([1, 2].map(() => bench.read(bench.request("ada"), slow)));
  await set(false);
  return pids();
}

describe.each([
  ["a single write", single],
  ["a callback's writes", callback],
])("%s", (_, write) => {
  it("that an old connection refuses runs again on a newer one, once, and all connections of that age are discarded", async () => {
    const old = await oldConnections();
    const request = bench.request("ada");
    // One of them is busy at the time.
    const busy = bench.read(bench.request("ada"), "select pg_sleep(1)");
    await write(request, 2);
    await busy;
    expect(await ids()).toEqual([2]);
    expect(request.marked()).toBe(true);
    await Promise.all([1, 2].map(() => bench.read(bench.request("ada"), "select pg_sleep(0.2)")));
    expect((await pids()).filter((pid) => old.includes(pid))).toEqual([]);
    expect(bench.sessions.readOnly).toBe(false);
  });

  it("is refused if new connections are read-only too, and no connection is discarded for it", async () => {
    await set(true);
    await bench.read(bench.request("ada"), "select 1");
    const before = await pids();
    const request = bench.request("ada");
    await expect(write(request, 2)).rejects.toMatchObject(refused);
    await expect(write(bench.request("ada"), 2)).rejects.toMatchObject(refused);
    expect(request.scope.hostFailure).toMatchObject(refused);
    expect(request.marked()).toBe(false);
    expect(bench.sessions.readOnly).toBe(true);
    expect(await bench.read(bench.request("ada"), "select 1 as n")).toEqual([{ n: 1 }]);
    expect((await pids()).filter((pid) => before.includes(pid))).toEqual(before);
    expect(await ids()).toEqual([]);
  });

  it("is accepted again once the database accepts writes", async () => {
    await set(true);
    await expect(write(bench.request("ada"), 2)).rejects.toMatchObject(refused);
    await set(false);
    await expect
      .poll(
        () =>
          write(bench.request("ada"), 3).then(
            () => "taken",
            ({ code }) => code,
          ),
        { interval: 100 },
      )
      .toBe("taken");
    expect(await ids()).toEqual([3]);
  });
});

it("a write after one that its request has committed fails by itself", async () => {
  const request = bench.request("ada");
  await single(request, 2);
  await set(true);
  await bench.close();
  bench = adaptorOn(database, 2);
  await expect(single(request, 3)).rejects.toMatchObject({ extensions: refused });
  expect(request.scope.hostFailure).toBeNull();
  expect(await ids()).toEqual([2]);
});

it("a callback that swallows the refusal is run again all the same", async () => {
  await oldConnections();
  let runs = 0;
  await bench.withPgClient(bench.request("ada").settings, async (client) => {
    runs += 1;
    await client.query(insert(2)).catch(() => undefined);
  });
  expect([runs, await ids()]).toEqual([2, [2]]);
});

it.each(["refuses()", "closes()"])(
  "a 25006 that a tenant's function causes (%s) is its own error",
  async (call) => {
    await bench.read(bench.request("ada"), "select 1");
    const before = await pids();
    for (let n = 0; n < 3; n += 1) {
      const request = bench.request("ada");
      await expect(bench.read(request, `select ${call}`)).rejects.toMatchObject({ code: "25006" });
      const text = `select ${call}`;
      await expect(
        bench.withPgClient.singleWrite(request.settings, { text, values: [] }),
      ).rejects.toMatchObject({ code: "25006" });
      expect(request.scope.hostFailure).toBeNull();
    }
    expect(await pids()).toEqual(before);
    expect(bench.sessions.readOnly).toBe(false);
  },
);
