import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { buildError } from "../../workers/instances.ts";
import type { CellServ } from "../../workers/serve.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { presetUrl, specOf, Worker } from "../support/worker-instance.ts";
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
/** A plugin that keeps schema names while it is built, and has fields that say and use them. */
const baking = presetUrl(`
  import { PostGraphileAmberPreset } from ${from("postgraphile/presets/amber")};
  import { context, lambda } from ${from("postgraphile/grafast")};
  globalThis.seen = [];
  export default {
    extends: [PostGraphileAmberPreset],
    gather: { pgJwtTypes: ["app.token"] },
    plugins: [{
      name: "Baking", version: "1.0.0",
      gather: { hooks: { pgIntrospection_introspection(info, { introspection }) {
        globalThis.seen.push(introspection.namespaces.map((each) => each.nspname));
      } } },
      schema: { hooks: { GraphQLObjectType_fields(fields, build, { scope }) {
        if (!scope.isRootQuery) return fields;
        const { schemaName, name } = build.input.pgRegistry.pgResources.person.codec.extensions.pg;
        return { ...fields, baked: { type: build.graphql.GraphQLString, plan: () => lambda(context(),
          ({ withPgClient, pgSettings }) => withPgClient(pgSettings, async (client) => {
            const { rows } = await client.query({ text: 'select name from "' + schemaName + '"."' + name + '" order by id' });
            return rows[0].name;
          })) } };
      } } },
    }],
  };`);

const ask = (worker: Worker, serv: CellServ, tenant: string, query = "{ baked }") =>
  worker.ask(serv, { tenant, query });

describe("a plugin that makes SQL of a schema's name", () => {
  it("is refused in a pooled instance, whoever asks, the tenant that it was built on too", async () => {
    const worker = new Worker(database, { preset: baking });
    const serv = await worker.build("pooled", { app: "marigold" });
    for (const tenant of ["marigold", "bob"]) {
      const { json } = await ask(worker, serv, tenant);
      expect(json.data).toEqual({ baked: null });
      expect(json.errors[0].message).toMatch(/names a schema as it was called while the instance was built/);
    }
    expect(Reflect.get(globalThis, "seen")).toEqual([
      expect.arrayContaining(["pg_rowhouse_1", "public", "pg_catalog"]),
    ]);
    expect(Reflect.get(globalThis, "seen").flat()).not.toContain("marigold");
    expect((await ask(worker, serv, "bob", "{ personByRowId(rowId: 1) { name } }")).json.data).toEqual({
      personByRowId: { name: "bob 1" },
    });
  });

  it("works in a dedicated one, which has schemas of its own", async () => {
    const worker = new Worker(database, { preset: baking });
    const serv = await worker.build("dedicated", { app: "bob" });
    expect((await ask(worker, serv, "bob")).json).toEqual({ data: { baked: "bob 1" } });
  });
});

it("nobody can create a schema that is called like the placeholder", async () => {
  await expect(database.execute("create schema pg_rowhouse_1")).rejects.toMatchObject({ code: "42939" });
});

it("a preset names a token's type by the logical schema, in pooled and dedicated instances", async () => {
  for (const kind of ["pooled", "dedicated"] as const) {
    const worker = new Worker(database, { preset: baking });
    const schema = await (await worker.build(kind, { app: "bob" })).getSchema();
    expect(schema?.getType("Token")?.toConfig()).not.toHaveProperty("fields");
    expect(schema?.getType("Person")?.toConfig()).toHaveProperty("fields");
  }
});

describe("a smart tag that names the schema as the database does", () => {
  it("keeps the tenant out of a pool, and works in an instance of its own", async () => {
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

it("a build that fails names the schema as the database does", async () => {
  await database.execute(`create table bob.broken (id int primary key);
    comment on table bob.broken is '@foreignKey (id) references nothing (id)'`);
  const spec = specOf("pooled", { app: "bob" }, 9);
  const thrown = await new Worker(database).build("pooled", { app: "bob" }).catch((error) => error);
  expect(thrown.message).toMatch(/pg_rowhouse_1\.nothing/);
  expect(buildError(thrown, spec)).toMatchObject({
    code: "BUILD_FAILED",
    message: expect.stringMatching(/'bob\.nothing'/),
  });
  await database.execute("drop table bob.broken");
});
