import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseShape, probeSettings, shapeQuery } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

const sqlFunction = (body: string, more = "stable"): string =>
  `create function one.f() returns void ${more} language sql ${body}`;

describe("a function that could notify during a read is recognised:", () => {
  let database: TestDatabase;
  let client: Client;

  beforeAll(async () => {
    database = await createDatabase("notifiers");
    await database.execute("create schema one; create schema other; create table one.t (id int)");
    client = new Client({ connectionString: database.url });
    await client.connect();
  });
  beforeEach(async () => {
    await client.query("begin; set local check_function_bodies = off");
    return () => client.query("rollback");
  });
  afterAll(async () => {
    await client.end();
    await database.drop();
  });

  const told = async (): Promise<boolean> => {
    await client.query(`savepoint asking; ${probeSettings}`);
    const tenant = {
      schemas: [{ logical: "app", physical: "one" }],
      sharedSchemas: ["public"],
      roles: { anonymous: null, authenticated: null },
    };
    const { notifies } = parseShape((await client.query(shapeQuery(tenant))).rows[0]);
    await client.query("rollback to savepoint asking");
    return notifies;
  };

  it.each([
    ["in SQL", sqlFunction("as $$ select pg_notify('c', 'x') $$")],
    ["in SQL, in capitals", sqlFunction("as $$ SELECT PG_NOTIFY('c', 'x') $$")],
    ["in SQL standard form", sqlFunction("begin atomic select pg_notify('c', 'x'); end")],
    [
      "in PL/pgSQL",
      "create function one.f() returns int stable language plpgsql as $$ begin perform pg_notify('c', ''); return 1; end $$",
    ],
    [
      "by the NOTIFY command, in a volatile function",
      "create function one.f() returns int language plpgsql as $$ begin notify c; return 1; end $$",
    ],
    ["in a shared schema", "create function public.f() returns void stable return pg_notify('c', 'x')"],
  ])("%s", async (_, make) => {
    expect(await told()).toBe(false);
    await client.query(make);
    expect(await told()).toBe(true);
  });

  it.each([
    [
      "a trigger function, which no read runs",
      "create function one.f() returns trigger language plpgsql as $$ begin perform pg_notify('c', ''); return new; end $$",
    ],
    ["one of another schema", "create function other.f() returns void stable return pg_notify('c', 'x')"],
    ["one that is only called notify", "create function one.notify() returns int stable return 1"],
    ["one that calls others in SQL standard form", sqlFunction("begin atomic select pg_sleep(0); end")],
  ])("but not %s", async (_, make) => {
    await client.query(make);
    expect(await told()).toBe(false);
  });
});

describe("a notification by a STABLE function", () => {
  let database: TestDatabase;
  let bench: AdaptorBench;
  let listener: Client;
  const heard: string[] = [];

  beforeAll(async () => {
    database = await adaptorDatabase("notified", ["nan", "nob"]);
    await database.execute(`
      create function nan.tell(what text) returns text stable language plpgsql as
        $$ begin perform pg_notify('tidings', what); perform set_config('app.left', what, false); return what; end $$;
      create function nan.fail(what text) returns text stable language plpgsql as
        $$ begin perform pg_notify('tidings', what); raise 'no'; end $$`);
    bench = adaptorOn(database);
    listener = new Client({ connectionString: database.url });
    await listener.connect();
    listener.on("notification", ({ payload = "" }) => heard.push(payload));
    await listener.query("listen tidings");
  });
  beforeEach(() => void heard.splice(0));
  afterAll(async () => {
    await listener.end();
    await bench.close();
    await database.drop();
  });

  const ask = (text: string, values: unknown[], name?: string) =>
    bench.read(bench.request("nan", { notifies: true }), text, name, values);
  /** What has been notified so far: PostgreSQL delivers in the order of commits. */
  const told = async (): Promise<string[]> => {
    await database.query("select pg_notify('tidings', 'end')");
    await expect.poll(() => heard.at(-1)).toBe("end");
    return heard.slice(0, -1);
  };

  it("is delivered once, and the read stays a read", async () => {
    for (const name of [undefined, "tell", "tell"]) {
      expect(await ask("select tell($1)", ["here"], name)).toEqual([{ tell: "here" }]);
    }
    expect(await told()).toEqual(["here", "here", "here"]);
    const request = bench.request("nan", { notifies: true });
    const [state] = await bench.read(request, "select current_setting('transaction_read_only') as only");
    expect([state, request.marked()]).toEqual([{ only: "on" }, false]);
  });

  it("is not delivered if the read fails", async () => {
    await expect(ask("select fail($1)", ["never"])).rejects.toThrow("no");
    await expect(ask("select tell($1), 1 / 0", ["never"])).rejects.toThrow(/division by zero/);
    expect(await told()).toEqual([]);
  });

  it("leaves none of the function's settings on the connection", async () => {
    await ask("select tell($1)", ["secret"]);
    expect(await told()).toEqual(["secret"]);
    const other = bench.request("nob");
    expect(await bench.read(other, "select current_setting('app.left', true) as left")).toEqual([
      { left: "" },
    ]);
  });

  it("is lost in a request not marked as notifying, since reads are rolled back", async () => {
    expect(await bench.read(bench.request("nan"), "select tell($1)", undefined, ["lost"])).toEqual([
      { tell: "lost" },
    ]);
    expect(await told()).toEqual([]);
  });
});
