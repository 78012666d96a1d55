import { describe, expect, inject, it } from "vitest";
import { openProxy } from "../support/host-proxy.ts";
import { backends, oneConnection } from "../support/one-connection.ts";
import { adaptorOn } from "../support/worker-adaptor.ts";
import { until } from "../support/worker-instance.ts";

const one = oneConnection("connection_lost");

const pidOf = (row: unknown): unknown => typeof row === "object" && row !== null && "pid" in row && row.pid;
const terminateAll = () => one.database.query(`select pg_terminate_backend(pid) ${backends}`);

/** Ends so many connections, one after the other, when each has run that text for a second. */
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
  it("while idle costs a read nothing", async () => {
    await one.pid();
    for (let n = 0; n < 3; n += 1) {
      await terminateAll();
      expect(await one.bench.read(one.request, "select 1 as n")).toEqual([{ n: 1 }]);
    }
  });

  it("in a read has it sent once more", async () => {
    const reading = one.bench.read(one.request, "select pg_sleep(0.5), 'again' as a");
    await until(async () => (await one.running("pg_sleep(0.5)")) > 0);
    await terminateAll();
    expect(await reading).toMatchObject([{ a: "again" }]);
  });

  it("in a read has none asked again that was there at the time: what ended one may end them all", async () => {
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

  it("while it is being made is made again, up to four times", async () => {
    const proxy = await openProxy(one.database.url);
    // From the first message to the read itself; and what is never dropped is no test of that.
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

  it("in a read that has run for a second has it sent once more, and not again", async () => {
    const failing = expect(one.bench.read(one.request, "select pg_sleep(601)")).rejects.toMatchObject({
      code: "DATABASE_UNREACHABLE",
    });
    await endEach(2, "pg_sleep(601)");
    await failing;
    expect(await one.running("pg_sleep(601)")).toBe(0);
  });

  // By a setting that PostgreSQL has since 17.
  it.skipIf(inject("postgresMajor") < 17)(
    "by the time that its transaction took costs nobody else theirs, and the read is not sent again",
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

  it("is none where a function says so, in whatever words: the connection is as good as before", async () => {
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

  it("is told whatever a callback made of it", async () => {
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      await client.query({ text: "select 1" });
      await terminateAll();
      await client.query({ text: "select 1" }).catch(() => undefined);
      throw new Error("my own words");
    });
    await expect(failing).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
  });

  it("in a read four times fails the request, as the database's fault", async () => {
    const proxy = await openProxy(one.database.url);
    const own = adaptorOn({ ...one.database, url: proxy.through(one.database.url) });
    const request = own.request("ada");
    // Each at the read itself, which is the sixth thing that a new connection sends.
    proxy.dropNext(10, 6);
    await expect(own.read(request, "select 1 as n")).rejects.toMatchObject({ code: "DATABASE_UNREACHABLE" });
    expect(proxy.dropped).toBe(4);
    expect(request.scope.hostFailure).toMatchObject({ code: "DATABASE_UNREACHABLE" });
    await own.close();
    await proxy.close();
  });

  it("in a write fails it at once: nothing is repeated, nothing stands", async () => {
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

  it("in a commit leaves it open whether the write stands, and says so", async () => {
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

  it("between statements, with nobody waiting, is no uncaught error", async () => {
    const failing = one.bench.withPgClient(one.request.settings, async (client) => {
      await client.query({ text: "select 1" });
      await terminateAll();
      await until(async () => (await one.database.query(`select 1 ${backends}`)).length === 0);
    });
    // Its end may reach this process before the commit leaves it, or behind that: then nobody knows whether it stands.
    const code = await failing.then(
      () => "none",
      (error) => error.code ?? error.extensions?.code,
    );
    expect(code).toBe("DATABASE_UNREACHABLE");
  });
});
