import { afterAll, beforeAll, expect, test } from "vitest";
import { installControl } from "../../src/control/install.ts";
import { Database } from "../../src/postgres/database.ts";
import { Listener } from "../../src/postgres/listener.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { revisionOf } from "../support/guard-control.ts";

let database: TestDatabase;
let front: Database;
const ignore = (): void => {};

beforeAll(async () => {
  database = await createDatabase("restored");
  front = new Database({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: ignore,
  });
  await installControl(front, ignore);
  await database.execute("create schema shop; create table shop.item (id int)");
});

afterAll(async () => {
  await front.close();
  await database.drop();
});

interface DumpedRow {
  readonly schema_name: string;
  readonly number: string;
}

/** The rows as pg_dump has them: the columns that are not generated, and the sequence's value. */
async function dumped() {
  const rows = await database.query<DumpedRow>(
    "select schema_name, number::text from rowhouse.schema_revision",
  );
  const [sequence] = await database.query<{ last: string }>(
    "select last_value::text as last from rowhouse.revision",
  );
  return { rows, last: sequence?.last ?? "" };
}

/** Restores them in pg_restore's order: event triggers are dropped first and created last. */
async function restore({ rows, last }: Awaited<ReturnType<typeof dumped>>): Promise<void> {
  await database.execute(
    "drop event trigger rowhouse_ddl_command_end; drop event trigger rowhouse_sql_drop; truncate rowhouse.schema_revision",
  );
  for (const { schema_name, number } of rows) {
    await database.query("insert into rowhouse.schema_revision (schema_name, number) values ($1, $2)", [
      schema_name,
      number,
    ]);
  }
  await database.query("select setval('rowhouse.revision', $1)", [last]);
}

const bringBackTriggers = `
  create event trigger rowhouse_ddl_command_end on ddl_command_end execute function rowhouse.on_ddl_command_end();
  create event trigger rowhouse_sql_drop on sql_drop execute function rowhouse.on_sql_drop();
  alter event trigger rowhouse_ddl_command_end enable always; alter event trigger rowhouse_sql_drop enable always`;

test("neither a restore nor a change after it brings back an earlier revision", async () => {
  const dump = await dumped();
  const known = new Set([await revisionOf(database, "shop")]);
  // Revisions that hosts know and the dump does not have.
  for (const column of ["a", "b", "c", "d"]) {
    await database.execute(`alter table shop.item add column ${column} int`);
    known.add(await revisionOf(database, "shop"));
  }
  expect(known.size).toBe(5);
  await restore(dump);
  expect(known).not.toContain(await revisionOf(database, "shop"));
  await database.execute(bringBackTriggers);
  for (const column of ["e", "f", "g", "h", "i"]) {
    await database.execute(`alter table shop.item add column ${column} int`);
    expect(known).not.toContain(await revisionOf(database, "shop"));
  }
});

test("the end of a restore moves every schema, since keys and constraints came without notifications", async () => {
  const heard: [string, string][] = [];
  const listener = new Listener({
    name: "main",
    url: database.url,
    applicationName: "rowhouse:test",
    observe: ignore,
  });
  for (const channel of ["rowhouse_schema", "rowhouse_tenant"]) {
    listener.on(channel, (payload) => heard.push([channel, payload]));
  }
  await listener.open();
  try {
    const before = await revisionOf(database, "shop");
    // The last command of every dump.
    await database.execute("refresh materialized view rowhouse.restored");
    expect(BigInt(await revisionOf(database, "shop"))).toBeGreaterThan(BigInt(before));
    await expect.poll(() => heard.filter(([, payload]) => /shop/.test(payload))).toHaveLength(1);
    expect(heard).toContainEqual(["rowhouse_tenant", ""]);
  } finally {
    await listener.close();
  }
});

test("refreshing any other materialized view moves nothing, even one of the same name", async () => {
  await database.execute("create materialized view shop.restored as select 1 as one");
  const before = await revisionOf(database, "shop");
  await database.execute("refresh materialized view shop.restored");
  expect(await revisionOf(database, "shop")).toBe(before);
});

test("a later change has a higher revision, even within one millisecond", async () => {
  const rows = await database.query<{ made: string }>(
    "select rowhouse.revision_of(nextval('rowhouse.revision'))::text as made from generate_series(1, 1000)",
  );
  const made = rows.map((row) => BigInt(row.made));
  expect(made).toEqual([...made].sort((one, other) => (one < other ? -1 : 1)));
  expect(new Set(made).size).toBe(1000);
});
