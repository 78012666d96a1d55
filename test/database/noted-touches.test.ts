import { readFile } from "node:fs/promises";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard, revisionOf } from "../support/guard-control.ts";
import { movedBy } from "../support/moved-schemas.ts";
import { installVersion } from "../support/old-control.ts";

let database: TestDatabase;
let client: Client;
let other: Client;
const role = `touches_${process.pid}`;

/** Past the number from which ALTER commands are not told apart. */
const many = "alter table a.t set (fillfactor = 90);".repeat(70);
const settings = ["rowhouse.commands", "rowhouse.schema"];

async function connected(): Promise<Client> {
  const made = new Client({ connectionString: database.url });
  await made.connect();
  return made;
}

/** Where the transaction has its notes, as it remembers, and puts that back: anybody may. */
async function remembered(of: Client): Promise<string[]> {
  const { rows } = await of.query(
    `select coalesce(current_setting(name, true), '') as value from unnest($1::text[]) with ordinality as asked (name, place) order by place`,
    [settings],
  );
  return rows.map(({ value }) => String(value));
}
async function remember(by: Client, values: readonly string[]): Promise<void> {
  await by.query(
    "select set_config(name, value, true) from unnest($1::text[], $2::text[]) as given (name, value)",
    [settings, values],
  );
}

/** How many rows have been written to, and how many scans were made of, the table of touches in this transaction. */
async function work(of: Client): Promise<{ written: number; scans: number }> {
  const { rows } = await of.query(
    `select pg_stat_get_xact_tuples_inserted(t)::int as written,
      pg_stat_get_xact_tuples_returned(t)::int as scans from (select 'rowhouse.schema_touch'::regclass as t) one`,
  );
  return rows[0];
}

beforeAll(async () => {
  database = await createDatabase("noted_touches");
  await installGuard(database);
  await database.execute(`
    create role ${role};
    create schema a authorization ${role}; create schema b authorization ${role}; create schema bystander;
    set role ${role}; create table a.t (id int, name text default 'x'); create table b.t (id int); reset role`);
  [client, other] = [await connected(), await connected()];
});

afterEach(async () => {
  for (const each of [client, other]) await each.query("rollback; reset role");
});

afterAll(async () => {
  await client.end();
  await other.end();
  await database.execute(`drop owned by ${role} cascade; drop role ${role}`);
  await database.drop();
});

