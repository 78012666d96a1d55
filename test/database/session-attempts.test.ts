import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { namespace } from "../../src/shared/postgres/statement-names.ts";
import type { TestDatabase } from "../support/database.ts";
import { type AdaptorBench, adaptorDatabase, adaptorOn } from "../support/worker-adaptor.ts";

/** What functions of tenant `sea` try to leave in the session, compared by all that `seb` can observe of it before and after. */
let database: TestDatabase;
let bench: AdaptorBench;

beforeAll(async () => {
  database = await adaptorDatabase("attempts", ["sea", "seb"]);
  await database.execute(`
    set check_function_bodies = off;
    create sequence sea.counter; grant usage on sequence sea.counter to sea;
    create table sea.late (id int references sea.item deferrable); grant insert on sea.late to sea;
    -- What is not let happen cannot stay; the attempt itself must not fail the request around it.
    create function sea.try(command text) returns text language plpgsql volatile as $$
    begin execute command; return 'done';
    exception when others then return sqlerrm; end $$;
    create function sea.hold() returns void language sql as 'declare held cursor with hold for select 1'`);
  bench = adaptorOn(database);
});
afterAll(async () => {
  await bench.close();
  await database.drop();
});

const settings: [string, string][] = [
  ["role", "seb"],
  ["session_authorization", "seb"],
  ["search_path", "sea"],
  ["row_security", "off"],
  ["session_replication_role", "replica"],
  ["statement_timeout", "61000"],
  ["lock_timeout", "61000"],
  ["transaction_timeout", "61000"],
  ["idle_in_transaction_session_timeout", "61000"],
  ["default_transaction_read_only", "on"],
  ["default_transaction_isolation", "serializable"],
  ["default_transaction_deferrable", "on"],
  ["client_encoding", "LATIN1"],
  ["datestyle", "German"],
  ["intervalstyle", "iso_8601"],
  ["timezone", "Asia/Kolkata"],
  ["bytea_output", "escape"],
  ["extra_float_digits", "-15"],
  ["xmlbinary", "hex"],
  ["standard_conforming_strings", "off"],
  ["default_text_search_config", "pg_catalog.german"],
  ["plan_cache_mode", "force_generic_plan"],
  ["enable_seqscan", "off"],
  ["work_mem", "64kB"],
  ["jit", "on"],
  ["client_min_messages", "debug5"],
  ["app.user", "1"],
  ["jwt.claims.user_id", "7"],
];

const attempts: [string, string][] = [
  ...settings.flatMap(([name, value]): [string, string][] => [
    [`set_config ${name}`, `select set_config('${name}', '${value}', false)`],
    [`set local ${name}`, `set local ${name} = '${value}'`],
  ]),
  ["set role", "set role seb"],
  ["reset role", "reset role"],
  [
    "set session characteristics",
    "set session characteristics as transaction read only, isolation level serializable",
  ],
  ["set constraints", "set constraints all deferred"],
  ["reset all", "reset all"],
  ["a role's own settings", "alter role sea set statement_timeout = '1ms'"],
  [
    "the database's settings",
    "do $$ begin execute format('alter database %I set search_path = sea', current_database()); end $$",
  ],
  ["a temporary table", "create temp table item (id int, name text)"],
  ["a temporary view", "create temp view item as select 1 as id, 'sea' as name"],
  [
    "a temporary function",
    "create function pg_temp.current_setting(text, boolean) returns text language sql return 'sea'",
  ],
  ["a temporary sequence", "create temp sequence counted; select nextval('counted')"],
  ["a sequence's value", "select nextval('counter')"],
  ["a sequence set", "select setval('counter', 7)"],
  ["a prepared statement", "prepare mine as select 'sea'"],
  ["deallocate all", "deallocate all"],
  ["discard plans", "discard plans"],
  ["discard temp", "discard temp"],
  ["discard all", "discard all"],
  ["listen", "listen left_behind"],
  ["a notification", "select pg_notify('left_behind', 'x')"],
  ["a cursor with hold", "select hold()"],
  ["a held cursor by name", "declare left_behind cursor with hold for select 1"],
  ["an advisory lock", "select pg_advisory_lock(4711)"],
  ["a shared advisory lock", "select pg_advisory_lock_shared(4712)"],
  ["two advisory locks", "do $$ begin perform pg_advisory_lock(4713), pg_try_advisory_lock(4713); end $$"],
  ["a large object", "select lo_open(lo_create(0), 131072)"],
  [
    "a setting in a subtransaction",
    "do $$ begin perform set_config('app.user', '1', false); raise exception 'no'; exception when others then null; end $$",
  ],
  ["loading a library", "load 'auto_explain'"],
  ["an attempt to end the transaction", "commit"],
];

