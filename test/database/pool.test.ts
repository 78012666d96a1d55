import { createServer, type Socket } from "node:net";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import type { Observation } from "../../src/observability/observation.ts";
import { terminateBackends } from "../../src/postgres/backends.ts";
import { Database } from "../../src/postgres/database.ts";
import { advisoryWaits, createDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
const open: Database[] = [];
const seen: Observation[] = [];

function connect(url: string, applicationName = "rowhouse:h1:front"): Database {
  const observe = (observation: Observation): void => void seen.push(observation);
  const made = new Database({ name: "main", url, applicationName, observe, connectTimeoutMs: 500 });
  open.push(made);
  return made;
}

beforeAll(async () => {
  database = await createDatabase("pool");
});

afterAll(async () => {
  await Promise.all(open.map((each) => each.close()));
  await database.drop();
});

test("values are sent as parameters and rows are returned", async () => {
  const { rows } = await connect(database.url).query(
    "select $1::text as a, current_setting('application_name') as b",
    ["it's; drop"],
  );
  expect(rows).toEqual([{ a: "it's; drop", b: "rowhouse:h1:front" }]);
});

test("a connection is replaced after a thousand uses, because its backend caches what it has seen", async () => {
  const front = connect(database.url);
  const backends = new Set<unknown>();
  for (let use = 0; use <= 1_000; use += 1) {
    const { rows } = await front.query("select pg_backend_pid() as pid");
    backends.add(JSON.stringify(rows));
  }
  expect(backends.size).toBe(2);
});

test("a statement whose prepared form a pooler took away runs again unprepared, with its whole group", async () => {
  const front = connect(database.url);
  const ask = () =>
    front.together([
      { text: "select set_config('my.word', $1, true) as said", values: ["ours"] },
      { text: "select $1::int + 1 as next, current_setting('my.word') as said", values: [1], prepared: true },
    ]);
  const kept = () => front.query("select from pg_prepared_statements");
  const answer = [[{ said: "ours" }], [{ next: 2, said: "ours" }]];
  expect(await ask()).toEqual(answer);
  expect(await ask()).toEqual(answer);
  expect((await kept()).rows).toHaveLength(1);
  await front.query("deallocate all");
  expect(await ask()).toEqual(answer);
  expect(await ask()).toEqual(answer);
  expect((await kept()).rows).toEqual([]);
});

test("a prepared statement whose result has another type now is asked again, and prepared anew", async () => {
  const front = connect(database.url);
  await front.query("create table shifting (a int)");
  const ask = () => front.together([{ text: "select * from shifting", prepared: true }]);
  expect(await ask()).toEqual([[]]);
  await front.query("alter table shifting add b int");
  await front.query("insert into shifting values (1, 2)");
  for (const _ of [1, 2]) expect(await ask()).toEqual([[{ a: 1, b: 2 }]]);
  expect((await front.query("select from pg_prepared_statements")).rows).toHaveLength(1);
});

test("statements that are prepared while their names can be listed are prepared anew once they cannot", async () => {
  const role = `${database.name}_plain`;
  await database.execute(`create role ${role} login password 'plain'`);
  const front = connect(database.urlAs(role, "plain"));
  const ask = () => front.together([{ text: "select 1 as one", prepared: true }]);
  expect(await ask()).toEqual([[{ one: 1 }]]);
  const listed = await front.query("select name from pg_prepared_statements");
  await database.execute("revoke execute on function pg_catalog.pg_prepared_statement() from public");
  for (const _ of [1, 2, 3]) expect(await ask()).toEqual([[{ one: 1 }]]);
  await database.execute(`grant execute on function pg_catalog.pg_prepared_statement() to ${role}`);
  const { rows } = await front.query("select name from pg_prepared_statements");
  expect(rows).toHaveLength(1);
  expect(rows).not.toEqual(listed.rows);
  await front.close();
  await database.execute(`
    grant execute on function pg_catalog.pg_prepared_statement() to public;
    drop owned by ${role}; drop role ${role}`);
});

test("statements sent together are one transaction, whose settings end with it", async () => {
  const front = connect(database.url);
  await front.query("create table one_of (id int)");
  const ids = "select pg_current_xact_id() as id, current_setting('my.word', true) as word";
  const [, first, second] = await front.together([
    { text: "select set_config('my.word', 'ours', true)" },
    { text: ids, prepared: true },
    { text: ids },
  ]);
  expect(first).toEqual([{ id: expect.any(String), word: "ours" }]);
  expect(second).toEqual(first);
  expect((await front.query("select current_setting('my.word', true) as word")).rows).toEqual([{ word: "" }]);
  // If the last one fails, nothing of the others is committed.
  const failing = [{ text: "insert into one_of values (1)" }, { text: "select 1/0" }];
  await expect(front.together(failing)).rejects.toMatchObject({ code: "22012" });
  expect((await front.query("select from one_of")).rows).toEqual([]);
});

test("of statements sent together none runs after one that fails, whose error is reported", async () => {
  const front = connect(database.url);
  await front.query("create sequence ran");
  const behind = { text: "select nextval('ran')::int as ran", prepared: true };
  for (const failing of ["select set_config('search_path', 'nothing, ''and no list', true)", "selec"]) {
    await expect(front.together([{ text: failing }, behind])).rejects.toMatchObject({
      code: failing === "selec" ? "42601" : "22023",
    });
  }
  // Nor is it wrongly assumed to be prepared, or not to be.
  for (const count of [1, 2]) {
    expect(await front.together([behind])).toEqual([[{ ran: count }]]);
    await expect(front.together([{ text: "selec" }, behind])).rejects.toMatchObject({ code: "42601" });
  }
  expect((await front.query("select from pg_prepared_statements")).rows).toHaveLength(1);
});

test("a transaction that throws is rolled back, and its connection is used again", async () => {
  const front = connect(database.url);
  await front.query("create table kept (id int)");
  await expect(
    front.transaction(async (transaction) => {
      await transaction.query("insert into kept values (1)");
      await transaction.query("select 1/0");
    }),
  ).rejects.toMatchObject({ code: "22012" });
  await front.transaction((transaction) => transaction.query("insert into kept values (2)"));
  expect(
    (await front.query("select id, pg_current_xact_id_if_assigned() is null as idle from kept")).rows,
  ).toEqual([{ id: 2, idle: true }]);
});

test.each([
  ["nobody listens", "postgres://someone:s3cret-word@127.0.0.1:1/x"],
  ["the name does not resolve", "postgres://someone:s3cret-word@nowhere.invalid/x"],
])("the error is DATABASE_UNREACHABLE, without the password, if %s", async (_case, url) => {
  const error: unknown = await connect(url)
    .query("select 1")
    .catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect(String(error)).not.toContain("s3cret-word");
});

test("the error is DATABASE_UNREACHABLE if a server accepts and never answers", async () => {
  const sockets: Socket[] = [];
  const mute = createServer((socket) => void sockets.push(socket)).listen(0, "127.0.0.1");
  await new Promise((resolve) => mute.once("listening", resolve));
  const address = mute.address();
  const port = typeof address === "object" ? address?.port : 0;
  await expect(connect(`postgres://a:b@127.0.0.1:${port}/x`).query("select 1")).rejects.toMatchObject({
    code: "DATABASE_UNREACHABLE",
  });
  for (const socket of sockets) socket.destroy();
  mute.close();
});

test("an invalid URL is a CONFIG_INVALID that does not repeat the URL", () => {
  expect(() => connect("postgres://a:s3cret-word@[bad/x")).toThrow(
    expect.objectContaining({ code: "CONFIG_INVALID", message: expect.not.stringContaining("s3cret-word") }),
  );
});

test("a connection cut in mid-statement is DATABASE_UNREACHABLE, and the next statement gets a new one", async () => {
  const front = connect(database.url, "rowhouse:cut:front");
  const sleeping = front.query("select pg_sleep(60)").catch((reason: unknown) => reason);
  await until(async () => (await backends("rowhouse:cut:front", "active")) === 1);
  await database.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [
    "rowhouse:cut:front",
  ]);
  expect(await sleeping).toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect((await front.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("an error that a function raises stays its own, whatever its code and words, and the connection is used again", async () => {
  const front = connect(database.url);
  await front.query(`create function raises(code text, words text) returns int language plpgsql as
    $$ begin raise exception '%', words using errcode = code; end $$`);
  const pid = async () => (await front.query("select pg_backend_pid() as pid")).rows;
  const before = await pid();
  const text = "select raises($1, $2)";
  for (const code of ["08006", "57P01", "57P03", "53300", "P0001"]) {
    for (const words of ["no server", "Connection terminated", "Query read timeout", "timeout expired"]) {
      const raised = { code, message: words };
      const values = [code, words];
      await expect(front.query(text, values)).rejects.toMatchObject(raised);
      await expect(front.together([{ text, values }])).rejects.toMatchObject(raised);
      await expect(front.transaction((transaction) => transaction.query(text, values))).rejects.toMatchObject(
        raised,
      );
    }
  }
  expect(await pid()).toEqual(before);
});

test("an idle connection that the server cuts is reported, not thrown", async () => {
  const front = connect(database.url, "rowhouse:idle:front");
  await front.query("select 1");
  seen.length = 0;
  await database.query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", [
    "rowhouse:idle:front",
  ]);
  await until(async () => seen.some(({ kind }) => kind === "database.lost"));
  expect((await front.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
});

test("a terminated cell's backends are ended in mid-statement, and no others", async () => {
  const front = connect(database.url);
  const cell = connect(database.url, "rowhouse:h1:c7");
  const other = connect(database.url, "rowhouse:h1:c70");
  const lost = cell.query("select pg_sleep(60)").catch((reason: unknown) => reason);
  const spared = other.query("select pg_sleep(0.5), 'spared' as answer");
  await until(async () => (await backends("rowhouse:h1:c7", "active")) === 1);
  expect(await terminateBackends(front, "rowhouse:h1:c7")).toBe(1);
  expect(await lost).toMatchObject({ code: "DATABASE_UNREACHABLE" });
  expect((await spared).rows).toMatchObject([{ answer: "spared" }]);
});

test("tenants that hold their share of connections leave one to other tenants, and one to work of no tenant", async () => {
  const observe = (): void => undefined;
  const shares = { size: 1, reserve: 2, timeoutMs: 10_000, code: "NO_CAPACITY" } as const;
  const applicationName = "rowhouse:shares:front";
  const front = new Database({
    name: "main",
    url: database.url,
    applicationName,
    observe,
    maxConnections: 4,
    shares,
  });
  open.push(front);
  await database.query("select pg_advisory_lock(1)");
  const wait = [{ text: "select pg_advisory_xact_lock_shared(1)" }];
  const waiting = ["a", "a", "a", "b", "b"].map((tenant) => front.together(wait, tenant));
  await until(async () => (await advisoryWaits(database)).length === 2);
  expect(await front.together([{ text: "select 1 as one" }], "c")).toEqual([[{ one: 1 }]]);
  const third = front.transaction(
    (transaction) => transaction.query("select pg_advisory_xact_lock_shared(1)"),
    "c",
  );
  await until(async () => (await advisoryWaits(database)).length === 3);
  expect((await front.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  expect(await advisoryWaits(database)).toHaveLength(3);
  await database.query("select pg_advisory_unlock(1)");
  await Promise.all([...waiting, third]);
});

test("after close every query is refused", async () => {
  const front = connect(database.url);
  await front.query("select 1");
  await front.close();
  await front.close();
  await expect(front.query("select 1")).rejects.toMatchObject({ code: "SHUTTING_DOWN" });
});

async function backends(applicationName: string, state: string): Promise<number> {
  const rows = await database.query(
    "select from pg_stat_activity where application_name = $1 and state = $2",
    [applicationName, state],
  );
  return rows.length;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  await expect.poll(condition, { timeout: 20_000, interval: 20 }).toBe(true);
}

test("any refused connection is DATABASE_UNREACHABLE, with its SQLSTATE", async () => {
  const gone = new URL(database.url);
  gone.pathname = "/no_such_database";
  for (const [url, state] of [
    [gone.href, "3D000"],
    [database.urlAs("postgres", "wrong"), "28P01"],
  ] as const) {
    const error = await connect(url)
      .query("select")
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "DATABASE_UNREACHABLE", cause: { code: state } });
    expect(String(error)).toContain(state);
  }
});

test("a server without a connection for the role is NO_CAPACITY: it can be reached, and will have one again", async () => {
  const role = `${database.name}_full`;
  await database.execute(`create role ${role} login password 'full' connection limit 0`);
  const front = connect(database.urlAs(role, "full"));
  await expect(front.query("select")).rejects.toMatchObject({
    code: "NO_CAPACITY",
    message: expect.stringContaining("53300"),
    cause: { code: "53300" },
  });
  await database.execute(`alter role ${role} connection limit -1`);
  expect((await front.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  await front.close();
  await database.execute(`drop role ${role}`);
});

test("a role's timeouts end neither a statement nor a session of the host's own", async () => {
  const role = `${database.name}_hasty`;
  await database.execute(`
    create role ${role} login password 'hasty';
    alter role ${role} set statement_timeout = '200ms';
    alter role ${role} set idle_session_timeout = '300ms'`);
  // A setting that PostgreSQL has had since version 17.
  if (inject("postgresMajor") >= 17) {
    await database.execute(`alter role ${role} set transaction_timeout = '300ms'`);
  }
  const front = connect(database.urlAs(role, "hasty"));
  const pid = "select pg_backend_pid() as pid";
  const { rows: before } = await front.query(pid);
  await front.query("select pg_sleep(0.4)");
  const slept = await front.together([{ text: "select" }, { text: "select pg_sleep(0.4)::text as slept" }]);
  expect(slept[1]).toEqual([{ slept: "" }]);
  await database.query("select pg_sleep(0.5)");
  expect((await front.query(pid)).rows).toEqual(before);
  await front.close();
  await database.execute(`drop role ${role}`);
});

test("a statement of the host's own that PostgreSQL cancels is DATABASE_UNREACHABLE", async () => {
  const front = connect(database.url, "rowhouse:h1:ended");
  const asked = front.query("select pg_sleep(30)").catch((thrown: unknown) => thrown);
  await expect
    .poll(() =>
      database.query(
        "select pg_cancel_backend(pid) from pg_stat_activity where application_name = 'rowhouse:h1:ended' and state = 'active' and query ~ 'pg_sleep'",
      ),
    )
    .toHaveLength(1);
  expect(await asked).toMatchObject({ code: "DATABASE_UNREACHABLE", cause: { code: "57014" } });
});
