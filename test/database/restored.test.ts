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

/** The rows as pg_dump has them: the columns that are not generated, and where the sequence stands. */
async function dumped() {
  const rows = await database.query<DumpedRow>(
    "select schema_name, number::text from rowhouse.schema_revision",
  );
  const [sequence] = await database.query<{ last: string }>(
    "select last_value::text as last from rowhouse.revision",
  );
  return { rows, last: sequence?.last ?? "" };
}

/** What pg_restore does to them, in its order: event triggers go first and come back last. */
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

test("a restore brings no revision back that was there before, nor do changes behind it", async () => {
  const dump = await dumped();
  const known = new Set([await revisionOf(database, "shop")]);
  // What the dump does not have, and hosts know.
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

test("the end of a restore moves every schema: keys and constraints came while nobody was told", async () => {
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
    // The last commands of every dump.
    await database.execute("refresh materialized view rowhouse.restored");
    expect(BigInt(await revisionOf(database, "shop"))).toBeGreaterThan(BigInt(before));
    await expect.poll(() => heard.filter(([, payload]) => /shop/.test(payload))).toHaveLength(1);
    expect(heard).toContainEqual(["rowhouse_tenant", ""]);
  } finally {
    await listener.close();
  }
});

test("a refresh of any other materialized view moves nothing, also of one with that name", async () => {
  await database.execute("create materialized view shop.restored as select 1 as one");
  const before = await revisionOf(database, "shop");
  await database.execute("refresh materialized view shop.restored");
  expect(await revisionOf(database, "shop")).toBe(before);
});

test("a later change has a higher revision, within a millisecond, too", async () => {
  const rows = await database.query<{ made: string }>(
    "select rowhouse.revision_of(nextval('rowhouse.revision'))::text as made from generate_series(1, 1000)",
  );
  const made = rows.map((row) => BigInt(row.made));
  expect(made).toEqual([...made].sort((one, other) => (one < other ? -1 : 1)));
  expect(new Set(made).size).toBe(1000);
});
