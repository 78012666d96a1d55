import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn, type Request } from "../support/worker-adaptor.ts";

const state = "select current_user as role, current_setting('search_path') as path";
const ofA = { role: "ada", path: "ada, pg_temp" };
const ofB = { role: "bob", path: "bob, pg_temp" };

let database: TestDatabase;
let bench: AdaptorBench;
let request: Request;
beforeAll(async () => {
  database = await adaptorDatabase("transaction", ["ada", "bob"]);
  bench = adaptorOn(database);
});
beforeEach(() => {
  request = bench.request("ada");
});
afterEach(async () => {
  expect(await bench.read(bench.request("bob"), state)).toEqual([ofB]);
  expect(bench.sessions.stats).toMatchObject({ total: 1, waiting: 0 });
  await database.query("delete from ada.item where id > 1");
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

const insert = (id: number) => ({ text: "insert into item values ($1, 'x')", values: [id] });
const ids = async (): Promise<number[]> =>
  (await database.query<{ id: number }>("select id from ada.item order by id")).map((row) => row.id);
const inside = <T>(work: (client: NodePostgresPgClient) => T | Promise<T>): Promise<T> =>
  bench.withPgClient(request.settings, work);

describe("withPgClient", () => {
  it("commits what its callback did, which is then in the ledger", async () => {
    const rows = await inside(async (client) => {
      await client.query(insert(2));
      expect(request.marked()).toBe(false);
      return (await client.query({ text: state })).rows;
    });
    expect(rows).toEqual([ofA]);
    expect(request.marked()).toBe(true);
    expect(await ids()).toEqual([1, 2]);
  });

  it("rolls back what a callback did that threw, and a connection is free for the next", async () => {
    const failing = inside(async (client) => {
      await client.query(insert(2));
      throw new Error("changed my mind");
    });
    await expect(failing).rejects.toThrow("changed my mind");
    expect(request.marked()).toBe(false);
    expect(await ids()).toEqual([1]);
  });

  it("throws where a callback went on after a statement that failed: PostgreSQL commits nothing then", async () => {
    const failing = inside(async (client) => {
      await client.query(insert(2));
      await client.query({ text: "select 1/0" }).catch(() => "never mind");
    });
    await expect(failing).rejects.toThrow(/rolled back/);
    expect(await ids()).toEqual([1]);
  });

  it("may be held to reading by the request's settings", async () => {
    const settings = { ...request.settings, transaction_read_only: "on" };
    const insertion = { text: "insert into item values (2, 'x')" };
    for (const attempt of [
      () => bench.withPgClient(settings, (client) => client.query(insertion)),
      () => bench.withPgClient.single(settings, insertion),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: "25006" });
    }
    expect(await ids()).toEqual([1]);
  });

  it("sends nothing where its callback sends nothing", async () => {
    expect(await inside(() => 7)).toBe(7);
    expect(request.marked()).toBe(false);
  });

  it("runs statements sent at once in their order, all of them as the tenant", async () => {
    const answers = await inside((client) =>
      Promise.all([2, 3, 4].flatMap((id) => [client.query(insert(id)), client.query({ text: state })])),
    );
    expect(answers.map(({ rows }) => rows).filter((rows) => rows.length > 0)).toEqual([[ofA], [ofA], [ofA]]);
    expect(await ids()).toEqual([1, 2, 3, 4]);
  });

  it("runs nothing of what was sent at once with a first statement that failed", async () => {
    const answers = await inside(async (client) => {
      const all = await Promise.allSettled([
        client.query({ text: "select 1/0" }),
        client.query(insert(2)),
        client.query(insert(3)),
      ]);
      return all.map((one) => one.status);
    }).catch((error) => error);
    expect(answers).toMatchObject({ message: expect.stringMatching(/rolled back/) });
    expect(await ids()).toEqual([1]);
  });

  it("runs nothing where begin itself fails, not even what follows it", async () => {
    const { client } = await bench.sessions.connect();
    const { connection } = client;
    client.release();
    const { stream } = connection;
    const write = stream.write.bind(stream);
    // As when somebody cancels the backend's statement just then.
    let broken = 0;
    stream.write = (messages: Uint8Array) => {
      const text = Buffer.from(messages).toString("latin1");
      if (text.includes("begin\0")) broken += 1;
      return write(Buffer.from(text.replace("begin\0", "begni\0"), "latin1"));
    };
    try {
      const failing = inside((client) =>
        Promise.all([
          client.query(insert(2)),
          client.query({ text: "insert into ada.item values (3, 'x')" }),
        ]),
      );
      await expect(failing).rejects.toThrow(/syntax error|multiple commands/);
      expect(broken).toBe(1);
    } finally {
      stream.write = write;
    }
    expect(await ids()).toEqual([1]);
  });

  it("keeps a statement that nobody waited for inside, and refuses one that comes too late", async () => {
    let kept: NodePostgresPgClient | undefined;
    await inside((client) => {
      kept = client;
      void client.query(insert(2));
    });
    expect(await ids()).toEqual([1, 2]);
    await expect(kept?.query(insert(3))).rejects.toThrow(/after its transaction had ended/);
    await expect(kept?.rawClient.query("insert into item values (4, 'x')")).rejects.toThrow(
      /after its transaction/,
    );
    await expect(kept?.withTransaction(async () => 1)).rejects.toThrow(/after its transaction/);
    expect(await ids()).toEqual([1, 2]);
  });

  it.each([
    "commit",
    "COMMIT AND CHAIN",
    " \n\t;; commit",
    "/* a /* nested */ comment */ -- and another\n rollback",
    "end",
    "abort",
    "begin",
    "start/**/transaction",
    "prepare transaction 'x'",
    "set role bob",
    "set local role bob",
    'set local "role" = bob',
    'set local U&"r\\006fle" = bob',
    "SET SESSION AUTHORIZATION bob",
    "set search_path = bob",
    "set local search_path to bob",
    "reset role",
    "reset all",
    "discard all",
    "set application_name = 'x'",
    "listen anything",
    "deallocate all",
    "copy item to stdout",
    "copy item from stdin",
    "load 'auto_explain'",
  ])("refuses %j", async (text) => {
    for (const send of [
      (client: NodePostgresPgClient) => client.query({ text }),
      (client: NodePostgresPgClient) => client.rawClient.query(text),
    ]) {
      const failing = inside(async (client) => {
        await client.query(insert(2));
        await send(client);
      });
      await expect(failing).rejects.toThrow(/not allowed inside withPgClient/);
    }
    expect(await ids()).toEqual([1]);
  });

  it.each([
    "do $$ begin commit; end $$",
    "do $$ begin rollback; end $$",
    "call ada.committing()",
    "select 1; commit",
  ])("lets %j fail", async (text) => {
    await database.execute(
      `create or replace procedure ada.committing() language plpgsql as 'begin commit; end'`,
    );
    const failing = inside(async (client) => {
      await client.query(insert(2));
      await client.query({ text });
    });
    await expect(failing).rejects.toThrow(/invalid transaction termination|multiple commands/);
    expect(await ids()).toEqual([1]);
  });

  it.each([
    "savepoint a",
    "select 1 -- commit",
    "set local statement_timeout = 1000",
    "set constraints all deferred",
  ])("allows %j", async (text) => {
    await inside(async (client) => {
      await client.query({ text });
      expect((await client.query({ text: state })).rows).toEqual([ofA]);
    });
  });
});
