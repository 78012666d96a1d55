import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Database } from "../../src/postgres/database.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type DatabaseProxy, openProxy } from "../support/host-proxy.ts";

let database: TestDatabase;
let proxy: DatabaseProxy;
const open: Database[] = [];

beforeAll(async () => {
  database = await createDatabase("front_lost");
  proxy = await openProxy(database.url);
  await database.query("create table done (id int)");
});

afterAll(async () => {
  await Promise.all(open.map((each) => each.close()));
  await proxy.close();
  await database.drop();
});

function connect(url = database.url): Database {
  const made = new Database({ name: "main", url, applicationName: "rowhouse:h1:front", observe: () => {} });
  open.push(made);
  return made;
}

/** A statement that ends its own connection the first `times` times. */
async function endsItself(times: number): Promise<string> {
  await database.query("drop sequence if exists tries");
  await database.query("create sequence tries");
  return `select case when nextval('tries') <= ${times} then pg_terminate_backend(pg_backend_pid()) end is null as up`;
}
const tries = async (): Promise<unknown> => (await database.query("select last_value::int from tries"))[0];
const unreachable = { code: "DATABASE_UNREACHABLE" };

describe("a connection of the front that is lost", () => {
  it("while it is idle costs no one an error, however many are lost at once", async () => {
    const front = connect();
    for (let round = 0; round < 5; round += 1) {
      await Promise.all([1, 2].map(() => front.query("select 1")));
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'rowhouse:h1:front' and datname = current_database()",
      );
      // Whether the pool has heard of it by now is a matter of chance.
      expect((await front.query("select 1 as n")).rows).toEqual([{ n: 1 }]);
      expect(await front.together([{ text: "select 2 as n" }])).toEqual([[{ n: 2 }]]);
    }
  });

  it("before it is used has its statements sent on a new one, and all others of its age are renewed", async () => {
    const front = connect(proxy.through(database.url));
    const pid = async (): Promise<unknown> => (await front.query("select pg_backend_pid() as pid")).rows[0];
    for (const ask of [
      () => front.query("select 2 as n"),
      () => front.together([{ text: "select 2 as n" }]),
    ]) {
      const before = await Promise.all([pid(), pid()]);
      const { dropped } = proxy;
      proxy.dropAfter(1);
      const answer = await ask();
      expect(JSON.stringify(answer)).toContain('{"n":2}');
      expect(proxy.dropped).toBeGreaterThan(dropped);
      const after = await Promise.all([pid(), pid()]);
      for (const each of after) expect(before).not.toContainEqual(each);
    }
  });

  it("under a statement fails it without sending it again, and no other connection is renewed", async () => {
    const front = connect();
    const pids = () =>
      Promise.all(
        [1, 2].map(() => front.query("select pg_backend_pid() as pid, pg_sleep(0.2) is null as slept")),
      );
    for (const run of [
      async (text: string) => (await front.query(text)).rows,
      async (text: string) => (await front.together([{ text }]))[0],
    ]) {
      const before = (await pids()).flatMap(({ rows }) => rows);
      await expect(run(await endsItself(9))).rejects.toMatchObject(unreachable);
      expect(await tries()).toEqual({ last_value: 1 });
      const kept = (await pids())
        .flatMap(({ rows }) => rows)
        .filter((row) => before.some((each) => JSON.stringify(each) === JSON.stringify(row)));
      expect(kept).toHaveLength(1);
    }
  });

  it("in a transaction whose work has begun fails it, and the work is not run twice", async () => {
    const front = connect();
    await front.query("select 1");
    const text = await endsItself(1);
    let runs = 0;
    const work = front.transaction(async (transaction) => {
      runs += 1;
      await transaction.query(text);
    });
    await expect(work).rejects.toMatchObject(unreachable);
    expect(runs).toBe(1);
  });

  it("at any moment of a transaction runs the work once, and costs it only if the work had begun", async () => {
    for (let chunk = 1; chunk <= 4; chunk += 1) {
      const front = connect(proxy.through(database.url));
      await front.query("select 1");
      const { dropped } = proxy;
      proxy.dropAfter(chunk);
      let runs = 0;
      const outcome = await front
        .transaction(async (transaction) => {
          runs += 1;
          await transaction.query("insert into done values ($1)", [chunk]);
        })
        .catch((error: unknown) => error);
      const stands = await database.query("select from done where id = $1", [chunk]);
      expect(runs).toBe(1);
      if (outcome === undefined) expect(stands).toHaveLength(1);
      else expect(outcome).toMatchObject(unreachable);
      if (chunk === 1) {
        expect(proxy.dropped).toBeGreaterThan(dropped);
        expect(outcome).toBeUndefined();
      }
      await front.close();
    }
  });
});