describe.each([
  ["one command", "alter table a.t alter column name set default 'y'"],
  ["many", many],
  [
    "a drop",
    "alter table a.t alter column name drop default; alter table a.t alter column name set default 'y'",
  ],
])("where a transaction remembers to have noted something hides nothing: %s", (_, command) => {
  it("where it was undone with a savepoint, and is put back", async () => {
    expect(
      await movedBy(database, async () => {
        await client.query(`begin; savepoint s; ${command}`);
        const values = await remembered(client);
        expect(values[1]).toMatch(/^\(\d+,\d+\)$/);
        await client.query("rollback to s");
        expect(await remembered(client)).not.toEqual(values);
        await remember(client, values);
        await client.query(`${command}; commit`);
      }),
    ).toEqual(["a"]);
  });

  it("where it was undone with a savepoint within a savepoint, behind one that stands", async () => {
    expect(
      await movedBy(database, async () => {
        await client.query(
          "begin; savepoint s; comment on table b.t is 'x'; release s; savepoint s; savepoint t",
        );
        await client.query(`${command}; release t`);
        const values = await remembered(client);
        await client.query("rollback to s; comment on table b.t is 'y'");
        await remember(client, values);
        await client.query(`${command}; commit`);
      }),
    ).toEqual(["a", "b"]);
  });

  it("where its touches have been settled, and it is put back", async () => {
    await client.query(`begin; ${command}`);
    const values = await remembered(client);
    await client.query("set constraints all immediate; set constraints all deferred");
    const { rows } = await client.query(
      "select revision from rowhouse.schema_revision where schema_name = 'a'",
    );
    await remember(client, values);
    await client.query(`${command}; commit`);
    expect(BigInt(await revisionOf(database, "a"))).toBeGreaterThan(BigInt(rows[0].revision));
  });

  it("where the settling of its touches was undone with a savepoint", async () => {
    expect(
      await movedBy(database, async () => {
        await client.query(`begin; ${command}; savepoint s; set constraints all immediate; rollback to s`);
        await client.query(`${command}; commit`);
      }),
    ).toEqual(["a"]);
    expect(await database.query("select from rowhouse.schema_touch")).toEqual([]);
  });

  it("where it is an earlier transaction's, and another row may be there by now", async () => {
    await client.query(`begin; ${command}`);
    const values = await remembered(client);
    await client.query("commit");
    await database.execute("vacuum rowhouse.schema_touch");
    await other.query("begin; create table bystander.begun (id int)");
    expect(
      await movedBy(database, async () => {
        await client.query("begin");
        await remember(client, values);
        await client.query(`${command}; commit`);
      }),
    ).toEqual(["a"]);
  });

  it("where it is a row that another transaction has left behind", async () => {
    await database.execute(`
      alter table rowhouse.schema_touch disable trigger settle;
      insert into rowhouse.schema_touch (kind, name) values ('many', ''), ('schema', 'a');
      alter table rowhouse.schema_touch enable always trigger settle`);
    const { rows } = await client.query(
      "select ctid::text as place from rowhouse.schema_touch order by kind",
    );
    try {
      const touched = await movedBy(database, async () => {
        await client.query("begin");
        await remember(
          client,
          rows.map(({ place }) => String(place)),
        );
        await client.query(`${command}; commit`);
      });
      expect(touched).toEqual(["a"]);
    } finally {
      await database.execute("delete from rowhouse.schema_touch");
    }
  });

  it("where it is that of another session, which is under way", async () => {
    await client.query("begin; create table b.other (id int); drop table b.other");
    await other.query(`begin; create table a.begun (id int); ${many.replaceAll("a.t", "a.begun")}`);
    const values = await remembered(other);
    expect(values).toEqual([expect.stringMatching(/^\(/), expect.stringMatching(/^\(/)]);
    expect(
      await movedBy(database, async () => {
        await remember(client, values);
        await client.query(`${command}; commit`);
      }),
    ).toEqual(["a", "b"]);
  });

  it("where it is made up, or that of another touch of the transaction's own", async () => {
    const madeUp = ["(0,1)", "(4294967295,65535)", "(999999999,9999)", "(", "(x,y)", "(0,1", "x", "(0,0)"];
    for (const value of [null, ...madeUp]) {
      const touched = await movedBy(database, async () => {
        await client.query("begin; comment on table b.t is 'own'");
        const [, own = ""] = await remembered(client);
        expect(own).toMatch(/^\(\d+,\d+\)$/);
        await remember(client, [value ?? own, value ?? own]);
        await client.query(`${command}; commit`);
      });
      expect(touched).toEqual(["a", "b"]);
    }
  });

  it("where exceptions undo a part, another transaction settles in between, and the role has no rights", async () => {
    const caught = `do $$ begin begin ${command.replace(/;$/, "")}; raise exception 'undone'; exception when raise_exception then null; end; end $$`;
    expect(
      await movedBy(database, async () => {
        await client.query(
          `begin; set local role ${role}; ${caught}; comment on table b.t is 'z'; ${caught}`,
        );
        await other.query("create table bystander.settled (id int); drop table bystander.settled");
        await client.query(`${caught}; ${command}; commit`);
      }),
    ).toEqual(["a", "b", "bystander"]);
    expect(await database.query("select from rowhouse.schema_touch")).toEqual([]);
  });

  it("where triggers are a replica's, and operators and tables are made to look like those that are meant", async () => {
    await client.query(`
      set session_replication_role = replica; set search_path = bystander, pg_catalog;
      create temp table schema_touch (transaction xid8, kind text, name text);
      insert into schema_touch values (pg_current_xact_id(), 'many', ''), (pg_current_xact_id(), 'schema', 'a')`);
    try {
      expect(await movedBy(database, () => client.query(`begin; ${command}; commit`))).toEqual(["a"]);
    } finally {
      await client.query(
        "reset session_replication_role; reset search_path; drop table pg_temp.schema_touch",
      );
    }
  });
});

it("a role without rights cannot write touches, nor call what does", async () => {
  for (const sql of [
    "insert into rowhouse.schema_touch (kind) values ('many')",
    "select rowhouse.note_touches('{schema a}', 'rowhouse.schema')",
    "select rowhouse.take_touches()",
    "select rowhouse.note_default_privileges()",
  ]) {
    await client.query(`begin; set local role ${role}`);
    await expect(client.query(sql), sql).rejects.toMatchObject({ code: "42501" });
    await client.query("rollback");
  }
});

it("many schemas in turn move, and so do those that come back", async () => {
  const names = Array.from({ length: 20 }, (_, index) => `more_${String(index).padStart(2, "0")}`);
  await database.execute(
    names.map((name) => `create schema ${name}; create table ${name}.t (id int)`).join(";"),
  );
  const all = names.map((name) => `comment on table ${name}.t is 'x'`).join(";");
  expect(await movedBy(database, () => database.execute(`begin; ${all}; ${all}; commit`))).toEqual(names);
  const dropped = names.map((name) => `drop table ${name}.t`).join(";");
  expect(await movedBy(database, () => database.execute(`begin; ${all}; ${dropped}; commit`))).toEqual(names);
});

it.each([
  ["comments", "comment on table a.t is 'x'"],
  ["alters", "alter table a.t alter column name set default 'x'"],
  ["alters of many", `${many} alter table a.t alter column name set default 'x'`],
  ["drops", "alter table a.t add column gone int default 1; alter table a.t drop column gone"],
  ["grants", `grant select on a.t to ${role}`],
])("a command on what its transaction has noted writes nothing and reads one row: %s", async (_, command) => {
  // Rows that are the transaction's own, and those of others that have gone.
  await client.query("begin");
  await client.query(
    Array.from(
      { length: 100 },
      (_, n) => `create function a.f${n}() returns int language sql as 'select 1'`,
    ).join(";"),
  );
  await client.query(`${command}; ${command}`);
  const before = await work(client);
  await client.query(`${command}; ${command}`);
  const after = await work(client);
  expect(after.written - before.written).toBe(0);
  expect(after.scans - before.scans).toBeLessThan(100);
});

test("an upgrade from version 11 under event triggers keeps sessions that are there noticing changes", async () => {
  const older = await createDatabase("noted_touches_upgrade");
  const host = new Database({
    name: "main",
    url: older.url,
    applicationName: "rowhouse:test",
    observe: () => {},
  });
  const session = new Client({ connectionString: older.url });
  try {
    await installVersion(host, 11);
    await older.execute(
      await readFile(new URL("../../src/control/sql/event-triggers.sql", import.meta.url), "utf8"),
    );
    await older.execute("create schema a; create table a.t (id int, name text); create schema b");
    await session.connect();
    const changes = `begin; create table b.n (id int); ${many} drop table b.n; commit`;
    expect(await movedBy(older, () => session.query(changes))).toEqual(["a", "b"]);
    // Also in a transaction that waits to settle what it has touched.
    const text = await readFile(new URL("../../src/control/sql/012-touches.sql", import.meta.url), "utf8");
    await older.execute(`begin; comment on table a.t is 'pending'; ${text}; rollback`);
    const before = await revisionOf(older, "a");
    expect(await installControl(host, () => {})).toMatchObject({ eventTriggers: true, missing: [] });
    expect(await revisionOf(older, "a")).toBe(before);
    expect(await movedBy(older, () => session.query(changes))).toEqual(["a", "b"]);
    expect(await movedBy(older, () => session.query("comment on table a.t is 'x'"))).toEqual(["a"]);
    expect(await older.query("select from rowhouse.schema_touch")).toEqual([]);
  } finally {
    await session.end();
    await host.close();
    await older.drop();
  }
});
