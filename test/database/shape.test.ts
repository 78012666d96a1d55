import { Client } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseShape, type ShapeInput, type ShapeOptions, shapeQuery } from "../../src/shape/shape.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import {
  buildApi,
  inTenant,
  probe,
  sharedSql,
  tenantOf,
  tenantSql,
  uniqueTenant,
} from "../support/shape-tenant.ts";

const acme = uniqueTenant("acme");
const globex = uniqueTenant("globex");

let database: TestDatabase;
let client: Client;

beforeAll(async () => {
  database = await createDatabase("shape");
  client = new Client({ connectionString: database.url });
  await client.connect();
  await client.query("begin");
  await client.query(sharedSql);
  await client.query(inTenant(acme, tenantSql));
  await client.query("savepoint fresh");
});

beforeEach(async () => {
  await client.query("rollback to savepoint fresh");
});

afterAll(async () => {
  await client.end();
  await database.drop();
});

async function ask(input: ShapeInput, options: ShapeOptions = {}) {
  return parseShape((await client.query(shapeQuery(input, options))).rows[0]);
}

const shapeOf = async (tenant: string): Promise<string> => (await probe(client, tenant)).shape;

describe("one shape for many tenants", () => {
  it("two tenants made by one script, with their own roles and owners, have the same shape, API and SQL", async () => {
    await client.query(inTenant(globex, tenantSql));
    expect(await probe(client, globex)).toMatchObject({
      canonicalText: (await probe(client, acme)).canonicalText,
    });
    expect(await shapeOf(globex)).toBe(await shapeOf(acme));
    expect(await buildApi(client, globex)).toEqual(await buildApi(client, acme));
  });

  it("renaming the physical schemas alone changes nothing", async () => {
    const before = await shapeOf(acme);
    for (const schema of ["app", "crm"]) {
      await client.query(inTenant(acme, `alter schema :${schema} rename to "Renamed ${schema}.""x"`));
    }
    const renamed = {
      ...tenantOf(acme),
      schemas: [
        { logical: "app", physical: 'Renamed app."x' },
        { logical: "crm", physical: 'Renamed crm."x' },
      ],
    };
    await client.query(inTenant(acme, "set local role :host"));
    expect(await ask(renamed)).toMatchObject({ shape: before, missing: [], hidden: [] });
  });

  it("the canonical text contains no physical name, no tenant's role and no oid", async () => {
    const { canonicalText } = await probe(client, acme);
    expect(canonicalText).not.toContain(acme);
    expect(canonicalText).not.toMatch(/#\d|\b(1[6-9]|[2-9]\d)\d{3}\b/);
  });

  it("DDL in other schemas changes nothing, even for objects of the same names", async () => {
    const before = await shapeOf(acme);
    await client.query(inTenant(globex, tenantSql));
    await client.query(inTenant(globex, "alter table :app.orders add column more text"));
    await client.query("create table public.orders (id int primary key)");
    expect(await shapeOf(acme)).toBe(before);
    expect(await shapeOf(globex)).not.toBe(before);
  });

  it("a shared table's grants to other tenants' roles change nothing; those to the tenant's own do", async () => {
    await client.query(inTenant(globex, tenantSql));
    const before = await shapeOf(acme);
    await client.query(
      inTenant(
        globex,
        "grant select on public.regions to :anonymous; grant usage on schema public to :anonymous",
      ),
    );
    await client.query(inTenant(globex, "create policy mine on public.regions to :user using (true)"));
    expect(await shapeOf(acme)).toBe(before);
    expect(await shapeOf(globex)).not.toBe(before);
    await client.query(
      inTenant(
        acme,
        "grant select on public.regions to :anonymous; grant usage on schema public to :anonymous",
      ),
    );
    expect(await shapeOf(globex)).toBe(await shapeOf(acme));
  });

  it("a smart tag with the tenant's physical schema name changes the shape, a description does not", async () => {
    await client.query(inTenant(globex, tenantSql));
    const comment = (text: string) => `comment on table :app.orders is '${text}'`;
    for (const tenant of [acme, globex]) {
      await client.query(inTenant(tenant, comment(`Of ${acme}_app.orders.`)));
    }
    expect(await shapeOf(globex)).toBe(await shapeOf(acme));
    const tag = `@foreignKey (id) references ${acme.toUpperCase()}_APP.animals (id)`;
    for (const tenant of [acme, globex]) await client.query(inTenant(tenant, comment(tag)));
    expect(await shapeOf(globex)).not.toBe(await shapeOf(acme));
    for (const tenant of [acme, globex])
      await client.query(inTenant(tenant, comment(tag.replace("_APP", "_APPS"))));
    expect(await shapeOf(globex)).toBe(await shapeOf(acme));
  });

  it("a schema is found only in a smart tag's own argument, and the tag is reported", async () => {
    const namedBy = async (text: string): Promise<readonly string[]> => {
      await client.query(inTenant(acme, `comment on table :app.orders is '${text.replaceAll("'", "''")}'`));
      return (await probe(client, acme)).named;
    };
    const own = `${acme}_app`;
    for (const text of [
      `@name secret\r\nA ${own}.secret held`,
      `Write to me@${own}.example, or see ${own}.orders.`,
      `What was bought.\n@foreignKey (id) references ${own}.animals (id)`,
      `@deprecated Use ${own}.animals.\n@name ${own}.orders\n@forwardDescription The ${own}.animals.`,
      `@foreignKey (id) references ${own}s.animals (id)`,
      `@foreignKey (id) references x_${own}.animals (id)`,
      "@foreignKey (id) references app.animals (id)",
      `@foreignKey (id) references ${own} (id)`,
    ]) {
      expect(await namedBy(text), text).toEqual([]);
    }
    const tags = [
      `@foreignKey (id) references ${own}.animals (id)`,
      `@foreignKey (id) references "${own}"."animals" (id)`,
      `@ownTag ${own} .animals`,
      `@refVia a via:"(id)->${own}.animals(id)"`,
    ];
    for (const tag of tags) {
      expect(await namedBy(`@name bought\r\n${tag}\r\nText.`)).toEqual([`relation app.orders: ${tag}`]);
    }
    await client.query(
      inTenant(
        acme,
        `comment on table :app.orders is null; comment on column :app.orders.note is '@x ${own}.y'`,
      ),
    );
    expect((await probe(client, acme)).named).toEqual([`relation app.orders.note: @x ${own}.y`]);
  });

  it("logical names and their order are part of the shape", async () => {
    const tenant = tenantOf(acme);
    const base = (await ask(tenant)).shape;
    const reversed = { ...tenant, schemas: tenant.schemas.toReversed() };
    const renamed = { ...tenant, schemas: tenant.schemas.map((s) => ({ ...s, logical: `${s.logical}2` })) };
    expect((await ask(reversed)).shape).not.toBe(base);
    expect((await ask(renamed)).shape).not.toBe(base);
  });

  it("the creation order of tables that refer to the same table is part of it, as it orders their fields", async () => {
    const child = (name: string) =>
      `create table :app.${name} (id int primary key, animal int references :app.animals);
       create index on :app.${name} (animal); grant select on :app.${name} to :host;`;
    await client.query(inTenant(globex, tenantSql));
    await client.query(inTenant(acme, child("toys") + child("bowls")));
    await client.query(inTenant(globex, child("bowls") + child("toys")));
    const [first, second] = [await buildApi(client, acme), await buildApi(client, globex)];
    expect(second.sdl).not.toBe(first.sdl);
    expect(await shapeOf(globex)).not.toBe(await shapeOf(acme));
  });
});

describe("what comes with the shape", () => {
  it("served schemas that do not exist are reported as missing, shared ones are not", async () => {
    const tenant = tenantOf(acme);
    const schemas = [...tenant.schemas, { logical: "x", physical: "gone" }];
    expect((await ask({ ...tenant, schemas, sharedSchemas: ["nowhere"] })).missing).toEqual(["gone"]);
  });

  it("enum tables are counted as often as a build reads their rows, readable or not", async () => {
    const reads = async () => {
      const { enumTables } = await probe(client, acme);
      expect((await buildApi(client, acme)).reads).toBe(enumTables);
      return enumTables;
    };
    expect(await reads()).toBe(1);
    const units = `create table :app.units (code text, label text unique, note text);
      insert into :app.units values ('kg', 'Kilo', 'Weighs');
      grant select on :app.units to :host; comment on column :app.units.note is '@enumDescription';`;
    await client.query(inTenant(acme, units));
    const before = await shapeOf(acme);
    await client.query(
      inTenant(acme, "comment on table :app.units is E'@enum\\n@enumName measure\\n@primaryKey code'"),
    );
    expect(await reads()).toBe(2);
    const tagged = await probe(client, acme);
    expect(tagged.shape).not.toBe(before);
    expect(tagged.canonicalText).toContain("Weighs");
    expect(tagged.canonicalText).not.toContain("Kilo");
    await client.query(inTenant(acme, "revoke select on :app.units from :host"));
    expect((await probe(client, acme)).enumTables).toBe(3);
  });

  it("the rows of an enum are in the order in which a build reads them, however the probe is planned", async () => {
    const made = async (rows: string): Promise<readonly string[]> => {
      await client.query("savepoint making");
      await client.query(
        inTenant(
          acme,
          `create table :app.units (code text primary key); insert into :app.units values ${rows};
           comment on table :app.units is '@enum'; grant select on :app.units to :host;
           update pg_class set relpages = 1, reltuples = 2, relallvisible = 1 where oid = ':app.units'::regclass; -- as VACUUM leaves it
           create table :app.measures (id int primary key, unit text references :app.units); grant select on :app.measures to :host`,
        ),
      );
      const seen = [(await buildApi(client, acme)).sdl, await shapeOf(acme)];
      await client.query("rollback to savepoint making");
      return seen;
    };
    const [sdl, shape] = await made("('kg'), ('cm')");
    const [sdlOfOther, shapeOfOther] = await made("('cm'), ('kg')");
    expect(sdlOfOther).not.toBe(sdl);
    expect(shapeOfOther).not.toBe(shape);
  });

  it("revisions are those of served and shared schemas, 0 if there is none", async () => {
    await client.query(`create schema rowhouse;
      create table rowhouse.schema_revision (schema_name text primary key, revision bigint, changed_at timestamptz)`);
    await client.query("insert into rowhouse.schema_revision values ($1, 9007199254740993), ('other', 1)", [
      `${acme}_app`,
    ]);
    const expected = { [`${acme}_app`]: "9007199254740993", [`${acme}_crm`]: "0", public: "0" };
    expect((await ask(tenantOf(acme), { revisions: true })).revisions).toEqual(expected);
    expect((await ask(tenantOf(acme))).revisions).toEqual({ ...expected, [`${acme}_app`]: "0" });
  });

  it("nothing in a tenant's schema replaces a function or operator of the probe itself", async () => {
    const before = (await ask(tenantOf(acme))).shape;
    await client.query(
      inTenant(
        acme,
        `create function :app.boom(name, name) returns boolean language plpgsql as $$ begin raise 'ran'; end $$;
         create operator :app.~~ (function = :app.boom, leftarg = name, rightarg = name);
         create function :app.quote_ident(name) returns text language plpgsql as $$ begin raise 'ran'; end $$;`,
      ),
    );
    const after = await ask(tenantOf(acme));
    expect(after.shape).not.toBe(before);
    expect(after.hidden).toEqual([
      `function ${acme}_app.quote_ident(name)`,
      `operator ${acme}_app.~~(name, name)`,
    ]);
  });

  it("a row that is not a shape is refused", () => {
    expect(() => parseShape({ shape: "x" })).toThrow(/returned an unexpected result/);
    expect(() => parseShape(undefined)).toThrow(/returned an unexpected result/);
  });
});
