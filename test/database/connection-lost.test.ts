import { describe, expect, inject, it } from "vitest";
import { openProxy } from "../support/host-proxy.ts";
import { backends, oneConnection } from "../support/one-connection.ts";
import { adaptorOn } from "../support/worker-adaptor.ts";
import { until } from "../support/worker-instance.ts";

const one = oneConnection("connection_lost");

const pidOf = (row: unknown): unknown => typeof row === "object" && row !== null && "pid" in row && row.pid;
const terminateAll = () => one.database.query(`select pg_terminate_backend(pid) ${backends}`);

/** Terminates `count` connections one after the other, each once it has run `text` for a second. */
async function endEach(count: number, text: string): Promise<void> {
  const ended: number[] = [];
  for (let n = 0; n < count; n += 1) {
    const next = await until(async () => {
      const [row] = await one.database.query<{ pid: number }>(
        `select pid ${backends} and query like $1 and pid <> all ($2::int[])
          and clock_timestamp() - query_start > '1.1 s'`,
        [`%${text}%`, ended],
      );
      return row?.pid;
    });
    ended.push(next);
    await one.database.query("select pg_terminate_backend($1)", [next]);
  }
}

describe("a connection that is lost", () => {
  it("while idle does not fail a read", async () => {
    await one.pid();
    for (let n = 0; n < 3; n += 1) {
      await terminateAll();
      expect(await one.bench.read(one.request, "select 1 as n")).toEqual([{ n: 1 }]);
    }
  });

  it("during a read has the read sent once more", async () => {
    const reading = one.bench.read(one.request, "select pg_sleep(0.5), 'again' as a");
    await until(async () => (await one.running("pg_sleep(0.5)")) > 0);
    await terminateAll();
    expect(await reading).toMatchObject([{ a: "again" }]);
  });

  it("during a read has the read sent on a new one, since whatever ended one may have ended them all", async () => {
    const own = adaptorOn(one.database, 2);
    const slow = "select pg_sleep(0.5), pg_backend_pid() as pid";
    const request = own.request("ada");
    const before = (await Promise.all([1, 2].map(() => own.read(request, slow)))).flat().map(pidOf);
    expect(new Set(before).size).toBe(2);
    const reading = own.read(request, slow);
    await until(async () => (await one.running("pg_sleep(0.5)")) > 0);
    await one.database.query(`select pg_terminate_backend(pid) ${backends} and state = 'active'`);
    expect(before).not.toContain(pidOf((await reading)[0]));
    await own.close();
  });

  it("while it is being opened is opened again, up to four attempts in all", async () => {
    const proxy = await openProxy(one.database.url);
    // Dropped at each message from the first to the read itself; asserted below, as an undropped one would prove nothing.
    for (let chunk = 1; chunk <= 6; chunk += 1) {
      const own = adaptorOn({ ...one.database, url: proxy.through(one.database.url) });
      proxy.dropNext(3, chunk);
      expect(await own.read(own.request("ada"), "select 1 as n")).toEqual([{ n: 1 }]);
      expect(proxy.dropped).toBe(3 * chunk);
      await own.close();
    }
    const again = adaptorOn({ ...one.database, url: proxy.through(one.database.url) });
    proxy.dropNext(4);
    await expect(again.read(again.request("ada"), "select 1 as n")).rejects.toMatchObject({
      code: "DATABASE_UNREACHABLE",
    });
    expect(proxy.dropped).toBe(3 * 6 + 4);
    expect(await again.read(again.request("ada"), "select 1 as n")).toEqual([{ n: 1 }]);
    await again.close();
    await proxy.close();
  });

  it("during a read that has run for a second has the read sent once more, and not again", async () => {
    const failing = expect(one.bench.read(one.request, "select pg_sleep(601)")).rejects.toMatchObject({
      code: "DATABASE_UNREACHABLE",
    });
    await endEach(2, "pg_sleep(601)");
    await failing;
    expect(await one.running("pg_sleep(601)")).toBe(0);
  });

  // Needs a setting that PostgreSQL has had since version 17.
  it.skipIf(inject("postgresMajor") < 17)(
    "to transaction_timeout leaves other connections open, and the read is not sent again",
    async () => {
      await one.database.execute(`
      create or replace function ada.over() returns int language plpgsql as
        $$ begin perform set_config('transaction_timeout', '100', true); perform pg_sleep(20); return 1; end $$`);
      const own = adaptorOn(one.database, 2);
      const slow = "select pg_sleep(0.3), pg_backend_pid() as pid";
      const request = own.request("ada");
      const before = (await Promise.all([1, 2].map(() => own.read(request, slow)))).flat().map(pidOf);
      await expect(own.read(request, "select over()")).rejects.toMatchObject({
        code: "DATABASE_UNREACHABLE",
      });
      const left = await own.read(own.request("bob"), "select pg_backend_pid() as pid");
      expect(before).toContain(pidOf(left[0]));
      await own.close();
    },
  );

  it("is not concluded from a function's error, whatever its code and words: the connection is kept", async () => {
    await one.database.execute(`
      create or replace function ada.raises(code text, words text) returns int language plpgsql as
        $$ begin raise exception '%', words using errcode = code; end $$`);
    const before = await one.pid();
    for (const code of ["08006", "57P01", "57P05", "25P03", "57014", "25006", "RW409"]) {
      for (const words of ["no server", "Connection terminated unexpectedly"]) {
        const text = `select raises('${code}', '${words}')`;
        const request = one.bench.request("ada");
        await expect(one.bench.read(request, text)).rejects.toMatchObject({ code, message: words });
        const writing = one.bench.withPgClient(request.settings, (client) => client.query({ text }));
        await expect(writing).rejects.toMatchObject({ code, message: words });
        await expect(
          one.bench.withPgClient.singleWrite(request.settings, { text, values: [] }),
        ).rejects.toMatchObject({ code, message: words });
        expect([request.scope.hostFailure, request.marked()]).toEqual([null, false]);
      }
    }
    expect(await one.pid()).toEqual(before);
  });

  it("is reported even if a callback swallows it and throws something else", async () => {
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      await client.query({ text: "select 1" });
      await terminateAll();
      await client.query({ text: "select 1" }).catch(() => undefined);
      throw new Error("my own words");
    });
    await expect(failing).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  });

  it("in four attempts of a read fails the request as DATABASE_UNREACHABLE", async () => {
    const proxy = await openProxy(one.database.url);
    const own = adaptorOn({ ...one.database, url: proxy.through(one.database.url) });
    const request = own.request("ada");
    // Each is dropped at the read itself, which is the sixth chunk that a new connection sends.
    proxy.dropNext(10, 6);
    await expect(own.read(request, "select 1 as n")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(proxy.dropped).toBe(4);
    expect(request.scope.hostFailure).toMatchObject({ code: "DATABASE_UNREACHABLE" });
    await own.close();
    await proxy.close();
  });

  it("during a write fails it at once: nothing is repeated, nothing is committed", async () => {
    let runs = 0;
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      runs += 1;
      await client.query({ text: "insert into item values (9, 'x')" });
      await terminateAll();
      await client.query({ text: "select 1" });
    });
    await expect(failing).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(runs).toBe(1);
    expect(one.request.marked()).toBe(false);
    expect(await one.database.query("select * from ada.item where id = 9")).toEqual([]);
  });

  it("during a commit leaves it unknown whether the write was committed, and the error says so", async () => {
    await one.database.execute(`
      create or replace function ada.suicide() returns trigger language plpgsql security definer as
        $$ begin perform pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid()); return null; end $$;
      create constraint trigger suicide after insert on ada.item deferrable initially deferred
        for each row execute function ada.suicide()`);
    const failing = one.bench.withPgClient(one.request.settings, (client) =>
      client.query({ text: "insert into item values (10, 'x')" }),
    );
    await expect(failing).rejects.toMatchObject({ message: expect.stringMatching(/may or may not/) });
    expect(one.request.scope.hostFailure).toBeNull();
    await one.database.execute("drop trigger suicide on ada.item");
  });

  it("between statements, with nobody waiting, causes no uncaught error", async () => {
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      await client.query({ text: "select 1" });
      await terminateAll();
      await until(async () => (await one.database.query(`select 1 ${backends}`)).length === 0);
    });
    // Its end may reach this process before the commit is sent or after: then the outcome is unknown.
    const code = await failing.then(
      () => "none",
      (error) => error.code ?? error.extensions?.code,
    );
    expect(code).toBe("DATABASE_UNREACHABLE");
  });
});
