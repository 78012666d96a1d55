import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { countOf } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, type TenantDatabase } from "../support/host-tenants.ts";

/** The codes that a lost connection, a guard, a pool or a read-only server would report. */
const codes = [
  ...["08000", "08001", "08003", "08004", "08006", "08P01"],
  ...["57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05"],
  ...["25006", "25P02", "25P03", "25P04", "53300", "RW409", "40001", "22004", "55P03"],
];
const words = [
  "Connection terminated",
  "Connection terminated unexpectedly",
  "Client was closed and is not queryable",
  "Query read timeout",
  "timeout expired",
];

const functions = `
create function raise_in_read(code text, words text) returns text language plpgsql stable as
  $$ begin raise exception '%', words using errcode = code; end $$;
create function raise_in_write(code text, words text) returns text language plpgsql volatile as
  $$ begin insert into item (label) values ('canary_ada raised'); raise exception '%', words using errcode = code; end $$;
create function raise_at_commit() returns trigger language plpgsql as
  $$ begin raise exception '%', new.words using errcode = new.code; end $$;
create table late (id integer generated always as identity primary key, code text not null, words text not null);
create constraint trigger late after insert on late deferrable initially deferred
  for each row execute function raise_at_commit();
grant select, insert on late to :role;
create foreign table far (size integer) server away;
grant select, insert on far to :role;
create function far_count() returns integer language plpgsql stable as
  $$ begin return (select count(*) from far); end $$;
create function far_write() returns integer language plpgsql volatile as
  $$ begin insert into item (label) values ('canary_ada raised'); return (select count(*) from far); end $$;
create function interrupted() returns integer language plpgsql volatile security definer as $$
begin
  insert into item (label) values ('canary_ada raised');
  perform pg_cancel_backend(pg_backend_pid());
  perform pg_sleep(30);
  return 1;
end $$;
`;

let database: TenantDatabase;
let host: TestHost;

beforeAll(async () => {
  database = await createTenantDatabase("raised");
  // Nobody listens at that port.
  await database.execute(`
    create extension postgres_fdw;
    create server away foreign data wrapper postgres_fdw options (host '127.0.0.1', port '1');
    create user mapping for public server away options (user 'x', password 'x')`);
  const tenants = [await database.tenant("ada", functions)];
  host = await TestHost.start({
    config: {
      databases: { main: { url: database.hostUrl, install: false, poolSize: 2, poolReserve: 0 } },
      tenants,
      guard: "all",
    },
    connected: database.connected,
  });
});
afterAll(async () => {
  await host.stop();
  await database.drop();
});

const quoted = (text: string): string => JSON.stringify(text);
const cells = async (): Promise<unknown[]> =>
  (
    await database.query(
      "select pid from pg_stat_activity where datname = current_database() and application_name ~ ':c[0-9]+$'",
    )
  ).map(({ pid }) => pid);
/** An ordinary answer with a GraphQL error that carries PostgreSQL's message. */
const plain = (path: string, message: string, code?: string) => ({
  status: 200,
  errors: [
    expect.objectContaining({
      message,
      path: [path],
      ...(code === undefined ? {} : { extensions: expect.objectContaining({ code }) }),
    }),
  ],
});

describe.each([
  ...codes.map((code): [string, string] => [code, `said ${code}`]),
  ...words.map((text): [string, string] => ["P0001", text]),
])("an error %s, %s, that a tenant's function raises", (code, said) => {
  const args = `code: ${quoted(code)}, words: ${quoted(said)}`;

  it("in a read fails only its field, and the others are answered", async () => {
    const answer = await host.graphql(
      "ada",
      `{ raiseInRead(${args}) item: itemByRowId(rowId: 1) { rowId } }`,
    );
    expect(answer).toMatchObject(plain("raiseInRead", said, code));
    expect(answer.data).toMatchObject({ raiseInRead: null, item: { rowId: 1 } });
  });

  it("in a mutation fails only that mutation, which is rolled back and not reported as possibly committed", async () => {
    const answer = await host.graphql("ada", `mutation { raiseInWrite(input: { ${args} }) { result } }`);
    expect(answer).toMatchObject(plain("raiseInWrite", said, code));
    expect(await countOf(database, "ada", "canary_ada raised")).toBe(0);
  });

  it("at the commit likewise, and the mutation before it is kept", async () => {
    const label = `canary_ada before ${code} ${said}`;
    const answer = await host.graphql(
      "ada",
      `mutation {
        before: createItem(input: { item: { label: ${quoted(label)} } }) { item { label } }
        createLate(input: { late: { ${args} } }) { late { rowId } }
      }`,
    );
    expect(answer).toMatchObject(plain("createLate", said, code));
    expect(answer.data).toMatchObject({ before: { item: { label } } });
    expect(await countOf(database, "ada", label)).toBe(1);
  });
});

