import { describe, expect, it } from "vitest";
import { oneConnection } from "../support/one-connection.ts";
import { until } from "../support/worker-instance.ts";

const one = oneConnection("connection");

describe("a cancelled request", () => {
  const ways = {
    read: (text: string) => one.bench.withPgClient.single(one.request.settings, { text }),
    write: (text: string) => one.bench.withPgClient(one.request.settings, (client) => client.query({ text })),
    "second statement of a write": (text: string) =>
      one.bench.withPgClient(one.request.settings, async (client) => {
        await client.query({ text: "insert into item values (77, 'x')" });
        await client.query({ text });
      }),
  };

  it.each(Object.entries(ways))("has its running %s stopped in PostgreSQL", async (_, run) => {
    const failing = expect(run("select pg_sleep(600)")).rejects.toMatchObject({ code: "CANCELLED" });
    await until(async () => (await one.running("pg_sleep(600)")) > 0);
    one.request.scope.cancel();
    await failing;
    await until(async () => (await one.running("pg_sleep(600)")) === 0);
    expect(await one.database.query("select * from ada.item where id = 77")).toEqual([]);
  });

  it("is stopped even if PostgreSQL does not check whether the client is still connected", async () => {
    await one.database.execute(`create or replace function ada.deaf() returns int language plpgsql
      set client_connection_check_interval = 0 as $$ begin perform pg_catalog.pg_sleep(600); return 1; end $$`);
    const failing = expect(ways.read("select deaf()")).rejects.toMatchObject({ code: "CANCELLED" });
    await until(async () => (await one.running("deaf()")) > 0);
    one.request.scope.cancel();
    await failing;
    await until(async () => (await one.running("deaf()")) === 0);
  });

  it("stops waiting for a connection that others hold", async () => {
    const other = one.bench.request("bob");
    const holding = expect(one.bench.read(other, "select pg_sleep(600)")).rejects.toThrow();
    await until(async () => (await one.running("pg_sleep(600)")) > 0);
    const waiting = [
      one.bench.read(one.request, "select 1"),
      one.bench.withPgClient(one.request.settings, () => 1),
    ].map((one) => expect(one).rejects.toMatchObject({ code: "CANCELLED" }));
    await until(() => one.bench.sessions.stats.waiting === 2);
    one.request.scope.cancel();
    await Promise.all(waiting);
    other.scope.cancel();
    await holding;
  });

  it("gives its connection back even if its callback waits for ever", async () => {
    const { promise: never } = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      await client.query({ text: "select 1" });
      entered.resolve();
      await never;
    });
    await entered.promise;
    one.request.scope.cancel();
    await expect(failing).rejects.toMatchObject({ code: "CANCELLED" });
  });

  it("has everything refused that it sends afterwards", async () => {
    one.request.scope.cancel();
    await expect(one.bench.read(one.request, "select 1")).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(one.bench.withPgClient(one.request.settings, () => 1)).rejects.toMatchObject({
      code: "CANCELLED",
    });
  });

  it("does not stop a commit in progress", async () => {
    await one.database.execute(`
      create or replace function ada.dawdle() returns trigger language plpgsql as
        $$ begin perform pg_catalog.pg_sleep(0.3); return null; end $$;
      create constraint trigger dawdle after insert on ada.item deferrable initially deferred
        for each row execute function ada.dawdle()`);
    const committing = one.bench.withPgClient(one.request.settings, (client) =>
      client.query({ text: "insert into item values (8, 'x')" }),
    );
    await until(async () => (await one.running("commit")) > 0);
    one.request.scope.cancel();
    await committing;
    expect(one.request.marked()).toBe(true);
    expect(await one.database.query("select id from ada.item where id = 8")).toEqual([{ id: 8 }]);
    await one.database.execute("drop trigger dawdle on ada.item; delete from ada.item where id = 8");
  });
});

describe("a result larger than the limit", () => {
  const big = "select repeat('x', 50000000) as v";

  it.each([
    ["one value", big],
    ["many rows", "select repeat('x', 1000) as v from generate_series(1, 100000)"],
  ])("of %s is cut off, and the request fails with RESULT_TOO_LARGE", async (_, text) => {
    const before = process.memoryUsage().arrayBuffers;
    const ways = [
      () => one.bench.read(one.request, text),
      () => one.bench.withPgClient(one.request.settings, (client) => client.query({ text })),
    ];
    for (const way of ways) {
      const connection = await one.pid();
      await expect(way()).rejects.toMatchObject({ extensions: { code: "RESULT_TOO_LARGE" } });
      expect(await one.pid()).not.toEqual(connection);
      await until(async () => (await one.running("repeat")) === 0);
    }
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  it("is measured per result, not per transaction or connection", async () => {
    const text = "select repeat('x', 400000) as v";
    const before = await one.pid();
    await one.bench.withPgClient(one.request.settings, async (client) => {
      for (let n = 0; n < 5; n += 1) await client.query({ text });
      await Promise.all(Array.from({ length: 5 }, () => client.query({ text })));
    });
    for (let n = 0; n < 5; n += 1) await one.bench.read(one.request, text);
    expect(await one.pid()).toEqual(before);
  });
});
