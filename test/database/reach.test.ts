import { afterAll, beforeAll, beforeEach, describe, expect, inject, it, test } from "vitest";
import { builtIn, parseReaching, reachQuery } from "../../src/role-safety/reach.ts";
import { probeSettings } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let role: string;
beforeAll(async () => {
  server = await createDatabase("reach");
  role = `${server.name}_role`;
  await server.execute(`create role ${role}; create schema extensions`);
});
beforeEach(async () => {
  await server.execute(`
    drop schema if exists acme cascade; drop schema if exists shared cascade;
    create schema acme; create schema shared;
    create table acme.item (id int primary key, note text);
    set search_path = acme`);
});
afterAll(async () => {
  await server.execute(`drop owned by ${role}; drop role ${role}`);
  await server.drop();
});

async function reaching(schemas = ["acme"]) {
  const tenant = {
    schemas: schemas.map((physical) => ({ logical: physical, physical })),
    sharedSchemas: ["shared"],
    roles: { anonymous: role, authenticated: null, others: [] },
  };
  await server.execute(`begin; ${probeSettings}`);
  try {
    const { text, values } = reachQuery(tenant);
    return parseReaching(await server.query(text, values));
  } finally {
    await server.execute("rollback");
  }
}

/** Without the fields that are the same in all. */
const found = async (): Promise<string[]> =>
  (await reaching()).map(({ kind, name, by }) => `${kind} ${name}: ${by}`);

const become = "set_config('role', 'globex', true)";

describe("SQL that calls a function which reaches beyond its tenant is found in", () => {
  it.each<[what: string, sql: string, says: string]>([
    [
      "a view",
      `create view leak as select ${become}, query_to_xml('select 1', true, true, '')`,
      "view leak: query_to_xml, set_config",
    ],
    [
      "a view, by a row in a subquery",
      `create view leak as select (select max(x) from (values (${become})) v (x)) from item`,
      "view leak: set_config",
    ],
    [
      "a view of what is prepared on the connection",
      "create view leak as select name from pg_prepared_statements",
      "view leak: pg_prepared_statements",
    ],
    [
      "a view of pg_settings, which may be updated",
      "create view leak as select name, setting from pg_settings",
      "view leak: pg_settings",
    ],
    [
      "a materialized view",
      "create materialized view leak as select pg_try_advisory_lock(1)",
      "materialized view leak: pg_try_advisory_lock",
    ],
    [
      "a rule's action",
      `create rule told as on insert to item do also select ${become}`,
      "rule item.told: set_config",
    ],
    [
      "a rule's condition",
      `create rule told as on insert to item where ${become} = 'x' do also delete from item`,
      "rule item.told: set_config",
    ],
    [
      "a rule that updates pg_settings",
      "create rule told as on insert to item do also update pg_settings set setting = 'globex' where name = 'role'",
      "rule item.told: pg_settings",
    ],
    ["a default", `alter table item alter note set default ${become}`, "column item.note: set_config"],
    [
      "a view's default",
      `create view leak as select * from item; alter view leak alter note set default ${become}`,
      "column leak.note: set_config",
    ],
    [
      "a check",
      `alter table item add constraint odd check (${become} is not null)`,
      "check item.odd: set_config",
    ],
    ["a policy", `create policy own on item using (${become} is not null)`, "policy item.own: set_config"],
    [
      "a policy's check",
      `create policy own on item with check (${become} is not null)`,
      "policy item.own: set_config",
    ],
    [
      "a trigger's condition",
      `create function told() returns trigger language plpgsql as 'begin return new; end';
      create trigger each before insert on item for each row when (${become} is not null) execute function told()`,
      "trigger item.each: set_config",
    ],
    ["a domain's default", `create domain label as text default ${become}`, "domain label: set_config"],
    [
      "a domain's check",
      `create domain label as text check (${become} is not null)`,
      "domain label: set_config",
    ],
    [
      "a body in SQL standard form",
      `create function leak() returns text begin atomic select ${become}; end`,
      "function leak: set_config",
    ],
    [
      "a procedure",
      `create procedure leak() begin atomic select ${become}; end`,
      "procedure leak: set_config",
    ],
    [
      "an argument's default",
      `create function leak(x text default ${become}) returns text return x`,
      "function leak: set_config",
    ],
    [
      "an aggregate",
      "create aggregate leak(text, bool) (sfunc = set_config, stype = text, initcond = 'role')",
      "aggregate leak: set_config",
    ],
    [
      "an operator",
      "create operator acme.<~ (leftarg = tsquery, rightarg = text, function = ts_rewrite)",
      "operator <~: ts_rewrite",
    ],
    ["an odd name", `create view "le ak" as select ${become}`, 'view "le ak": set_config'],
  ])("%s", async (_, sql, says) => {
    await server.execute(sql);
    expect(await found()).toEqual([says]);
  });

  it("an operator, and in a view that uses it", async () => {
    await server.execute(`create operator shared.<~ (leftarg = tsquery, rightarg = text, function = ts_rewrite);
      create view leak as select note from item where 'a'::tsquery operator(shared.<~) note = 'b'`);
    expect(await found()).toEqual(["view leak: ts_rewrite", "operator <~: ts_rewrite"]);
    await server.execute("drop schema shared cascade; create schema shared");
  });
});