it("no such error makes the host discard a connection", async () => {
  await host.data("ada", "{ itemByRowId(rowId: 1) { rowId } }");
  const before = await cells();
  for (const code of codes) {
    const args = `code: ${quoted(code)}, words: "said"`;
    await host.graphql("ada", `{ raiseInRead(${args}) }`);
    await host.graphql("ada", `mutation { raiseInWrite(input: { ${args} }) { result } }`);
  }
  expect(await cells()).toEqual(before);
  expect(await host.metric("guard_failures_total")).toBe(0);
  expect(host.process.linesOf("database.lost")).toEqual([]);
});

describe("a foreign server that is down", () => {
  it("fails only the field that queries it", async () => {
    for (const field of ["farCount", "allFars { nodes { size } }"]) {
      const answer = await host.graphql("ada", `{ ${field} item: itemByRowId(rowId: 1) { rowId } }`);
      expect(answer).toMatchObject({
        status: 200,
        errors: [expect.objectContaining({ extensions: expect.objectContaining({ code: "08001" }) })],
      });
      expect(answer.data).toMatchObject({ item: { rowId: 1 } });
    }
  });

  it("fails only the mutation that queries it, which is rolled back", async () => {
    const answer = await host.graphql("ada", "mutation { farWrite(input: {}) { result } }");
    expect(answer).toMatchObject(
      plain("farWrite", expect.stringMatching(/could not connect/) as never, "08001"),
    );
    expect(await countOf(database, "ada", "canary_ada raised")).toBe(0);
  });
});

it("a statement that PostgreSQL itself interrupts is distinguished from a function that raises the same code", async () => {
  const answer = await host.graphql("ada", "mutation { interrupted(input: {}) { result } }");
  expect(answer).toMatchObject(
    plain("interrupted", "The statement exceeded its time limit.", "STATEMENT_TIMEOUT"),
  );
  expect(await countOf(database, "ada", "canary_ada raised")).toBe(0);
});

describe("a connection that is really lost", () => {
  it("during a read goes unnoticed, and during a write fails the request as DATABASE_UNREACHABLE", async () => {
    const killed = host.graphql("ada", "{ slow(seconds: 3) }");
    await database.asleep();
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    expect(await killed).toMatchObject({ status: 200, errors: undefined });

    await database.change(
      "ada",
      `create function slow_write() returns integer language plpgsql volatile as
        $$ begin insert into item (label) values ('canary_ada lost'); perform pg_sleep(30); return 1; end $$`,
    );
    await until(
      async () =>
        (await host.graphql("ada", '{ __type(name: "SlowWriteInput") { name } }')).data.__type !== null,
    );
    const lost = host.graphql("ada", "mutation { slowWrite(input: {}) { result } }");
    await database.asleep();
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    // It was sent together with its commit, so its outcome is unknown.
    const answer = await lost;
    expect([200, 503]).toContain(answer.status);
    expect(answer.code).toBe("DATABASE_UNREACHABLE");
    expect(await countOf(database, "ada", "canary_ada lost")).toBe(0);
  });
});

async function until(condition: () => Promise<boolean>): Promise<void> {
  await expect.poll(condition, { timeout: 20_000, interval: 100 }).toBe(true);
}
