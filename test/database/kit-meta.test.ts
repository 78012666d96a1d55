import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { importing, kitPreset } from "../support/kit-preset.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = ["marigold", "bob", "carol"];

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("kit_meta");
  for (const tenant of tenants) {
    await database.execute(workerTenantSql(tenant));
    await database.execute(`
      create schema ${tenant}_more; grant usage on schema ${tenant}_more to ${tenant};
      create table ${tenant}_more.visit (
        pet_id int not null references ${tenant}.pet, day date, cost numeric check (cost > 0), secret text, moods ${tenant}.mood[],
        primary key (pet_id, day)
      );
      comment on table ${tenant}_more.visit is E'@name seeing\\nTo the vet.';
      comment on column ${tenant}_more.visit.cost is 'In euros.';
      grant select (pet_id, day, cost, moods) on ${tenant}_more.visit to ${tenant};
      create table ${tenant}.meta (id int primary key);
      create table ${tenant}.hidden (id int primary key, person_id int references ${tenant}.person);
      create index on ${tenant}.hidden (person_id);
      create table ${tenant}.safe (
        id int primary key, door int unique, coat text unique check (coat <> ''), pin text check (pin <> coat)
      );
      create table ${tenant}.safe_key (id int primary key, door int references ${tenant}.safe (door), coat text references ${tenant}.safe (coat));
      comment on column ${tenant}.safe.coat is E'@behavior -attribute:select';
      grant select on ${tenant}.safe, ${tenant}.safe_key to ${tenant};
      create role ${tenant}_clerk; grant usage on schema ${tenant} to ${tenant}_clerk;
      grant select on ${tenant}.pet to ${tenant}_clerk`);
  }
});
afterAll(async () => {
  for (const tenant of tenants)
    await database.execute(`drop owned by ${tenant}_clerk; drop role ${tenant}_clerk`);
  await database.drop();
});

/** If a test asks for it, builds wait for each other between gathering and building their schema. */
const waiting = `{ name: "Waiting", version: "1.0.0",
  gather: { hooks: { async pgIntrospection_introspection() { await globalThis.meet?.(); } } } }`;
const preset = kitPreset(`meta(), ${waiting}`, importing("meta"));
const reference = "{ schema table columns }";
const query = `{ _meta { schemas tables { schema name kind type description columns { name field type notNull hasDefault description }
  constraints { name kind columns references ${reference} } relations { field columns single references ${reference} } } } }`;

const searchPath = (tenant: string): string[] => [tenant, `${tenant}_more`, "public"];
const schemas = (tenant: string) => ({ app: tenant, more: `${tenant}_more` });

interface Table {
  readonly name: string;
  readonly columns: readonly { readonly name: string }[];
  readonly constraints: readonly { readonly name: string }[];
  readonly relations: readonly object[];
}

const ask = async (worker: Worker, serv: CellServ | undefined, tenant: string, role = tenant) => {
  if (serv === undefined) throw new Error("not built");
  const request = { tenant, query, searchPath: searchPath(tenant), roles: [role], settings: { role } };
  const { json } = await worker.ask(serv, request);
  expect(json.errors).toBeUndefined();
  const tables: readonly Table[] = json.data._meta.tables;
  return {
    json,
    text: JSON.stringify(json),
    table: (name: string) => tables.find((each) => each.name === name),
    tables,
  };
};

const metaFor = async (
  worker: Worker,
  kind: "pooled" | "dedicated",
  built: string,
  tenant: string,
  role = tenant,
) => {
  return ask(worker, await worker.build(kind, schemas(built)), tenant, role);
};

