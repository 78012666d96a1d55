import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { deafUrl, figuresSince, gatedMutation, Hand, held } from "../support/guard-host.ts";
import { TestHost } from "../support/host.ts";
import { createTenantDatabase, schemaOf, type TenantDatabase } from "../support/host-tenants.ts";

/** Objects that tenants refer to, in a schema that they neither serve nor share. */
const libSql = `
create schema lib;
create type lib.addr as (street text, city text);
create type lib.status as enum ('open', 'shut');
create domain lib.score as integer check (value < 100);
create table lib.country (id integer primary key, code text not null unique);
insert into lib.country values (1, 'x');
grant usage on schema lib to public; grant select on lib.country to public;`;

/** In a tenant's schema. */
const shopSql = `
create table shop (
  id integer generated always as identity primary key, name text not null,
  home lib.addr, status lib.status, score lib.score, country integer references lib.country
);
create function add_shop_gated(name text, home lib.addr) returns shop language plpgsql volatile as $$
declare made shop;
begin
  perform pg_advisory_xact_lock_shared(hashtext('gate ' || current_schema()));
  insert into shop (name, home) values (add_shop_gated.name, add_shop_gated.home) returning * into made;
  return made;
end $$;
grant select, insert, update on shop to :role;`;

const insert = (name: string, more: string): string =>
  `mutation { createShop(input: { shop: { name: "${name}" ${more} } }) { shop { name } } }`;
const home = (name: string): string => insert(name, 'home: { street: "Main", city: "Bern" }');

/** The attributes trade places: values written in the old order would be read as something else. */
const swap = `
  alter type lib.addr rename attribute street to held;
  alter type lib.addr rename attribute city to street;
  alter type lib.addr rename attribute held to city;`;

/** For a tenant that a pooled instance can serve: nothing names a type of the other schema. */
const plainSql = `
create table shop (
  id integer generated always as identity primary key, name text not null, country integer references lib.country
);
grant select, insert, update on shop to :role;`;

