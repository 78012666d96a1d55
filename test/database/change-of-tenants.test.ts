import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hideStatements } from "../../src/shared/postgres/hidden-statements.ts";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorOn, hostDatabase } from "../support/worker-adaptor.ts";

/** One connection for all tenants: every change of tenants is one of the connection, too. */
let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await hostDatabase("changing", ["cha", "chb"]);
  await database.execute(`
    create function public.run(command text) returns text language plpgsql as $$
      declare answer text; begin execute command into answer; return answer;
      exception when others then return sqlerrm; end $$;
    create function public.forge() returns void language plpgsql as $$
      declare each record;
      begin
        begin
          for each in select name, cardinality(parameter_types) as parameters from pg_catalog.pg_prepared_statements loop
            execute format('deallocate %I', each.name);
            execute format(case each.parameters when 0 then 'prepare %I as select 1' when 1 then 'prepare %I (text) as select $1' else 'select %L' end, each.name);
          end loop;
        exception when insufficient_privilege then null;
        end;
        perform set_config('jwt.claims.sub', '42', false), pg_catalog.pg_advisory_lock(77);
        create temp table ghost ();
      end $$`);
});
beforeEach(() => {
  bench = adaptorOn(database);
  return () => bench.close();
});
afterAll(() => database.drop());

const as = (tenant: string, prepares: boolean) => bench.request(tenant, { prepares });
const text = "select name from item";
const work: Record<string, (tenant: string, prepares: boolean) => Promise<unknown>> = {
  "a read": (tenant, prepares) => bench.read(as(tenant, prepares), text, "q"),
  "a write of one statement": (tenant, prepares) =>
    bench.withPgClient.singleWrite(as(tenant, prepares).settings, { text: "update item set name = name" }),
  "a transaction": (tenant, prepares) =>
    bench.withPgClient(as(tenant, prepares).settings, async (client) => {
      await client.query({ text: "update item set name = name" });
      return (await client.query({ text })).rows;
    }),
  "a transaction that fails": (tenant, prepares) =>
    bench
      .withPgClient(as(tenant, prepares).settings, (client) => client.query({ text: "select 1 / 0" }))
      .catch(() => undefined),
};

/** How often the pool's only connection is answered, while `run` runs. */
async function roundTrips(run: () => Promise<unknown>): Promise<number> {
  const connection = await bench.sessions.acquire();
  let answers = 0;
  const count = (): void => {
    answers += 1;
  };
  connection.client.connection.on("readyForQuery", count);
  connection.release();
  await run();
  connection.client.connection.off("readyForQuery", count);
  return answers;
}

describe.each<[string, () => Promise<unknown>]>([
  [
    "can be listed",
    () => database.execute("grant execute on function pg_catalog.pg_prepared_statement() to public"),
  ],
  ["are hidden", () => database.execute(hideStatements)],
])("where names of prepared statements %s", (_, arrange) => {
  beforeAll(async () => {
    await arrange();
  });

  it.each(Object.keys(work))("%s takes no round trip more for being another tenant's", async (name) => {
    const each = async (tenants: readonly string[]): Promise<void> => {
      for (const tenant of tenants) await work[name]?.(tenant, true);
    };
    const alone = await roundTrips(() => each(["cha", "cha", "cha", "cha"]));
    expect(await roundTrips(() => each(["chb", "cha", "chb", "cha"]))).toBe(alone);
  });

  it.each(Object.keys(work))("what a function prepared is dropped by the next tenant's %s", async (name) => {
    const run = (command: string) =>
      bench.read(as("cha", true), "select public.run($1)", undefined, [command]);
    await run("prepare mine as select 'cha'");
    await work[name]?.("chb", true);
    expect(await run("execute mine")).toEqual([{ run: 'prepared statement "mine" does not exist' }]);
  });

  it.each(["a transaction", "a write of one statement"])(
    "nothing of the session is left by a function that put its own statements in the place of all, in %s",
    async (name) => {
      for (let n = 0; n < 3; n += 1) await work[name]?.("cha", true);
      const { settings } = as("cha", true);
      const forging = { text: "select public.forge()" };
      if (name === "a transaction") await bench.withPgClient(settings, (client) => client.query(forging));
      else await bench.withPgClient.singleWrite(settings, forging);
      const left = `select current_setting('jwt.claims.sub', true) as sub, to_regclass('ghost')::text as ghost,
        (select count(*)::int from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid()) as locks`;
      const [row] = await bench.read(as("chb", false), left, "left");
      expect(row).toMatchObject({ ghost: null, locks: 0 });
      expect(row).not.toMatchObject({ sub: "42" });
    },
  );

  it("a build may follow a tenant whose first statement has failed", async () => {
    await work["a read"]?.("cha", true);
    await bench.read(as("chb", true), "select 1 / 0", "fails").catch(() => undefined);
    await work["a read"]?.("cha", true);
    const failing = await bench.sessions.acquire(undefined, { tenant: "chb", prepares: true });
    await failing.send([{ text: "select 1 / 0" }]).catch(() => undefined);
    failing.release();
    const building = await bench.sessions.acquire();
    await building.send([{ text: "begin isolation level repeatable read read only" }, { text: "select 1" }]);
    await building.endTransaction();
    building.release();
  });

  it("a tenant that keeps the connection has its statements prepared from its second request on", async () => {
    const parses: string[] = [];
    const connection = await bench.sessions.acquire();
    const { stream } = connection.client.connection;
    const write = stream.write.bind(stream);
    stream.write = (chunk: Uint8Array) => {
      parses.push(Buffer.from(chunk).toString("latin1"));
      return write(chunk);
    };
    connection.release();
    for (const tenant of ["cha", "chb", "chb", "chb", "chb"]) await bench.read(as(tenant, true), text, "q");
    const sent = parses.map((bytes) => bytes.includes(text));
    expect(sent).toEqual([true, true, true, false, false]);
  });
});
