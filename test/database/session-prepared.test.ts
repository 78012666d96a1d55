import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { hideStatements } from "../../src/shared/postgres/hidden-statements.ts";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorOn, hostDatabase } from "../support/worker-adaptor.ts";

/** One connection for all, with prepared statements hidden as after `rowhouse install`; only the functions below may see them. */
let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await hostDatabase("prepared", ["sea", "seb", "plain"]);
  await database.execute(`
    ${hideStatements};
    create function public.names() returns text[] language sql security definer set search_path = pg_catalog
      as $$ select array(select name from pg_prepared_statements where not starts_with(name, '${namespace}') order by 1) $$;
    create function public.own_names() returns int language sql security definer set search_path = pg_catalog
      as $$ select count(*)::int from pg_prepared_statements where starts_with(name, '${namespace}') and name like '%:%' $$;
    create function public.try(command text) returns text language plpgsql as $$
      declare answer text; begin execute command into answer; return answer;
      exception when others then return sqlerrm; end $$`);
});
beforeEach(() => {
  bench = adaptorOn(database);
  return () => bench.close();
});
afterAll(() => database.drop());

const as = (tenant: string, prepares = tenant !== "plain") => bench.request(tenant, { prepares });
const value = (rows: readonly unknown[]): unknown => Object.values(Object(rows[0]))[0];
const names = async (tenant: string): Promise<unknown> =>
  value(await bench.read(as(tenant), "select public.names()"));
const attempt = "select public.try($1)";

const ways: Record<string, (command: string, tenant?: string) => Promise<unknown>> = {
  "a read": async (command, tenant = "sea") =>
    value(await bench.read(as(tenant), attempt, undefined, [command])),
  "a write of one statement": async (command, tenant = "sea") =>
    value(
      (
        await bench.withPgClient.singleWrite(as(tenant).settings, {
          text: "update item set name = name returning public.try($1)",
          values: [command],
        })
      ).rows,
    ),
  "a transaction": (command, tenant = "sea") =>
    bench.withPgClient(as(tenant).settings, async (client) => {
      await client.query({ text: "update item set name = name" });
      return value((await client.query({ text: attempt, values: [command] })).rows);
    }),
  "a transaction that is rolled back": async (command, tenant = "sea") => {
    let answer: unknown;
    await bench
      .withPgClient(as(tenant).settings, async (client) => {
        answer = value((await client.query({ text: attempt, values: [command] })).rows);
        throw new Error("changed my mind");
      })
      .catch(() => undefined);
    return answer;
  },
};

describe.each(Object.keys(ways))("a statement that a tenant's function prepares in %s", (way) => {
  const run = (command: string, tenant?: string): Promise<unknown> =>
    ways[way]?.(command, tenant) ?? Promise.reject();

  it("is gone for the next tenant, which can neither see, run nor deallocate it, nor clash with its name", async () => {
    await run("prepare mine as select 'sea'");
    expect(await names("sea")).toEqual(["mine"]);
    expect(await run("execute mine", "seb")).toBe('prepared statement "mine" does not exist');
    await run("prepare mine as select 'sea'");
    expect(await names("seb")).toEqual([]);
    await run("prepare mine as select 'sea'");
    expect(await run("prepare mine as select 'seb'", "seb")).not.toMatch(/exists/);
    expect(await run("execute mine", "seb")).toBe("seb");
    expect(await run("deallocate mine", "sea")).toBe('prepared statement "mine" does not exist');
  });

  it("is gone even if a tenant whose functions cannot prepare came in between", async () => {
    await run("prepare mine as select 'sea'");
    await bench.read(as("plain"), "select name from item");
    expect(await names("seb")).toEqual([]);
  });

  it("is gone if the next tenant, or its own, was not known to prepare statements", async () => {
    await run("prepare mine as select 'sea'");
    const unknown = await bench.read(as("seb", false), attempt, undefined, ["execute mine"]);
    expect(value(unknown)).toBe('prepared statement "mine" does not exist');
    await bench.read(as("plain", false), attempt, undefined, ["prepare theirs as select 'plain'"]);
    expect(await run("execute theirs")).toBe('prepared statement "theirs" does not exist');
  });

  it("is gone if its tenant is no longer known to prepare statements", async () => {
    await run("prepare mine as select 'sea'");
    await bench.read(as("sea", false), "select name from item");
    const next = await bench.read(as("seb", false), "select public.names()");
    expect(value(next)).toEqual([]);
  });
});

it("a statement that executes a prepared one has the columns of that one, each time", async () => {
  const run = (command: string) => bench.read(as("sea"), attempt, undefined, [command]);
  const found = async (): Promise<unknown> =>
    (
      await bench.withPgClient(as("sea").settings, (client) =>
        client.query({ text: "execute mine", arrayMode: true }),
      )
    ).rows;
  for (const [select, row] of [
    ["select 1", [1]],
    ["select '{\"a\": 1}'::text, true", ['{"a": 1}', true]],
    ["select '{\"a\": 1}'::json, 2", [{ a: 1 }, 2]],
  ] as const) {
    await run("deallocate mine");
    await run(`prepare mine as ${select}`);
    for (let n = 0; n < 3; n += 1) expect(await found()).toEqual([row]);
  }
});

describe("if functions cannot prepare statements", () => {
  it("requests' prepared statements are kept when tenants alternate", async () => {
    const each = async (prepares: boolean) => {
      for (let round = 0; round < 4; round += 1) {
        for (const tenant of ["sea", "seb", "plain"])
          await bench.read(as(tenant, prepares), "select name from item", "q");
      }
      return value(await bench.read(as("plain", prepares), "select public.own_names()"));
    };
    expect(await each(false)).toBe(3);
    expect(await each(true)).toBeLessThan(3);
  });

  it("they are also kept while a tenant whose functions can has the connection to itself", async () => {
    for (let round = 0; round < 4; round += 1) await bench.read(as("sea"), "select name from item", "q");
    expect(value(await bench.read(as("sea"), "select public.own_names()"))).toBe(1);
  });
});
