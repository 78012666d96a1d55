import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

/** One connection for both tenants: what one leaves in the session, the other would find. */
describe("what a tenant's function leaves in the session", () => {
  let database: TestDatabase;
  let bench: AdaptorBench;

  beforeAll(async () => {
    database = await adaptorDatabase("hygiene", ["hya", "hyb"]);
    await database.execute(`
      create function hya.run(command text) returns text language plpgsql stable as $$
      begin execute command; return 'done'; end $$;
      create function hya.forget() returns text language plpgsql as $$
      begin deallocate all; return 'done'; end $$;
      create function hya.keep(name text, value text) returns text language sql stable
      return set_config(name, value, false);`);
    bench = adaptorOn(database);
  });
  afterAll(async () => {
    await bench.close();
    await database.drop();
  });

  const keep = (name: string, value: string) => ({
    text: "select keep($1, $2)",
    values: [name, value],
  });
  const read = (tenant: string, text: string, values: unknown[] = []) =>
    bench.read(bench.request(tenant), text, undefined, values);
  const write = (tenant: string, text: string, values: unknown[] = []) =>
    bench.withPgClient(bench.request(tenant).settings, async (client) => {
      // A real write, so that the transaction has something to commit.
      await client.query({ text: `update ${tenant}.item set name = name` });
      return (await client.query<Record<string, unknown>>({ text, values })).rows;
    });
  const setting = async (name: string) => {
    const [row] = await read("hyb", "select current_setting($1, true) as value", [name]);
    return row;
  };

  const settings: [string, string][] = [
    ["app.user", "1"],
    ["jwt.claims.user_id", "7"],
    ["default_transaction_isolation", "serializable"],
    ["default_transaction_read_only", "on"],
    ["statement_timeout", "1"],
    ["datestyle", "German"],
    ["search_path", "hya"],
    ["row_security", "off"],
    ["jit", "on"],
  ];

  for (const [how, leave] of [
    ["a read", (name: string, value: string) => read("hya", ...toArguments(keep(name, value)))],
    ["a write", (name: string, value: string) => write("hya", ...toArguments(keep(name, value)))],
  ] as const) {
    it.each(settings)(`%s, set by ${how}, does not reach the next tenant`, async (name, value) => {
      const before = await setting(name);
      await leave(name, value);
      const [after] = await read("hyb", "select current_setting($1, true) as value", [name]);
      expect(valueIn(after)).not.toBe(value);
      // PostgreSQL keeps an empty placeholder of a name that was once set.
      expect(valueIn(after) ?? "").toBe(valueIn(before) ?? "");
      expect(await write("hyb", "select name from hyb.item")).toEqual([{ name: "hyb" }]);
    });

    it(`a role set by ${how} does not reach a tenant without roles`, async () => {
      await leave("role", "hya");
      const none = bench.request("hyb", { roles: [] });
      Reflect.deleteProperty(none.settings, "role");
      const [row] = await bench.read(none, "select current_user::text as value");
      expect(valueIn(row)).toBe("postgres");
    });
  }

  /** Replaces every prepared statement by one of its own under the same name: running any of them runs this. */
  const hijack = `do $$ declare name text; begin
    for name in select s.name from pg_prepared_statements s loop
      execute format('deallocate %I', name);
      execute format('prepare %I as update hyb.item set name = %L', name, 'hijacked');
    end loop; end $$`;

  it.each(["a read", "a write"])(
    "a statement that %s substitutes for a prepared one is run for nobody else",
    async (how) => {
      // Prepared from the second use on.
      for (let round = 0; round < 3; round += 1) await read("hya", "select name from item");
      const names = await read("hya", "select count(*)::int as value from pg_prepared_statements");
      expect(Number(valueIn(names[0]))).toBeGreaterThan(0);
      await (how === "a read" ? read : write)("hya", "select run($1)", [hijack]).catch(() => undefined);
      for (let round = 0; round < 3; round += 1) {
        expect(await read("hyb", "select current_user::text as who, name from item")).toEqual([
          { who: "hyb", name: "hyb" },
        ]);
        expect(await write("hyb", "select current_user::text as who, name from item")).toEqual([
          { who: "hyb", name: "hyb" },
        ]);
      }
    },
  );

  it("a temporary table, a subscription, a held cursor or a lock of a write is gone", async () => {
    for (const command of [
      "create temp table left_behind as select 1 as n",
      "listen left_behind",
      "declare left_behind cursor with hold for select 1",
    ]) {
      await write("hya", "select run($1)", [command]).catch((error: unknown) => {
        // What PostgreSQL itself refuses inside a function cannot stay either.
        expect(String(error)).toMatch(/not allowed|cannot/i);
      });
    }
    await write("hya", "select pg_advisory_lock(4711)::text");
    const [row] = await read(
      "hyb",
      `select to_regclass('pg_temp.left_behind') is not null as temp,
        exists (select from pg_listening_channels()) as listening,
        exists (select from pg_cursors where name = 'left_behind') as cursor,
        exists (select from pg_locks where locktype = 'advisory' and objid = 4711 and pid = pg_backend_pid()) as locked`,
    );
    expect(row).toEqual({ temp: false, listening: false, cursor: false, locked: false });
  });

  it("a lock of a read, a failed read or a rolled-back write is gone", async () => {
    const lock = (key: number): string => `select pg_advisory_lock(${key})::text`;
    await read("hya", lock(4721));
    await expect(read("hya", `${lock(4722)}, 1 / (select 0)`)).rejects.toMatchObject({ code: "22012" });
    const rolledBack = bench.withPgClient(bench.request("hya").settings, async (client) => {
      await client.query({ text: lock(4723) });
      throw new Error("changed my mind");
    });
    await expect(rolledBack).rejects.toThrow("changed my mind");
    const [row] = await read(
      "hyb",
      "select count(*)::int as value from pg_locks where locktype = 'advisory' and objid between 4721 and 4723",
    );
    expect(valueIn(row)).toBe(0);
  });

  it("a session authorization that a write set does not reach the next tenant", async () => {
    await write("hya", ...toArguments(keep("session_authorization", "hya")));
    const [row] = await read("hyb", "select session_user::text as value");
    expect(valueIn(row)).toBe("postgres");
  });

  it("is cleared even if a write deallocated every prepared statement, and the write is kept", async () => {
    await write("hya", "select 1");
    const leaving = "returning forget(), set_config('app.user', '9', false)";
    await write("hya", `update item set name = 'stands' ${leaving}`);
    expect(valueIn(await setting("app.user")) ?? "").toBe("");
    expect(await read("hya", "select name from item")).toEqual([{ name: "stands" }]);
    await database.execute("update hya.item set name = 'hya'");
  });

  it("is cleared even after a commit that PostgreSQL refused", async () => {
    await database.execute(`create table hya.late (id int unique deferrable initially deferred);
      grant insert on hya.late to hya`);
    const refused = write("hya", "insert into late values (1), (1) returning pg_advisory_lock(4712)::text");
    await expect(refused).rejects.toMatchObject({ code: "23505" });
    const [row] = await read("hyb", "select count(*)::int as value from pg_locks where objid = 4712");
    expect(valueIn(row)).toBe(0);
  });

  it("is cleared on the same connection, which is kept", async () => {
    const pid = async (tenant: string) =>
      valueIn((await read(tenant, "select pg_backend_pid()::text as value"))[0]);
    const first = await pid("hya");
    await write("hya", ...toArguments(keep("app.user", "1")));
    expect(await pid("hyb")).toBe(first);
  });
});

function toArguments({ text, values }: { text: string; values: string[] }): [string, string[]] {
  return [text, values];
}

function valueIn(row: unknown): unknown {
  return typeof row === "object" && row !== null && "value" in row ? row.value : undefined;
}