/** Everything observable of a session. A request's own settings would hide some of it, so it is also read without any. */
const told = `select current_user as role, session_user as session,
  (select json_object_agg(name, setting order by name) from pg_settings where name not like 'plpgsql.%') as settings,
  coalesce(current_setting('app.user', true), '') as app, coalesce(current_setting('jwt.claims.user_id', true), '') as claim,
  (select count(*)::int from pg_prepared_statements where not starts_with(name, '${namespace}')) as prepared,
  (select json_agg(name) from pg_cursors where name <> '') as cursors, (select json_agg(c) from pg_listening_channels() c) as channels,
  (select json_agg(c.relname) from pg_class c where c.relnamespace = pg_my_temp_schema()) as temporary,
  (select json_agg(p.proname) from pg_proc p where p.pronamespace = pg_my_temp_schema()) as functions,
  (select json_agg(l.objid) from pg_locks l where l.locktype = 'advisory' and l.pid = pg_backend_pid()) as locks,
  (select json_agg(setconfig) from pg_db_role_setting s where setrole <> 'sea'::regrole
    and (setrole = 'seb'::regrole or exists (select from pg_database d where d.oid = s.setdatabase and d.datname = current_database()))) as stored`;

const seen = async () => {
  const rows = await bench.read(bench.request("seb"), told);
  // Without any request's settings: the session as a request finds it.
  const connection = await bench.sessions.acquire();
  try {
    return [...rows, ...(await connection.send([{ text: told }])).rows];
  } finally {
    connection.release();
  }
};

const as = () => bench.request("sea");
const attempt = "select try($1) as answer";
const refused = new Error("refused");

const ways: Record<string, (command: string) => Promise<unknown>> = {
  "a read": (command) => bench.read(as(), attempt, undefined, [command]),
  "a read that fails": (command) =>
    bench.read(as(), `${attempt}, 1 / (select 0)`, undefined, [command]).catch((error) => error),
  "a read that is committed": (command) =>
    bench.read(bench.request("sea", { notifies: true }), attempt, undefined, [command]),
  "a read that is committed and fails": (command) =>
    bench
      .read(bench.request("sea", { notifies: true }), `${attempt}, 1 / (select 0)`, undefined, [command])
      .catch((error) => error),
  "a write of one statement": (command) =>
    bench.withPgClient.singleWrite(as().settings, {
      text: "update item set name = name returning try($1) as answer",
      values: [command],
    }),
  "a write of one statement that fails": (command) =>
    bench.withPgClient
      .singleWrite(as().settings, { text: `${attempt}, 1 / (select 0)`, values: [command] })
      .catch((error) => error),
  "a transaction": (command) =>
    bench.withPgClient(as().settings, async (client) => {
      await client.query({ text: "update item set name = name" });
      return client.query({ text: attempt, values: [command] });
    }),
  "a transaction that is rolled back": (command) =>
    bench
      .withPgClient(as().settings, async (client) => {
        await client.query({ text: attempt, values: [command] });
        throw refused;
      })
      .catch((error) => error),
};

describe.each(Object.keys(ways))("after %s, the next tenant sees no trace in the session of", (way) => {
  it.each(attempts)("%s", async (_, command) => {
    const pid = async () => (await bench.read(bench.request("seb"), "select pg_backend_pid() as pid"))[0];
    const [before, connection] = [await seen(), await pid()];
    await ways[way]?.(command);
    expect(await seen()).toEqual(before);
    expect(await pid()).toEqual(connection);
    // lastval() reveals the last sequence used, whoever's it was.
    const last = bench.withPgClient(bench.request("seb").settings, (client) =>
      client.query({ text: "select lastval()" }),
    );
    await expect(last).rejects.toThrow("lastval is not yet defined in this session");
  });

  it("the seed of random()", async () => {
    const drawn = new Set<unknown>();
    for (let round = 0; round < 3; round += 1) {
      await ways[way]?.("select setseed(0.5)");
      const [row] = await bench.read(bench.request("seb"), "select random() as drawn");
      drawn.add(JSON.stringify(row));
    }
    expect(drawn.size).toBe(3);
  });
});

it("a login's own role and search path settings affect no request", async () => {
  const login = `attempts_${database.name.split("_").at(-1)}`;
  await database.execute(`create role ${login} login password 'word' in role sea, seb;
    alter role ${login} set role = 'sea'; alter role ${login} set search_path = sea; alter role ${login} set jwt.claims.user_id = '7'`);
  const own = adaptorOn({ ...database, url: database.urlAs(login, "word") });
  try {
    const state = "select current_user::text as who, current_schemas(false)::text as path";
    const plain = await own.sessions.acquire();
    expect((await plain.send([{ text: state }])).rows).toEqual([{ who: "sea", path: "{sea}" }]);
    plain.release();
    // A tenant without roles, whose requests run as the connecting role.
    const roleless = own.request("seb", { roles: [] });
    Reflect.deleteProperty(roleless.settings, "role");
    expect(await own.read(roleless, state)).toEqual([{ who: login, path: "{seb}" }]);
    const write = await own.withPgClient.singleWrite(roleless.settings, { text: state, values: [] });
    expect(write.rows).toEqual([{ who: login, path: "{seb}" }]);
  } finally {
    await own.close();
    await database.execute(`drop role ${login}`);
  }
});