describe("a write, while a schema that its tenant only refers to changes,", () => {
  let database: TenantDatabase;
  let host: TestHost;
  let hand: Hand;

  beforeAll(async () => {
    database = await createTenantDatabase("closure");
    await database.execute(libSql);
    const tenants = [
      await database.tenant("ada", gatedMutation + shopSql),
      await database.tenant("bob", gatedMutation + shopSql),
      await database.tenant("cat", plainSql),
      await database.tenant("dan", plainSql),
    ];
    host = await TestHost.start({
      // It receives no notifications: it learns of changes only from its guard.
      config: {
        databases: { main: { url: database.hostUrl, listenUrl: deafUrl(database), install: false } },
        tenants,
        pooling: true,
        guard: "all",
      },
      connected: database.connected,
    });
  });
  afterAll(async () => {
    await host.stop();
    await database.drop();
  });
  beforeEach(async () => {
    hand = await Hand.open(database, "ada");
    for (const tenant of ["ada", "bob", "cat", "dan"])
      await host.data(tenant, "{ itemByRowId(rowId: 1) { label } }");
    for (const tenant of ["ada", "bob"]) await host.data(tenant, home("before"));
    for (const tenant of ["cat", "dan"]) await host.data(tenant, insert("before", ""));
  });
  afterEach(() => hand.close());

  const storedHome = async (tenant: string, name: string) => {
    const [row] = await database.query(
      `select (home).street, (home).city from ${schemaOf(tenant)}.shop where name = $1`,
      [name],
    );
    return row;
  };
  const right = { street: "Main", city: "Bern" };

  it("proves that schema's revision too, pooled or not", async () => {
    for (const [tenant, kind] of [
      ["ada", "dedicated"],
      ["cat", "pooled"],
    ] as const) {
      const view = await host.adminJson(`/tenants/${tenant}`);
      expect(view.kind).toBe(kind);
      expect(Object.keys(view.revisions)).toEqual([schemaOf(tenant), "lib", "public"].sort());
    }
  });

  it("stores street as street and city as city after the two attributes have traded places, for every tenant", async () => {
    await database.execute(swap);
    for (const tenant of ["ada", "bob"]) {
      await host.data(tenant, home("swapped"));
      expect(await storedHome(tenant, "swapped")).toEqual(right);
      const { allShops } = await host.data(tenant, "{ allShops { nodes { name home { street city } } } }");
      expect(allShops.nodes).toContainEqual({ name: "swapped", home: right });
    }
  });

  it("does not commit if that happened while it ran, and is run again", async () => {
    const gated = (name: string): string =>
      `mutation { addShopGated(input: { name: "${name}", home: { street: "Main", city: "Bern" } }) { clientMutationId } }`;
    await host.data("ada", gated("through"));
    const moved = await figuresSince(host);
    await hand.closeGate();
    const writing = host.data("ada", gated("overtaken"));
    await held(database);
    await database.execute(swap);
    await hand.openGate();
    await writing;
    expect(await storedHome("ada", "overtaken")).toEqual(right);
    expect(await database.query(`select from ${schemaOf("ada")}.shop where name = 'overtaken'`)).toHaveLength(
      1,
    );
    expect(await moved()).toMatchObject({ failures: 1, retries: 1 });
  });

  it("stores the enum value that it names, after values have traded names", async () => {
    await database.execute(`
      alter type lib.status rename value 'shut' to 'held'; alter type lib.status rename value 'open' to 'shut';
      alter type lib.status rename value 'held' to 'open'`);
    await host.data("ada", insert("shut", "status: shut"));
    expect(
      await database.query(`select status::text from ${schemaOf("ada")}.shop where name = 'shut'`),
    ).toEqual([{ status: "shut" }]);
    await database.execute("alter type lib.status add value 'moved'");
    await host.data("ada", home("after"));
    await host.data("ada", insert("moved", "status: moved"));
  });

  it("uses a domain's new base type, whether that accepts the value or not", async () => {
    const column = "alter table %.shop add column score lib.score";
    await database.execute(`
      drop domain lib.score cascade; create domain lib.score as text;
      ${["ada", "bob"].map((tenant) => column.replace("%", schemaOf(tenant))).join("; ")}`);
    for (const tenant of ["ada", "bob"]) {
      const answer = await host.graphql(tenant, insert("number", "score: 5"));
      expect([answer.status, answer.errors?.[0]?.message]).toEqual([
        400,
        expect.stringMatching(/String cannot represent/),
      ]);
      await host.data(tenant, insert("text", 'score: "many"'));
    }
  });

  it.each([
    ["of a dedicated instance", ["ada", "bob"]],
    ["of a pooled instance", ["cat", "dan"]],
  ])("%s follows a foreign key to a table whose columns have changed", async (_, tenants) => {
    const moved = await figuresSince(host);
    await database.execute(
      "alter table lib.country add column flag text; alter table lib.country rename column id to number",
    );
    for (const tenant of tenants) await host.data(tenant, insert("renamed", "country: 1"));
    // The first one's guard reported the change for all tenants that refer to the schema.
    expect(await moved()).toMatchObject({ failures: 1, retries: 1, exhausted: 0 });
    await database.execute(
      "alter table lib.country rename column number to id; alter table lib.country drop column flag",
    );
  });

  it("notices that the schema is renamed, and that another is created in its place", async () => {
    await database.execute("alter schema lib rename to library");
    await host.data("ada", home("resettled"));
    await database.execute("create schema lib");
    await host.data("bob", home("resettled"));
    expect(await storedHome("bob", "resettled")).toEqual(right);
    const { revisions } = (await host.adminJson("/tenants/ada")) as { revisions: object };
    expect(Object.keys(revisions)).toContain("library");
    expect(Object.keys(revisions)).not.toContain("lib");
    await database.execute("drop schema lib; alter schema library rename to lib");
  });

  it("reads no schema while nothing changes", async () => {
    await host.data("ada", home("settled"));
    await host.data("bob", home("settled"));
    const moved = await figuresSince(host);
    for (let run = 0; run < 20; run += 1) await host.data(run % 2 === 0 ? "ada" : "bob", home("flat"));
    expect(await moved()).toEqual({ failures: 0, retries: 0, exhausted: 0, reads: 0, builds: 0 });
  });
});