describe("_meta", () => {
  it("describes tables, columns, constraints and relations in logical names", async () => {
    const { json, text, table } = await metaFor(
      new Worker(database, { preset }),
      "pooled",
      "marigold",
      "bob",
    );
    expect(json.data._meta.schemas).toEqual(["app", "more"]);
    expect(table("visit")).toEqual({
      schema: "more",
      name: "visit",
      kind: "TABLE",
      type: "Seeing",
      description: "To the vet.",
      columns: [
        { name: "pet_id", field: "petId", type: "int4", notNull: true, hasDefault: false, description: null },
        { name: "day", field: "day", type: "date", notNull: true, hasDefault: false, description: null },
        {
          name: "cost",
          field: "cost",
          type: "numeric",
          notNull: false,
          hasDefault: false,
          description: "In euros.",
        },
        {
          name: "moods",
          field: "moods",
          type: "app.mood[]",
          notNull: false,
          hasDefault: false,
          description: null,
        },
      ],
      constraints: expect.arrayContaining([
        { name: "visit_pkey", kind: "PRIMARY_KEY", columns: ["pet_id", "day"], references: null },
        { name: "visit_cost_check", kind: "CHECK", columns: ["cost"], references: null },
        {
          name: "visit_pet_id_fkey",
          kind: "FOREIGN_KEY",
          columns: ["pet_id"],
          references: { schema: "app", table: "pet", columns: ["id"] },
        },
      ]),
      relations: [
        {
          field: "petByPetId",
          columns: ["pet_id"],
          single: true,
          references: { schema: "app", table: "pet", columns: ["id"] },
        },
      ],
    });
    expect(table("pet")?.relations).toContainEqual(
      expect.objectContaining({ field: "personByOwnerId", single: true }),
    );
    expect(table("person")?.relations).toContainEqual(
      expect.objectContaining({
        field: "petsByOwnerId",
        single: false,
        references: { schema: "app", table: "pet", columns: ["owner_id"] },
      }),
    );
    expect(text).not.toMatch(/marigold|bob|pg_rowhouse/);
  });

  it("is the same in pooled and dedicated instances, for every role", async () => {
    const worker = new Worker(database, { preset });
    for (const role of ["bob", "bob_clerk"]) {
      const pooled = await metaFor(worker, "pooled", "marigold", "bob", role);
      const dedicated = await metaFor(worker, "dedicated", "bob", "bob", role);
      expect(pooled.text).toBe(dedicated.text);
      expect(pooled.tables.length).toBeGreaterThan(0);
    }
  });

  it("leaves out what the request's role has no right to, and relations to it", async () => {
    const worker = new Worker(database, { preset });
    const own = await metaFor(worker, "pooled", "marigold", "bob");
    expect(own.table("hidden")).toBeUndefined();
    expect(own.text).not.toMatch(/hidden|secret/i);
    const clerk = await metaFor(worker, "pooled", "marigold", "bob", "bob_clerk");
    expect(clerk.tables.map(({ name }) => name)).toEqual(["pet"]);
    expect(clerk.table("pet")?.relations).toEqual([]);
    expect(clerk.text).not.toMatch(/person/i);
  });

  it("leaves out constraints that would reveal columns hidden from the API, at either end", async () => {
    const worker = new Worker(database, { preset });
    const { table } = await metaFor(worker, "pooled", "marigold", "bob");
    expect(table("safe")?.columns.map(({ name }) => name)).toEqual(["id", "door", "pin"]);
    const constraints = (name: string) =>
      table(name)
        ?.constraints.map((each) => each.name)
        .toSorted();
    expect(constraints("safe")).toEqual(["safe_door_key", "safe_pkey"]);
    expect(constraints("safe_key")).toEqual(["safe_key_door_fkey", "safe_key_pkey"]);
  });

  it("never mixes concurrent builds of one thread", async () => {
    await database.execute(
      "create table carol.only_carols (id int primary key); grant select on carol.only_carols to carol",
    );
    const worker = new Worker(database, { preset, poolSize: 8 });
    const rounds = ["marigold", "carol", "bob", "carol", "marigold", "carol"];
    const all = Promise.withResolvers<void>();
    let gathered = 0;
    const meet = (): Promise<void> => {
      gathered += 1;
      if (gathered === rounds.length) all.resolve();
      return all.promise;
    };
    Reflect.set(globalThis, "meet", meet);
    const built = await Promise.all(rounds.map((tenant) => worker.build("dedicated", schemas(tenant))));
    Reflect.deleteProperty(globalThis, "meet");
    expect(gathered).toBe(rounds.length);
    const answers = await Promise.all(rounds.map((tenant, index) => ask(worker, built[index], tenant)));
    answers.forEach(({ tables, text }, index) => {
      expect(tables.some(({ name }) => name === "only_carols")).toBe(rounds[index] === "carol");
      for (const foreign of tenants) expect(text).not.toContain(foreign === "carol" ? "carol." : foreign);
    });
  });
});