const bodies = (...texts: string[]): [string][] => texts.map((body) => [body]);

describe("a body that could change the role or run dynamic SQL is found:", () => {
  const plpgsql = (body: string): Promise<void> =>
    server.execute(`create function leak() returns void language plpgsql as $body$ ${body} $body$`);

  it.each([
    ["begin execute 'select 1'; end", "execute"],
    ["begin if true then EXECUTE 'select 1'; end if; end", "execute"],
    ["declare r record; begin for r in execute 'select 1' loop end loop; end", "execute"],
    ["declare c refcursor; begin open c for /* */ execute 'select 1'; end", "execute"],
    ["begin set role globex; end", "set role"],
    ["begin -- update item\n set local role to globex; end", "set role"],
    ["begin /* a /* nested */ comment */ set /* */ session -- x\r authorization default; end", "set role"],
    ["begin SET \"Role\" = 'globex'; end", "set role"],
    ["begin set session session authorization default; end", "set role"],
    ["begin set session_authorization to default; end", "set role"],
    ["begin reset role; end", "set role"],
    ["begin begin null; exception when others then reset session authorization; end; end", "set role"],
    ['begin set u&"\\0072ole" to globex; end', "an escaped name"],
    [`begin perform u&"set\\005fconfig"('role', 'globex', true); end`, "an escaped name"],
    ["begin perform Set_Config('role', 'globex', true); end", "set_config"],
    [`begin perform pg_catalog . "set_config" ('role', 'globex', true); end`, "set_config"],
    ["begin do 'begin end'; end", "do"],
    ["begin do /* */ language plpgsql $$ begin end $$; end", "do"],
    ["begin do E'begin end'; end", "do"],
    [
      "begin create or replace function pg_temp.f() returns int language sql as 'select 1'; end",
      "a function that it makes or alters",
    ],
    ["begin alter function acme.leak() set role = globex; end", "a function that it makes or alters"],
    ["begin update pg_settings set setting = 'globex' where name = 'role'; end", "pg_settings"],
    ["begin perform dblink_exec('dbname=x', 'select 1'); end", "dblink_exec"],
    ["begin perform * from crosstab2('select 1') ; end", "crosstab2"],
  ])("%j", async (body, by) => {
    await plpgsql(body);
    expect(await found()).toEqual([`function leak: ${by}`]);
  });

  it.each(
    bodies(
      "begin update item set note = 'set role'; end",
      "declare role text; begin update item as set set note = role; end",
      "begin insert into item values (1) on conflict (id) do update set note = 'x'; end",
      "begin insert into item values (1) on conflict do nothing; end",
      "begin merge into item i using item j on i.id = j.id when matched then update set note = 'x' when not matched then do nothing; end",
      "begin set local lock_timeout = '1s'; reset lock_timeout; end",
      "begin perform nextval('x'); -- to do: execute this as another role\nend",
      "begin grant execute on function acme.leak() to public; end",
      "begin create temp table t (id int); end",
      "begin perform ts_rank('a', 'b'), current_setting('role'); end",
    ),
  )("%j is not flagged", async (body) => {
    await plpgsql(body);
    expect(await found()).toEqual([]);
  });

  it("in SQL", async () => {
    await server.execute(`create function leak() returns void language sql as $$ set role globex; select $$;
      create procedure told() language sql as 'select 1; reset role'`);
    expect(await found()).toEqual(["function leak: set role", "procedure told: set role"]);
  });

  it("in a language that is not examined", async () => {
    await server.execute(
      "create function leak(text, text, bool) returns text language internal as 'set_config_by_name'",
    );
    expect(await found()).toEqual(["function leak: a body in internal"]);
  });

  it("by the settings that it runs with", async () => {
    await server.execute(`create function leak() returns int language sql set role = ${role} as 'select 1';
      create function led() returns int language sql set search_path = acme as 'select 1'`);
    expect(await found()).toEqual(["function leak: role in its settings"]);
  });

  it("by any of PostgreSQL's functions on the list", async () => {
    for (const [index, name] of builtIn.entries()) {
      await server.execute(
        `create function f${index}() returns void language plpgsql as 'begin perform ${name}(1); end'`,
      );
    }
    expect(new Set((await reaching()).map(({ by }) => by))).toEqual(new Set(builtIn));
  });
});

