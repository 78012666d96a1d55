import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hideStatements } from "../../src/shared/postgres/hidden-statements.ts";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorOn, hostDatabase } from "../support/worker-adaptor.ts";

let database: TestDatabase;
let bench: AdaptorBench;

/** As after `rowhouse install`: the host's role is no superuser, and prepared statements are hidden from all but this test. */
beforeAll(async () => {
  database = await hostDatabase("statements", ["ada", "bob"]);
  await database.execute(`
    ${hideStatements};
    create function public.prepared_names() returns setof text language sql security definer
      set search_path = pg_catalog as 'select name from pg_prepared_statements'`);
  for (const tenant of ["ada", "bob"]) {
    await database.execute(`
      create type ${tenant}.mood as enum ('${tenant}');
      create domain ${tenant}.code as text check (value <> '');
      create table ${tenant}.thing (id int, mood ${tenant}.mood, code ${tenant}.code, moods ${tenant}.mood[]);
      insert into ${tenant}.thing values (1, '${tenant}', '${tenant}', '{${tenant}}');
      grant select on ${tenant}.thing to ${tenant};
      alter table ${tenant}.thing owner to ${tenant}`);
  }
});
beforeEach(() => {
  bench = adaptorOn(database);
  return () => bench.close();
});
afterAll(() => database.drop());

const text = "select * from thing where id = $1";
const read = (tenant: string, name = "q", tag = tenant) =>
  bench.read(bench.request(tenant, { statementTag: tag }), text, name, [1]);
const prepared = async (tenant = "ada"): Promise<unknown[]> => {
  const rows = await bench.read(
    bench.request(tenant),
    // The names of requests' statements carry a tag; those of the adaptor's own do not.
    "select name from public.prepared_names() name where name like '%:%' order by 1",
  );
  return rows.map((row) => (row as { name: string }).name);
};

