import { lexicographicSortSchema, printSchema } from "postgraphile/graphql";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = Array.from({ length: 20 }, (_, n) => `t${n}`);

let database: TestDatabase;
let worker: Worker;
let pooled: CellServ;
let dedicated: CellServ;
beforeAll(async () => {
  database = await createDatabase("instances");
  for (const tenant of tenants) await database.execute(workerTenantSql(tenant));
  worker = new Worker(database, { poolSize: 2 });
  pooled = await worker.build("pooled", { app: "t0" });
  dedicated = await worker.build("dedicated", { app: "t7" });
});
afterAll(() => database.drop());

const sdlOf = async (serv: CellServ): Promise<string> => {
  const schema = await serv.getSchema();
  if (schema === null) throw new Error("no schema");
  return printSchema(lexicographicSortSchema(schema));
};

interface Page {
  readonly nodes: readonly { readonly name: string }[];
  readonly pageInfo: { readonly endCursor: string };
}

const documents: Record<string, string> = {
  everything: `{ allPeople(orderBy: NAME_DESC) { totalCount nodes { rowId name mood email home { street town } tags
    age { start { value inclusive } end { value inclusive } } extra born shout } } }`,
  nested: `{ allPets { nodes { name personByOwnerId { name petsByOwnerId(first: 1) { nodes { name } } } } } }`,
  filtered: `{ allPeople(condition: { mood: happy, rowId: 3 }) { nodes { rowId mood } } }`,
  byKey: `{ personByRowId(rowId: 2) { name petsByOwnerId { nodes { name } } } }`,
  functions: `{ peopleIn(feeling: happy, first: 2) { nodes { name shout } } }`,
  pages: `{ allPeople(first: 2, offset: 1) { pageInfo { hasNextPage hasPreviousPage } edges { node { rowId } } } }`,
  failing: `{ divide(by: 0) personByRowId(rowId: 1) { name } }`,
};

const mutations: Record<string, string> = {
  create: `mutation { createPerson(input: { person: { name: "new", mood: sad, email: "n@n", tags: ["x"],
    home: { street: "s", town: "t" } } }) { person { name mood email tags home { town } } } }`,
  refused: `mutation { createPerson(input: { person: { name: "new", email: "not one" } }) { person { rowId } } }`,
  update: `mutation { updatePersonByRowId(input: { rowId: 2, personPatch: { mood: sad } }) { person { rowId mood petsByOwnerId
    { nodes { name } } } } }`,
  function: `mutation { renameAll(input: { suffix: "!" }) { result { rowId name } } }`,
  delete: `mutation { deletePersonByRowId(input: { rowId: 4 }) { deletedPersonId person { name } } }`,
};

describe("a pooled instance", () => {
  it("has the same schema as a dedicated one", async () => {
    expect(await sdlOf(pooled)).toBe(await sdlOf(dedicated));
  });

  it.each(Object.entries(documents))("answers %s like a dedicated one", async (name, query) => {
    const [one, other] = [
      await worker.ask(pooled, { tenant: "t7", query }),
      await worker.ask(dedicated, { tenant: "t7", query }),
    ];
    expect(one.text).toBe(other.text);
    expect(one).toMatchObject({ status: 200, ledger: 0 });
    expect(
      one.json.errors?.map((error: { path?: unknown; message: string }) => error.path ?? error.message),
    ).toEqual(name === "failing" ? [["divide"]] : undefined);
  });

  it("continues from its own cursors, like a dedicated one", async () => {
    const page = (after: string | null) => ({
      tenant: "t7",
      query: `query ($after: Cursor) { allPeople(first: 2, after: $after, orderBy: NAME_ASC) {
        nodes { name } pageInfo { endCursor } } }`,
      variables: { after },
    });
    const names: string[] = [];
    for (const serv of [pooled, dedicated]) {
      let after: string | null = null;
      for (let n = 0; n < 3; n += 1) {
        const { json, text } = await worker.ask(serv, page(after));
        expect(json.errors, text).toBeUndefined();
        const allPeople: Page = json.data.allPeople;
        names.push(...allPeople.nodes.map((node) => node.name));
        after = allPeople.pageInfo.endCursor;
      }
    }
    expect(names).toHaveLength(10);
    expect(names.slice(0, 5)).toEqual(names.slice(5));
  });

  it.each(Object.entries(mutations))("changes by %s the rows a dedicated one would", async (name, query) => {
    const rows = (tenant: string) =>
      database.query(`select name, mood, email, home, tags from ${tenant}.person order by id`);
    const [one, other] = [
      await worker.ask(pooled, { tenant: "t8", query }),
      await worker.ask(dedicated, { tenant: "t7", query }),
    ];
    expect(one.text.replaceAll("t8", "t7")).toBe(other.text);
    const text = (value: unknown) => JSON.stringify(value).replaceAll("t8", "t7");
    expect(text(await rows("t8"))).toBe(text(await rows("t7")));
    expect(one.json.errors === undefined, one.text).toBe(name !== "refused");
    expect(one.ledger).toBe(one.json.errors === undefined ? 1 : 0);
  });

  it("answers each of 20 interleaved tenants from its own schema alone", async () => {
    const before = await database.query("select count(*)::int as n from t3.person");
    await Promise.all(
      Array.from({ length: 200 }, async (_, n) => {
        const tenant = tenants[n % 20] ?? "";
        const query =
          n % 10 === 9
            ? "mutation { updatePersonByRowId(input: { rowId: 1, personPatch: { mood: sad } }) { person { name } } }"
            : "{ whoami allPeople { nodes { name email mood } } }";
        const { json, text } = await worker.ask(pooled, { tenant, query });
        expect(json.errors).toBeUndefined();
        const named = text.match(/\bt\d+ \d/g) ?? [];
        expect(named.length).toBeGreaterThan(0);
        expect(new Set(named.map((name) => name.split(" ")[0]))).toEqual(new Set([tenant]));
        if (n % 10 !== 9) expect(json.data.whoami).toBe(`${tenant} ${tenant}, public, pg_temp`);
      }),
    );
    expect(await database.query("select count(*)::int as n from t3.person")).toEqual(before);
    expect(worker.instances.takeFigures().connections).toMatchObject({ total: 2, waiting: 0 });
  });

  it("gives no access to a schema that the request's role may not use", async () => {
    const { json } = await worker.ask(dedicated, { tenant: "t1", query: "{ allPeople { nodes { name } } }" });
    expect(json.errors[0].message).toMatch(/permission denied for schema t7/);
  });
});
