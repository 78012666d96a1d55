import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { specOf } from "../../bench/blueprint.ts";
import { buildError } from "../../workers/instance/instances.ts";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { presetUrl, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("schema_names");
  for (const tenant of ["marigold", "bob"]) {
    await database.execute(workerTenantSql(tenant));
    await database.execute(`
      create type ${tenant}.token as (sub text, exp int);
      create function ${tenant}.login() returns ${tenant}.token language sql stable as 'select row(current_user::text, 1)::token'`);
  }
});
afterAll(() => database.drop());

const from = (name: string): string => JSON.stringify(import.meta.resolve(name));
/** Plugins that look up schemas by name, keep names during the build, and add fields that use them. */
const named = presetUrl(`
  import { PostGraphileAmberPreset } from ${from("postgraphile/presets/amber")};
  import { TYPES } from ${from("postgraphile/@dataplan/pg")};
  import { context, lambda } from ${from("postgraphile/grafast")};
  import { addPgTableCondition, addPgTableOrderBy, jsonPgSmartTags, orderByAscDesc, pgSmartTags } from ${from("postgraphile/utils")};
  globalThis.seen = [];
  const rowsOf = (text) => ({ plan: () => lambda(context(), ({ withPgClient, pgSettings }) =>
    withPgClient(pgSettings, async (client) => (await client.query({ text })).rows[0].name)) });
  export default {
    extends: [PostGraphileAmberPreset],
    gather: { pgJwtTypes: ["app.token"] },
    plugins: [
      addPgTableCondition({ schemaName: "app", tableName: "person" }, "nameLike", ({ sql, graphql }) => ({
        type: graphql.GraphQLString,
        apply(condition, value) {
          condition.where(sql\`\${condition.alias}.id in (select id from \${sql.identifier("app", "person")} where name like \${sql.literal(value)})\`);
        },
      })),
      addPgTableOrderBy({ schemaName: "app", tableName: "pet" }, ({ sql }) =>
        orderByAscDesc("NAME_LENGTH", (queryBuilder) => ({ fragment: sql\`length(\${queryBuilder.alias}.name)\`, codec: TYPES.int }))),
      pgSmartTags({ kind: "class", match: "app.pet", tags: { name: "animal" } }),
      jsonPgSmartTags({ version: 1, config: { attribute: { "app.person.mood": { tags: { name: "feeling" } } },
        class: { "app.person": { description: "Somebody.", attribute: { email: { description: "Where to write to." } } } } } }),
      {
        name: "Baking", version: "1.0.0",
        gather: { hooks: { pgIntrospection_introspection(info, { introspection }) {
          globalThis.seen.push(introspection.namespaces.map((each) => each.nspname));
        } } },
        schema: { hooks: { GraphQLObjectType_fields(fields, build, { scope }) {
          if (!scope.isRootQuery) return fields;
          const { schemaName, name } = build.input.pgRegistry.pgResources.person.codec.extensions.pg;
          const type = build.graphql.GraphQLString;
          return { ...fields,
            baked: { type, ...rowsOf('select name from "' + schemaName + '"."' + name + '" order by id') },
            written: { type, ...rowsOf("select name from app.person order by id") } };
        } } },
      },
    ],
  };`);

const ask = (worker: Worker, serv: CellServ, tenant: string, query: string) =>
  worker.ask(serv, { tenant, query });

describe.each(["pooled", "dedicated"] as const)(
  "in a %s instance, whose schema has another name in PostgreSQL,",
  (kind) => {
    let worker: Worker;
    let serv: CellServ;
    beforeAll(async () => {
      Reflect.set(globalThis, "seen", []);
      worker = new Worker(database, { preset: named });
      serv = await worker.build(kind, { app: "bob" });
    });

    it("plugins see the schema only by its logical name", () => {
      expect(Reflect.get(globalThis, "seen")).toEqual([
        expect.arrayContaining(["app", "public", "pg_catalog"]),
      ]);
      expect(Reflect.get(globalThis, "seen").flat()).not.toContain("bob");
    });

    it("conditions, orders and smart tags find its tables", async () => {
      const schema = await serv.getSchema();
      const person = schema.getType("Person");
      expect(person?.description).toBe("Somebody.");
      expect(person?.toConfig()).toMatchObject({
        fields: { feeling: {}, email: { description: "Where to write to." } },
      });
      expect(schema.getType("Animal")).toBeDefined();
      expect(worker.log.join()).not.toMatch(/no matches|failed to add/);
      const { json } = await ask(
        worker,
        serv,
        "bob",
        `{
      allPeople(condition: { nameLike: "%3" }) { nodes { name } }
      allAnimals(orderBy: [NAME_LENGTH_DESC, PRIMARY_KEY_DESC], first: 1) { nodes { name } } }`,
      );
      expect(json).toEqual({
        data: { allPeople: { nodes: [{ name: "bob 3" }] }, allAnimals: { nodes: [{ name: "bob pet 5" }] } },
      });
    });

    it("SQL that contains its logical name finds the tenant's own rows", async () => {
      const tenants = kind === "pooled" ? ["marigold", "bob"] : ["bob"];
      for (const tenant of tenants) {
        const { json } = await ask(worker, serv, tenant, "{ baked written }");
        expect(json).toEqual({ data: { baked: `${tenant} 1`, written: `${tenant} 1` } });
      }
    });

    it("a token type is named by it", async () => {
      const schema = await serv.getSchema();
      expect(schema.getType("Token")?.toConfig()).not.toHaveProperty("fields");
    });
  },
);