describe("extensions are trusted like PostgreSQL itself", () => {
  it("except SQL that calls one which runs a string, and dblink if a role of the tenant may execute it", async () => {
    await server.execute(`create extension tablefunc schema shared; create extension dblink schema extensions;
      create view leak as select * from shared.crosstab('select 1, 2, 3') as (a int, b int, c int);
      create view told as select * from shared.connectby('item', 'id', 'note', '1', 0) as (a int, b int, c int)`);
    expect(await found()).toEqual(["view leak: crosstab", "view told: connectby"]);
    await server.execute(`grant usage on schema extensions to ${role}`);
    expect((await reaching()).filter(({ kind }) => kind === "extension")).toEqual([
      {
        kind: "extension",
        schema: "extensions",
        name: "dblink",
        by: `functions that role ${role} may execute`,
        shared: false,
      },
    ]);
    await server.execute("grant usage on schema extensions to public");
    expect((await reaching()).filter(({ kind }) => kind === "extension")).toEqual([
      {
        kind: "extension",
        schema: "extensions",
        name: "dblink",
        by: "functions that everyone may execute",
        shared: true,
      },
    ]);
    await server.execute("drop extension dblink; drop extension tablefunc cascade");
  });
});

it("a function that its owner, no superuser, added to an extension is examined like any other", async () => {
  await server.execute(`create function leak() returns text language sql as $$ select ${become} $$;
    alter extension plpgsql add function leak()`);
  try {
    expect(await found()).toEqual([]);
    await server.execute(`grant all on schema acme to ${role}; alter function leak() owner to ${role}`);
    expect(await found()).toHaveLength(1);
  } finally {
    await server.execute("alter extension plpgsql drop function acme.leak()");
  }
});

it("findings of a shared schema are marked as shared, and other schemas are not examined", async () => {
  await server.execute(
    `create view shared.leak as select ${become}; create schema globex; create view globex.leak as select ${become}`,
  );
  expect(await reaching()).toEqual([
    { kind: "view", schema: "shared", name: "leak", by: "set_config", shared: true },
  ]);
  expect(await reaching(["globex"])).toHaveLength(2);
  await server.execute("drop schema globex cascade");
});

describe("the list of PostgreSQL's functions", () => {
  const named = "pronamespace = 'pg_catalog'::regnamespace and proname = any ($1)";

  test("has only functions that some version has, and none that an index or a generated column could call", async () => {
    const rows = await server.query(`select proname, provolatile from pg_proc where ${named}`, [
      [...builtIn],
    ]);
    const elsewhere = inject("postgresMajor") < 17 ? ["pg_ls_summariesdir"] : ["pg_read_file_old"];
    expect(new Set([...rows.map(({ proname }) => proname), ...elsewhere])).toEqual(new Set(builtIn));
    expect(
      rows.filter(({ provolatile, proname }) => provolatile === "i" && proname !== "ts_rewrite"),
    ).toEqual([]);
  });

  test("is complete for its kinds, other names of the same code included", async () => {
    const rows = await server.query(
      `select oid::regprocedure::text as missing from pg_proc where pronamespace = 'pg_catalog'::regnamespace and not (${named})
        and (proname ~ '(_to_xml|_to_xmlschema|_and_xmlschema)$' or proname ~ '^(lo_|pg_read_|pg_ls_|pg_logical_slot_(get|peek))' or proname ~ '_advisory_'
          or prosrc in (select prosrc from pg_proc where ${named} and (proname <> 'ts_rewrite' or pronargs = 2)))`,
      [[...builtIn]],
    );
    expect(rows).toEqual([]);
  });

  test("is called by no view of PostgreSQL's that everyone may use, except two that are looked for", async () => {
    const rows = await server.query(
      `select distinct ev_class::regclass::text as name from pg_rewrite r join pg_class c on c.oid = r.ev_class
        join pg_proc p on p.pronamespace = 'pg_catalog'::regnamespace and p.proname = any ($1) and (p.proname <> 'ts_rewrite' or pronargs = 2)
          and strpos(r.ev_action::text, 'funcid ' || p.oid || ' ') > 0
        where c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
          and exists (select from aclexplode(relacl) where grantee = 0) order by 1`,
      [[...builtIn]],
    );
    expect(rows).toEqual([{ name: "pg_prepared_statements" }, { name: "pg_settings" }]);
  });
});
