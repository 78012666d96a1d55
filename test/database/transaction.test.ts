import type { NodePostgresPgClient } from "postgraphile/adaptors/pg";
import { describe, expect, it } from "vitest";
import { insert, ofAda, oneConnection, state } from "../support/one-connection.ts";
import { adaptorOn } from "../support/worker-adaptor.ts";

const one = oneConnection("transaction");

describe("withPgClient", () => {
  it("commits what its callback did, and marks it in the ledger", async () => {
    const rows = await one.inside(async (client) => {
      await client.query(insert(2));
      expect(one.request.marked()).toBe(false);
      return (await client.query({ text: state })).rows;
    });
    expect(rows).toEqual([ofAda]);
    expect(one.request.marked()).toBe(true);
    expect(await one.ids()).toEqual([1, 2]);
  });

  it("rolls back if its callback throws, and frees the connection", async () => {
    const failing = one.inside(async (client) => {
      await client.query(insert(2));
      throw new Error("changed my mind");
    });
    await expect(failing).rejects.toThrow("changed my mind");
    expect(one.request.marked()).toBe(false);
    expect(await one.ids()).toEqual([1]);
  });

  it("throws if a callback continues after a failed statement, since PostgreSQL then commits nothing", async () => {
    const failing = one.inside(async (client) => {
      await client.query(insert(2));
      await client.query({ text: "select 1/0" }).catch(() => "never mind");
    });
    await expect(failing).rejects.toThrow(/rolled back/);
    expect(await one.ids()).toEqual([1]);
  });

  it("can be made read-only by the request's settings", async () => {
    const settings = { ...one.request.settings, transaction_read_only: "on" };
    const insertion = { text: "insert into item values (2, 'x')" };
    for (const attempt of [
      () => one.bench.withPgClient(settings, (client) => client.query(insertion)),
      () => one.bench.withPgClient.single(settings, insertion),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: "25006" });
    }
    expect(await one.ids()).toEqual([1]);
  });

  it("sends nothing if its callback sends nothing", async () => {
    expect(await one.inside(() => 7)).toBe(7);
    expect(one.request.marked()).toBe(false);
  });

  it("runs statements sent at once in order, all as the tenant", async () => {
    const answers = await one.inside((client) =>
      Promise.all([2, 3, 4].flatMap((id) => [client.query(insert(id)), client.query({ text: state })])),
    );
    expect(answers.map(({ rows }) => rows).filter((rows) => rows.length > 0)).toEqual([
      [ofAda],
      [ofAda],
      [ofAda],
    ]);
    expect(await one.ids()).toEqual([1, 2, 3, 4]);
  });

  it("runs nothing that was sent together with a first statement that failed", async () => {
    const answers = await one
      .inside(async (client) => {
        const all = await Promise.allSettled([
          client.query({ text: "select 1/0" }),
          client.query(insert(2)),
          client.query(insert(3)),
        ]);
        return all.map((one) => one.status);
      })
      .catch((error) => error);
    expect(answers).toMatchObject({ message: expect.stringMatching(/rolled back/) });
    expect(await one.ids()).toEqual([1]);
  });

  it("runs nothing if begin itself fails", async () => {
    // On a new connection, where begin is not prepared yet.
    const fresh = adaptorOn(one.database);
    const connection = await fresh.sessions.acquire();
    const { stream } = connection.client.connection;
    connection.release();
    const write = stream.write.bind(stream);
    // As if somebody cancelled the backend's statement at that moment.
    let broken = 0;
    stream.write = (messages: Uint8Array) => {
      const text = Buffer.from(messages).toString("latin1");
      if (text.includes("\0begin\0")) broken += 1;
      return write(Buffer.from(text.replace("\0begin\0", "\0begni\0"), "latin1"));
    };
    const failing = fresh.withPgClient(fresh.request("ada").settings, (client) =>
      Promise.all([client.query(insert(2)), client.query({ text: "insert into ada.item values (3, 'x')" })]),
    );
    await expect(failing).rejects.toThrow(/syntax error|multiple commands/);
    expect(broken).toBe(1);
    expect(await one.ids()).toEqual([1]);
    await fresh.close();
  });

  it("completes a statement that its callback did not await, and refuses one that comes too late", async () => {
    let kept: NodePostgresPgClient | undefined;
    await one.inside((client) => {
      kept = client;
      void client.query(insert(2));
    });
    expect(await one.ids()).toEqual([1, 2]);
    await expect(kept?.query(insert(3))).rejects.toThrow(/after its transaction had ended/);
    await expect(kept?.rawClient.query("insert into item values (4, 'x')")).rejects.toThrow(
      /after its transaction/,
    );
    await expect(kept?.withTransaction(async () => 1)).rejects.toThrow(/after its transaction/);
    expect(await one.ids()).toEqual([1, 2]);
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
      const failing = one.inside(async (client) => {
        await client.query(insert(2));
        await send(client);
      });
      await expect(failing).rejects.toThrow(/not allowed inside withPgClient/);
    }
    expect(await one.ids()).toEqual([1]);
  });

  it.each([
    "do $$ begin commit; end $$",
    "do $$ begin rollback; end $$",
    "call ada.committing()",
    "select 1; commit",
  ])("rolls back when %j fails", async (text) => {
    await one.database.execute(
      `create or replace procedure ada.committing() language plpgsql as 'begin commit; end'`,
    );
    const failing = one.inside(async (client) => {
      await client.query(insert(2));
      await client.query({ text });
    });
    await expect(failing).rejects.toThrow(/invalid transaction termination|multiple commands/);
    expect(await one.ids()).toEqual([1]);
  });

  it.each([
    "savepoint a",
    "select 1 -- commit",
    "set local statement_timeout = 1000",
    "set constraints all deferred",
  ])("allows %j", async (text) => {
    await one.inside(async (client) => {
      await client.query({ text });
      expect((await client.query({ text: state })).rows).toEqual([ofAda]);
    });
  });
});