it("another tenant's schema whose physical name equals the logical name is not read", async () => {
  await database.execute(workerTenantSql("app"));
  await database.execute(
    "create type app.token as (sub text, exp int); grant usage on schema app to bob; grant select on app.person to bob",
  );
  for (const kind of ["pooled", "dedicated"] as const) {
    const worker = new Worker(database, { preset: named });
    const serv = await worker.build(kind, { app: "bob" });
    expect((await ask(worker, serv, "bob", "{ baked written }")).json).toEqual({
      data: { baked: "bob 1", written: "bob 1" },
    });
  }
});

describe("a logical name that equals a shared schema's name", () => {
  it.each(["pooled", "dedicated"] as const)(
    "means the tenant's own schema in a %s instance, and the shared one stays apart",
    async (kind) => {
      await database.execute(`
      create schema if not exists tess;
      drop table if exists public.notes, tess.notes cascade; drop type if exists public.hue cascade;
      create type public.hue as enum ('red');
      create table public.notes (id int primary key, shared text);
      create table tess.notes (id int primary key, own text, hue public.hue);
      insert into tess.notes values (1, 'mine', 'red');
      do $$ begin create role tess; exception when duplicate_object then null; end $$;
      grant usage on schema tess to tess; grant select on tess.notes to tess`);
      const worker = new Worker(database);
      const serv = await worker.build(kind, { public: "tess" });
      const { json } = await ask(worker, serv, "tess", "{ allNotes { nodes { rowId own hue } } }");
      expect(json).toEqual({ data: { allNotes: { nodes: [{ rowId: 1, own: "mine", hue: "red" }] } } });
    },
  );
});

it.each(["pooled", "dedicated"] as const)(
  "names that resemble the host's former placeholder schemas are accepted in a %s instance",
  async (kind) => {
    await database.execute(`
    create schema if not exists quinn; drop table if exists quinn.pg_rowhouse_1; drop type if exists quinn.pg_rowhouse_2;
    create type quinn.pg_rowhouse_2 as enum ('a');
    create table quinn.pg_rowhouse_1 (id int primary key, pg_rowhouse_1 text, kind quinn.pg_rowhouse_2);
    insert into quinn.pg_rowhouse_1 values (1, 'pg_rowhouse_1', 'a');
    do $$ begin create role quinn; exception when duplicate_object then null; end $$;
    grant usage on schema quinn to quinn; grant select on quinn.pg_rowhouse_1 to quinn`);
    const worker = new Worker(database);
    const serv = await worker.build(kind, { app: "quinn" });
    const { json } = await ask(
      worker,
      serv,
      "quinn",
      "{ allPgRowhouse1S { nodes { rowId pgRowhouse1 kind } } }",
    );
    expect(json).toEqual({
      data: { allPgRowhouse1S: { nodes: [{ rowId: 1, pgRowhouse1: "pg_rowhouse_1", kind: "a" }] } },
    });
  },
);

describe("a smart tag with the schema's physical name", () => {
  it("keeps the tenant out of the pool, and works in a dedicated instance", async () => {
    await database.execute(`
      create table bob.tagged (id int primary key, person int);
      grant select on bob.tagged to bob;
      comment on table bob.tagged is '@foreignKey (person) references bob.person (id)'`);
    const worker = new Worker(database);
    await expect(worker.build("pooled", { app: "bob" })).rejects.toMatchObject({
      code: "BUILD_NOT_SHAREABLE",
      message: expect.stringMatching(/references bob\.person/),
    });
    const serv = await worker.build("dedicated", { app: "bob" });
    const { json } = await ask(worker, serv, "bob", "{ allTaggeds { nodes { personByPerson { name } } } }");
    expect(json).toEqual({ data: { allTaggeds: { nodes: [] } } });
    await database.execute(`comment on table bob.tagged is E'@name labelled\\nThe shop of bob.'`);
    await worker.build("pooled", { app: "bob" });
  });
});

it("a failed build's error says which schema a logical name stands for", async () => {
  await database.execute(`create table bob.broken (id int primary key);
    comment on table bob.broken is '@foreignKey (id) references nothing (id)'`);
  const spec = specOf("pooled", { app: "bob" }, 9);
  const thrown = await new Worker(database).build("pooled", { app: "bob" }).catch((error) => error);
  expect(thrown.message).toMatch(/'app\.nothing'/);
  expect(buildError(thrown, spec)).toMatchObject({
    code: "BUILD_FAILED",
    message: expect.stringMatching(/'app\.nothing'.*\(schema app is bob in PostgreSQL\)/s),
  });
  await database.execute("drop table bob.broken");
});
