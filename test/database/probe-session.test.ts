import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { probe } from "../../src/decisions/probe.ts";
import { Database } from "../../src/postgres/database.ts";
import { shapeQuery } from "../../src/shape/shape.ts";
import { parseTenant, type Tenant } from "../../src/tenants/tenant.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";

let server: TestDatabase;
let front: Database;

const tenantOf = (id: string): Tenant =>
  parseTenant({ id, schemas: { app: id } }, { database: "main", databases: ["main"] });

const asked = (tenant: Tenant) =>
  probe({ together: (statements) => front.together(statements), control: false }, tenant, false);

/** A view whose rows become an enum: a build reads them, and so does a probe. `does` runs when they are read. */
const enumView = (schema: string, does: string): string => `
  create schema ${schema};
  create function ${schema}.trick() returns text language plpgsql as $trick$ begin ${does}; return 'a'; end $trick$;
  create view ${schema}.kinds as select ${schema}.trick() as kind;
  comment on view ${schema}.kinds is E'@enum\\n@primaryKey kind'`;

beforeAll(async () => {
  server = await createDatabase("probe_session");
  front = new Database({
    name: "main",
    url: server.url,
    applicationName: "test",
    observe: () => undefined,
    maxConnections: 1,
  });
  await server.execute("create schema plain; create table plain.thing (id int primary key)");
});
afterAll(async () => {
  await front.close();
  await server.drop();
});

const session = `select session_user = current_user as itself, current_setting('search_path') as path,
  current_setting('enable_seqscan') as scans, current_setting('plan_cache_mode') as plans, current_setting('lock_timeout') as patience,
  current_setting('transaction_read_only') as read_only, pg_catalog.to_regclass('taken') is null as bare,
  (select pg_catalog.count(*)::int from pg_catalog.pg_locks where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid()) as locks`;

test.each([
  ["that a probe sets", "null"],
  ["that a function behind a tenant's enum sets", "TRICKS"],
  ["that such a function sets before it fails", "TRICKS; raise exception 'enough'"],
])(
  "nothing %s stays in the session, which later also probes and lists other tenants",
  async (_case, does) => {
    const role = `${server.name}_sly`;
    const schema = `sly_${createHash("sha1").update(does).digest("hex").slice(0, 6)}`;
    await server.execute(
      `do $$ begin if pg_catalog.to_regrole('${role}') is null then create role ${role}; end if; end $$`,
    );
    await server.execute(
      enumView(
        schema,
        does.replace("null", "perform 1").replace(
          "TRICKS",
          `perform pg_catalog.set_config('role', '${role}', false), pg_catalog.set_config('search_path', '${schema}', false),
            pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', false), pg_catalog.pg_advisory_lock(7)`,
        ),
      ),
    );
    const { rows: before } = await front.query(session);
    const plain = await asked(tenantOf("plain"));
    const sly = await asked(tenantOf(schema)).catch((error: unknown) => error);
    if (does.includes("raise")) expect(sly).toMatchObject({ code: "P0001" });
    else expect(sly).toMatchObject({ shape: { enumTables: 1 } });
    expect((await front.query(session)).rows).toEqual(before);
    expect(await asked(tenantOf("plain"))).toEqual(plain);
    expect(before).toMatchObject([{ itself: true, locks: 0, scans: "on", plans: "auto" }]);
  },
);

test("a function that knows a probe's statement cannot replace it with one of its own", async () => {
  const { text } = shapeQuery(tenantOf("plain"), { revisions: false });
  const name = createHash("sha1").update(text).digest("base64url");
  const answer = `select 'forged' as shape, null::text as canonical, $1 || $2 || $3 || array[$4, $5] || $6 as missing, '{}'::text[] as hidden, 0 as enum_tables, false as prepares, false as notifies, '[]'::json as enum_faults, '{}'::json as revisions`;
  await server.execute(
    enumView(
      "forger",
      `begin execute 'deallocate "${name}"'; exception when others then null; end;
      execute $sql$ prepare "${name}" (text[], text[], text[], text, text, text[]) as ${answer} $sql$`,
    ),
  );
  const plain = await asked(tenantOf("plain"));
  expect(await asked(tenantOf("forger"))).toMatchObject({ shape: { enumTables: 1 } });
  // The forgery was prepared; but the probe does not use it.
  expect((await front.query("select from pg_prepared_statements where name = $1", [name])).rows).toHaveLength(
    1,
  );
  expect(await asked(tenantOf("plain"))).toEqual(plain);
});

describe("a function that lists what is prepared where it runs", () => {
  const forging = `declare s record; begin for s in select name from pg_prepared_statements where not from_sql loop
      execute format('deallocate %I', s.name);
      execute format('prepare %I as select 1/0 as forged', s.name);
    end loop; end`;

  it.each([
    ["puts nothing in its place that the next tenant's probe would run", "forger1", forging],
    ["nor where it fails behind that", "forger2", `${forging}; raise exception 'enough'`],
    [
      "nor by taking all away, which is not taken for a pooler's doing",
      "forger3",
      "execute 'deallocate all'",
    ],
  ])("%s", async (_law, schema, does) => {
    await server.execute(enumView(schema, does));
    const plain = await asked(tenantOf("plain"));
    const sly = await asked(tenantOf(schema)).catch((error: unknown) => error);
    expect(sly).toMatchObject(does.includes("raise") ? { code: "P0001" } : { shape: { enumTables: 1 } });
    for (const _ of [1, 2]) expect(await asked(tenantOf("plain"))).toEqual(plain);
    expect(
      (await front.query("select from pg_prepared_statements where statement ~ '1/0 as forged'")).rows,
    ).toEqual([]);
  });
});