describe("prepared statements of one connection", () => {
  it("are invisible to a tenant's statements", async () => {
    for (const name of ["pg_prepared_statements", "pg_prepared_statement()"]) {
      const looking = bench.read(bench.request("ada"), `select * from ${name}`);
      await expect(looking).rejects.toThrow("permission denied for function pg_prepared_statement");
    }
  });

  it("resolve their own tenant's types when tenants take turns", async () => {
    for (let n = 0; n < 10; n += 1) {
      for (const tenant of ["ada", "bob"]) {
        expect(await read(tenant)).toMatchObject([{ mood: tenant, code: tenant, moods: `{${tenant}}` }]);
      }
    }
    expect(await prepared()).toHaveLength(2);
  });

  it("are prepared from the second use on, under names of at most 63 bytes", async () => {
    await read("ada", "x".repeat(500));
    expect(await prepared()).toEqual([]);
    await read("ada", "x".repeat(500));
    const [name] = await prepared();
    expect(Buffer.byteLength(String(name))).toBeLessThanOrEqual(63);
  });

  it("are used for a write too, from its second run on", async () => {
    const write = () =>
      bench.withPgClient(bench.request("ada").settings, (client) =>
        client.query({ text: "update item set name = name where id = $1", values: [1] }),
      );
    await write();
    expect(await prepared()).toEqual([]);
    await write();
    await write();
    expect(await prepared()).toHaveLength(1);
  });

  it("are deallocated when they fall out of the cache, also after a failed transaction", async () => {
    for (let n = 0; n < 230; n += 1) {
      await read("ada", `q${n}`);
      await read("ada", `q${n}`);
      if (n % 50 === 49) {
        await expect(bench.read(bench.request("bob"), "select 1/0")).rejects.toThrow();
        const failing = bench.withPgClient(bench.request("bob").settings, async (client) => {
          await client.query({ text: "select 1/0" }).catch(() => undefined);
        });
        await expect(failing).rejects.toThrow(/rolled back/);
      }
    }
    const names = await prepared();
    expect(names.length).toBeLessThanOrEqual(200);
    expect(names.length).toBeGreaterThan(190);
  });

  it.each(["0A000", "26000"])(
    "stay within their bound if a tenant's function fails with %s",
    async (code) => {
      await database.execute(`create or replace function ada.fail() returns int language plpgsql as
      $$ begin raise 'no' using errcode = '${code}'; end $$`);
      for (let round = 0; round < 3; round += 1) {
        for (let n = 0; n < 100; n += 1) {
          await read("ada", `q${round} ${n}`);
          await read("ada", `q${round} ${n}`);
        }
        await expect(bench.read(bench.request("ada"), "select fail()")).rejects.toMatchObject({ code });
        // An error that a function raises discards nothing that others have prepared, unless it might be PostgreSQL's own.
        expect((await prepared()).length).toBe(code === "26000" ? 0 : Math.min(200, (round + 1) * 100));
      }
    },
  );

  it("that failed are not assumed to be prepared, and are not prepared twice", async () => {
    const divide = (by: number) =>
      bench.read(bench.request("ada"), "select 1 / $1::int as n", "divide", [by]);
    for (const by of [0, 0, 1, 0, 1, 1]) {
      if (by === 0) await expect(divide(by)).rejects.toMatchObject({ code: "22012" });
      else expect(await divide(by)).toEqual([{ n: 1 }]);
    }
    const wrong = () => bench.read(bench.request("ada"), "select nonsense", "wrong");
    for (let n = 0; n < 3; n += 1) await expect(wrong()).rejects.toMatchObject({ code: "42703" });
  });

  it("with one name and two texts are two statements", async () => {
    for (let n = 0; n < 4; n += 1) {
      const rows = await bench.read(bench.request("ada"), `select ${n % 2} as n`, "same");
      expect(rows).toEqual([{ n: n % 2 }]);
    }
  });

  it("see a changed table under the tag of its new revision", async () => {
    for (let n = 0; n < 3; n += 1) await read("ada", "q", "ada1");
    await database.execute("alter table ada.thing add column more int");
    for (let n = 0; n < 3; n += 1) expect(await read("ada", "q", "ada2")).toMatchObject([{ more: null }]);
    await database.execute("alter table ada.thing drop column more");
  });

  it("are prepared anew if the table changed under the same tag", async () => {
    for (let n = 0; n < 3; n += 1) await read("ada");
    await database.execute("alter table ada.thing add column more int");
    for (let n = 0; n < 3; n += 1) expect(await read("ada")).toMatchObject([{ more: null }]);
    await database.execute("alter table ada.thing drop column more");
  });

  it.each(["discard all", "deallocate all"])(
    "are prepared anew after %j that the adaptor did not send",
    async (command) => {
      for (let n = 0; n < 3; n += 1) await read("ada");
      const connection = await bench.sessions.acquire();
      await connection.send([{ text: command }]);
      connection.release();
      expect(await read("ada")).toHaveLength(1);
      const again = await bench.sessions.acquire();
      expect(again).toBe(connection);
      await again.send([{ text: command }]);
      again.release();
      const write = await bench.withPgClient(bench.request("bob").settings, (client) =>
        client.query({ text: "update item set name = name returning name" }),
      );
      expect(write.rows).toEqual([{ name: "bob" }]);
    },
  );

  it("have their columns described once, and again after a change", async () => {
    const connection = await bench.sessions.acquire();
    let told = 0;
    connection.client.connection.on("rowDescription", () => {
      told += 1;
    });
    connection.release();
    const first = await read("ada");
    expect(await read("ada")).toEqual(first);
    expect(told).toBe(2);
    for (let n = 0; n < 3; n += 1) expect(await read("ada")).toEqual(first);
    // A statement with the same name and another text has its own columns, and so has another tenant's.
    const other = await bench.read(bench.request("ada"), "select code from thing where id = $1", "q", [1]);
    expect(other).toEqual([{ code: "ada" }]);
    expect(await read("bob")).toMatchObject([{ mood: "bob" }]);
    expect(told).toBe(4);
    await database.execute("alter table ada.thing add extra int default 7, drop code");
    for (let n = 0; n < 3; n += 1)
      expect(await read("ada")).toEqual([{ id: 1, mood: "ada", moods: "{ada}", extra: 7 }]);
    await database.execute("alter table ada.thing drop extra, add code text default 'ada'");
    expect(await read("ada")).toMatchObject([{ code: "ada" }]);
  });

  it("are prepared anew if a parameter's type was dropped and created again", async () => {
    const made = `create type ada.step as enum ('one')`;
    await database.execute(made);
    const steps = () => bench.read(bench.request("ada"), "select $1::step::text as step", "s", ["one"]);
    for (let n = 0; n < 3; n += 1) expect(await steps()).toEqual([{ step: "one" }]);
    await database.execute(`drop type ada.step; ${made}`);
    for (let n = 0; n < 3; n += 1) expect(await steps()).toEqual([{ step: "one" }]);
  });

  it("are prepared anew on whichever connection they became stale", async () => {
    const wide = adaptorOn(database, 2);
    const request = () => wide.request("ada");
    const made = `create type ada.stage as enum ('one')`;
    const stages = () => wide.read(request(), "select $1::stage::text as stage", "s", ["one"]);
    /** Runs `work` while another request of the tenant has a connection, at first the one that it prefers. */
    const beside = <T>(work: () => Promise<T>) =>
      wide.withPgClient(request().settings, async (client) => {
        await client.query({ text: "select 1" });
        return await work();
      });
    const thrice = async () => {
      for (let n = 0; n < 3; n += 1) expect(await stages()).toEqual([{ stage: "one" }]);
    };
    await database.execute(made);
    await thrice();
    await beside(thrice);
    await database.execute(`drop type ada.stage; ${made}`);
    // The read meets the one connection; the request that waits for it then has it, and leaves the read the other one.
    const { promise: other, resolve: giveOther } = Promise.withResolvers<void>();
    const { promise: taken, resolve: tellTaken } = Promise.withResolvers<void>();
    let holding: Promise<unknown> = other;
    await beside(async () => {
      holding = beside(() => {
        tellTaken();
        return other;
      });
      await taken;
    });
    const reading = stages();
    const waiting = beside(async () => giveOther());
    expect(await reading).toEqual([{ stage: "one" }]);
    await Promise.all([holding, waiting]);
    await beside(thrice);
    await database.execute("drop type ada.stage");
    await wide.close();
  });

  it("of 20 tenants on two connections never mix, among interleaved writes, errors and cancels", async () => {
    const wide = adaptorOn(database, 2);
    const errors: unknown[] = [];
    const one = async (n: number): Promise<void> => {
      const tenant = n % 2 === 0 ? "ada" : "bob";
      const request = wide.request(tenant, { statementTag: `${tenant}${n % 20}` });
      if (n % 13 === 0) setImmediate(() => request.scope.cancel());
      try {
        if (n % 7 === 0) await wide.read(request, "select 1/0");
        const rows =
          n % 5 === 0
            ? (await wide.withPgClient(request.settings, (client) => client.query({ text, values: [1] })))
                .rows
            : await wide.read(request, text, `q${n % 3}`, [1]);
        expect(rows).toMatchObject([{ mood: tenant, code: tenant }]);
      } catch (error) {
        errors.push(error);
      }
    };
    await Promise.all(Array.from({ length: 400 }, (_, n) => one(n)));
    const codes = errors.map((error) => (error as { code?: string }).code);
    expect(new Set(codes)).toEqual(new Set(["22012", "CANCELLED"]));
    await wide.close();
  });
});

it("if a function of each of two tenants prepares a statement of the same name, each gets its own rows", async () => {
  for (const tenant of ["ada", "bob"]) {
    await database.execute(`create function ${tenant}.own() returns text language plpgsql as $$
      declare found text;
      begin
        begin execute 'prepare own as select name from item';
        exception when duplicate_prepared_statement then null;
        end;
        execute 'execute own' into found;
        return found;
      end $$`);
  }
  for (const tenant of ["ada", "bob", "bob", "ada", "bob"]) {
    expect(await bench.read(bench.request(tenant), "select own(), current_user as who")).toEqual([
      { own: tenant, who: tenant },
    ]);
  }
});
