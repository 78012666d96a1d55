import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decisionOf } from "../../src/decisions/decision.ts";
import { probe } from "../../src/decisions/probe.ts";
import { Database } from "../../src/postgres/database.ts";
import type { TenantBinding } from "../../src/shared/model/tenant-binding.ts";
import { hideStatements } from "../../src/shared/postgres/hidden-statements.ts";
import { parseTenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { installGuard } from "../support/guard-control.ts";

/**
 * Tenant `acme` with a shared schema, and a schema that its record does not name, `other`, whose function and view tell what is
 * prepared. Where a case has a call, it is proved that it tells the name of a statement prepared on its connection.
 */
let server: TestDatabase;
let front: Database;
let session: Client;

const tenant = parseTenant(
  { id: "acme", schemas: { app: "acme" }, sharedSchemas: ["shared"] },
  { database: "main", databases: ["main"] },
);
const secret = "theirqzv";
const others = `
  create view other.names as select name from pg_prepared_statements;
  create function other.tell() returns text stable language sql as 'select string_agg(name, '','') from pg_prepared_statements';
  create function other.tell(text) returns text stable language sql as 'select other.tell()';
  create function other.noticed() returns trigger language plpgsql as 'begin insert into acme.told select other.tell(); return new; end'`;

beforeAll(async () => {
  server = await createDatabase("listing");
  await installGuard(server);
  await server.execute("grant execute on function pg_catalog.pg_prepared_statement() to public");
  front = new Database({ name: "main", url: server.url, applicationName: "test", observe: () => undefined });
  session = new Client({ connectionString: server.url });
  await session.connect();
  await session.query({ name: secret, text: "select 1" });
});
beforeEach(() =>
  server.execute(`
    drop schema if exists acme, shared, other, "odd;--" cascade;
    create schema acme; create schema shared; create schema other; create schema "odd;--";
    create table acme.told (name text);
    create table acme.item (id int primary key, name text);
    ${others};
    set check_function_bodies = off`),
);
afterAll(async () => {
  await session.end();
  await front.close();
  await server.drop();
});

/** Whether the tenant's statements are dropped for what its SQL could do. */
async function suspected(): Promise<boolean> {
  const probed = await probe(
    { together: (statements) => front.together(statements), control: true },
    tenant,
    true,
  );
  const rules = { pooling: true, presetVersion: "1", hostVersion: "1", guard: "writes" } as const;
  const { binding } = decisionOf(tenant, probed, rules, { unshareable: () => undefined });
  const { lists, prepares }: TenantBinding = JSON.parse(binding);
  return lists || prepares;
}

/** What `call` returns under the tenant's search path. */
async function told(call: string): Promise<string> {
  await session.query("begin; set local search_path = acme, shared, pg_temp");
  try {
    return JSON.stringify((await session.query(call)).rows ?? []);
  } finally {
    await session.query("commit");
  }
}

const sql = (body: string, more = "stable"): string =>
  `create function acme.f() returns text ${more} language sql as $f$${body}$f$`;
const plpgsql = (body: string, more = ""): string =>
  `create function acme.f() returns text language plpgsql ${more} as $f$declare answer text; c refcursor; begin ${body} return answer; end$f$`;
const xml = "query_to_xml('select name from pg_pre' || 'pared_statements', true, true, '')::text";
const call = "select acme.f()";

/** By the view and its function. */
const named: [way: string, make: string, call?: string][] = [
  ["a view", "create view acme.v as select name from pg_prepared_statements", "select * from acme.v"],
  [
    "a view of the function",
    "create view acme.v as select name from pg_prepared_statement()",
    "select * from acme.v",
  ],
  ["a function in SQL", sql("select string_agg(name, ',') from pg_prepared_statements"), call],
  [
    "a function in SQL standard form",
    "create function acme.f() returns text stable begin atomic; select string_agg(name, ',') from pg_prepared_statements; end",
    call,
  ],
  [
    "a function with capitals, quotes and comments",
    sql("select string_agg(name, ',') from PG_CATALOG /* . */ . /**/ \"pg_prepared_statements\""),
    call,
  ],
  [
    "a name with escapes",
    sql(String.raw`select string_agg(name, ',') from U&"pg\005fpre\0070ared_statements"`),
    call,
  ],
  [
    "a function in a shared schema",
    "create function shared.f() returns text language sql as 'select string_agg(name, '','') from pg_prepared_statements'",
    "select shared.f()",
  ],
  ["a materialized view", "create materialized view acme.v as select name from pg_prepared_statements"],
  [
    "a rule",
    "create rule r as on insert to acme.item do also insert into acme.told select name from pg_prepared_statements",
  ],
  ["a policy", "create policy p on acme.item using (name in (select name from pg_prepared_statements))"],
  [
    "another view of a session's memory",
    sql("select string_agg(ident, ',') from pg_backend_memory_contexts"),
  ],
];

/** By text that is run. */
const run: [way: string, make: string, call?: string][] = [
  [
    "execute in a function that is not volatile",
    plpgsql(
      "execute 'select string_agg(name, '','') from pg_pre' || 'pared_statements' into answer;",
      "stable",
    ),
    call,
  ],
  [
    "open for execute",
    plpgsql("open c for execute 'select name from pg_pre' || 'pared_statements'; fetch c into answer;"),
    call,
  ],
  ["a view that runs text", `create view acme.v as select ${xml}`, "select * from acme.v"],
  [
    "a default",
    `alter table acme.item add told text default ${xml}`,
    "insert into acme.item values (1) returning told",
  ],
  ["the default of a domain", `create domain acme.d as text default ${xml}`],
  ["the check of a domain", `create domain acme.d as text check (${xml} <> value)`],
  ["a check", `alter table acme.item add check (${xml} <> name)`],
  ["a policy", `create policy p on acme.item using (${xml} <> name)`],
  [
    "the condition of a trigger",
    `create function acme.t() returns trigger language plpgsql as 'begin return new; end';
     create trigger t before insert on acme.item for each row when (${xml} <> 'x') execute function acme.t()`,
  ],
  [
    "a trigger's function",
    `create function acme.t() returns trigger language plpgsql as $f$begin new.name := ${xml}; return new; end$f$;
     create trigger t before insert on acme.item for each row execute function acme.t()`,
    "insert into acme.item values (2) returning name",
  ],
  [
    "an argument's default",
    `create function acme.f(a text default ${xml}) returns text language sql as 'select a'`,
    call,
  ],
  [
    "a relation named by text",
    sql("select table_to_xml(('pg_pre' || 'pared_statements')::regclass, true, true, '')::text"),
    call,
  ],
  ["a cursor by name", plpgsql("answer := cursor_to_xml('c', 1, true, true, '');")],
  [
    "statistics of a text search",
    sql(
      "select string_agg(word, ',') from ts_stat('select to_tsvector(name) from pg_pre' || 'pared_statements')",
    ),
    call,
  ],
  ["an operator", "create operator acme.@@# (rightarg = bigint, function = pg_catalog.pg_advisory_unlock)"],
  [
    "an operator of a function that runs text",
    `create function acme.run(text) returns text language plpgsql as 'begin execute $1 into $1; return $1; end';
     create operator acme.@@# (rightarg = text, function = acme.run)`,
    "select @@# 'select string_agg(name, '','') from pg_prepared_statements'",
  ],
  [
    "an aggregate of a function that runs text",
    `create function acme.run(text, text) returns text language plpgsql as 'begin execute $2 into $1; return $1; end';
     create aggregate acme.all_of(text) (sfunc = acme.run, stype = text)`,
    "select all_of('select string_agg(name, '','') from pg_prepared_statements')",
  ],
  ["an anonymous block", plpgsql("do 'begin end';")],
  [
    "a function that it creates",
    plpgsql("create function pg_temp.g() returns text language sql as 'select 1';"),
  ],
  ["a prepared statement", plpgsql("prepare mine as select 1;")],
  [
    "another language",
    "create language elsewise handler plpgsql_call_handler; create function acme.f() returns text language elsewise as ''",
  ],
  [
    "an alias of PostgreSQL's own function",
    "create function acme.f() returns setof record language internal as 'pg_prepared_statement'",
  ],
  [
    "the extension tablefunc",
    "create extension tablefunc schema other; create view acme.v as select * from other.crosstab('select 1') as t(a text, b text)",
  ],
  [
    "the extension tablefunc in the path",
    `create extension tablefunc schema shared; ${sql("select 'x' from crosstab('select 1') as t(a text, b text)")}`,
  ],
];

/** By what is in no schema of the tenant. */
const elsewhere: [way: string, make: string, call?: string][] = [
  ["a view of a view", "create view acme.v as select * from other.names", "select * from acme.v"],
  ["a view that calls a function", "create view acme.v as select other.tell()", "select * from acme.v"],
  ["a function in SQL", sql("select other.tell()"), call],
  ["a function in PL/pgSQL, with capitals and comments", plpgsql("answer := OTHER/**/./**/tell();"), call],
  [
    "a quoted schema",
    `${sql('select "odd;--".tell()')}; create function "odd;--".tell() returns text language sql as 'select other.tell()'`,
    call,
  ],
  ["a function in SQL standard form", "create function acme.f() returns text return other.tell()", call],
  ["a path of the function", sql("select tell()", "stable set search_path = other, pg_catalog"), call],
  ["a path that it sets", plpgsql("set local search_path = other; answer := tell();"), call],
  ["a path that it sets by another name", plpgsql("set local schema 'other'; answer := tell();"), call],
  [
    "a path that it computes",
    plpgsql("perform set_config('search' || '_path', 'other', true); answer := tell();"),
    call,
  ],
  [
    "a default",
    "alter table acme.item add told text default other.tell()",
    "insert into acme.item values (3) returning told",
  ],
  ["a policy", "create policy p on acme.item using (other.tell() <> name)"],
  [
    "a trigger",
    "create trigger t after insert on acme.item for each row execute function other.noticed()",
    "with i as (insert into acme.item values (4)) select 1; ",
  ],
  [
    "a cast",
    "create type acme.two as (a text); create function other.casts(acme.two) returns text stable language sql as 'select other.tell()'; create cast (acme.two as text) with function other.casts(acme.two)",
    "select row('a')::acme.two::text",
  ],
  [
    "an operator",
    "create operator acme.@@@ (rightarg = text, function = other.tell)",
    "select @@@ 'x'::text",
  ],
  [
    "an aggregate",
    "create function other.add(text, text) returns text language sql as 'select other.tell()'; create aggregate acme.all_of(text) (sfunc = other.add, stype = text)",
    "select all_of('x'::text)",
  ],
  [
    "a type of a column",
    "create domain other.d as text check (other.tell() <> value); alter table acme.item add odd other.d",
  ],
  [
    "a partition",
    "create table acme.parts (id int) partition by list (id); create table other.part partition of acme.parts default; create trigger t after insert on other.part for each row execute function other.noticed()",
  ],
  [
    "a child",
    "create table other.child () inherits (acme.item); create trigger t after update on other.child for each row execute function other.noticed()",
  ],
  [
    "a foreign key that passes changes on",
    "create table other.child (item int references acme.item on delete cascade); create trigger t after delete on other.child for each row execute function other.noticed()",
  ],
  [
    "a foreign key of a shared table",
    "create table shared.kind (id int primary key); create table other.child (kind int references shared.kind on update set null); create trigger t after update on other.child for each row execute function other.noticed()",
  ],
  [
    "a table behind a foreign key",
    "create table other.parent (id int primary key); alter table acme.item add parent int references other.parent",
  ],
  ["a function that finds a type by its text", sql("select pg_input_is_valid('x', 'oth' || 'er.d')::text")],
];

describe.each([
  ["names them", named],
  ["runs text", run],
  ["leads to what no schema of the tenant holds", elsewhere],
])("SQL that could list prepared statements is recognised, where it %s:", (_, cases) => {
  it.each(cases)("%s", async (_way, make, calling) => {
    await server.execute(make);
    try {
      expect(await suspected()).toBe(true);
      if (calling === undefined) return;
      expect((await told(calling)) + (await told("select name from acme.told"))).toContain(secret);
    } finally {
      await server.execute(
        "drop extension if exists tablefunc cascade; drop language if exists elsewise cascade",
      );
    }
  });
});

describe("a tenant is not suspected for", () => {
  it.each<[what: string, make: string]>([
    ["what every case above begins with", "select 1"],
    [
      "tables with keys, enums, domains, indexes, children and partitions of its own",
      `create type acme.mood as enum ('calm'); create domain acme.email as text check (value ~ '@') default 'a@b';
       create table acme.sub (item int references acme.item on delete cascade, mood acme.mood default 'calm', email acme.email, n int generated always as identity);
       create index on acme.sub (lower(email)); create table acme.child () inherits (acme.sub);
       create table acme.parts (id int) partition by list (id); create table acme.part partition of acme.parts default;
       create table shared.country (id int primary key); alter table acme.sub add country int references shared.country`,
    ],
    [
      "views, policies and triggers with fixed SQL",
      `create view acme.v as select i.id, upper(i.name) as name from acme.item i;
       alter table acme.item enable row level security; create policy p on acme.item using (name = current_setting('jwt.claims.name', true));
       create function acme.touch() returns trigger language plpgsql as 'begin new.name := now()::text; return new; end';
       create trigger t before update on acme.item for each row execute function acme.touch()`,
    ],
    [
      "functions that name its own and PostgreSQL's schemas, and columns called like another schema",
      `create function acme.f(other text) returns text language plpgsql security definer set search_path = pg_catalog, acme, pg_temp as $f$
         declare o acme.item; begin select * into o from acme.item i where i.name = other; perform pg_catalog.now(); return o.name; end $f$`,
    ],
    [
      "an extension's functions",
      "create extension citext schema shared; alter table acme.item add mail shared.citext; create index on acme.item (mail)",
    ],
    [
      "an extension's functions in a schema that its record does not name",
      "create schema extensions; create extension citext schema extensions; alter table acme.item add mail extensions.citext; create index on acme.item (mail)",
    ],
    ["a view of it elsewhere", "create view other.v as select * from acme.item"],
    ["a key to it that passes nothing on", "create table other.child (item int references acme.item)"],
  ])("%s", async (_, make) => {
    await server.execute(make);
    try {
      expect(await suspected()).toBe(false);
    } finally {
      await server.execute(
        "drop extension if exists citext cascade; drop schema if exists extensions cascade",
      );
    }
  });
});

it("where names are hidden it is not looked for, and so a tenant counts as one that could", async () => {
  const role = `${server.name}_role`;
  await server.execute(`${hideStatements}; create role ${role} login password 'word'; grant usage on schema acme, rowhouse to ${role};
    grant select on all tables in schema rowhouse to ${role}; grant execute on all functions in schema rowhouse to ${role}`);
  const superuser = front;
  front = new Database({
    name: "main",
    url: server.urlAs(role, "word"),
    applicationName: "test",
    observe: () => undefined,
  });
  try {
    expect(await suspected()).toBe(true);
  } finally {
    await front.close();
    front = superuser;
    await server.execute(
      `grant execute on function pg_catalog.pg_prepared_statement() to public; drop owned by ${role}; drop role ${role}`,
    );
  }
});
