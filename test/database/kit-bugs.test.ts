/** Plugins with bugs that leak data between tenants, and how the host stops them. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { kitPreset, probing } from "../support/kit-preset.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("kit_bugs");
  for (const tenant of ["ada", "bob"]) await database.execute(workerTenantSql(tenant));
});
afterAll(() => database.drop());

const firstName = "select name from person order by id limit 1";

describe("a request's context kept in a variable of the module", () => {
  // Both requests store their context before either continues, so the first finds the second's.
  const before = `let current; let waiting = 0; const met = Promise.withResolvers();
    globalThis.interleaved = 0;
    const meet = async (context) => {
      current = context;
      waiting += 1;
      if (waiting === 2) { globalThis.interleaved += 1; met.resolve(); }
      await met.promise;
    };`;
  const body = `await meet(context);
    const { rows } = await current.withPgClient(current.pgSettings, (client) => client.query({ text: "${firstName}" }));
    return rows[0].name;`;

  it.each([
    ["withPgClient", body],
    ["the kit", `await meet(context); return (await requestOf(current).query("${firstName}"))[0].name;`],
  ])("is refused, and yields no rows of another request (%s)", async (_, code) => {
    const worker = new Worker(database, { preset: kitPreset(probing(code), before), poolSize: 4 });
    const serv = await worker.build("pooled", { app: "ada" });
    const [ada, bob] = await Promise.all(
      ["ada", "bob"].map((tenant) => worker.ask(serv, { tenant, query: "{ probe }" })),
    );
    expect(Reflect.get(globalThis, "interleaved")).toBe(1);
    expect(bob?.json).toEqual({ data: { probe: "bob 1" } });
    expect(ada?.json.data).toEqual({ probe: null });
    expect(ada?.json.errors[0].message).toMatch(/settings of another request/);
  });
});

describe("a build's result kept in a variable of the module", () => {
  const keeping = (keep: string, kept: string): string =>
    kitPreset(
      `{ name: "Keeping", version: "1.0.0", schema: { hooks: { init(_, build) {
          const { schemaName, name } = build.input.pgRegistry.pgResources.person.codec.extensions.pg;
          ${keep};
          return _;
        } } } }, ${probing(`return (await request.query('select name from ' + ${kept} + ' order by id limit 1'))[0].name;`)}`,
      "let table; const tables = perBuild(() => ({}));",
    );
  const baked = `'"' + schemaName + '"."' + name + '"'`;
  const answers = async (preset: string, kind: "pooled" | "dedicated") => {
    const worker = new Worker(database, { preset });
    const ada = await worker.build(kind, { app: "ada" });
    await worker.build(kind, { app: "bob" });
    return worker.ask(ada, { tenant: "ada", query: "{ probe }" });
  };

  it("is harmless if it is a build-time schema name, which reads the requesting tenant's rows", async () => {
    for (const kind of ["pooled", "dedicated"] as const) {
      expect((await answers(keeping(`table = ${baked}`, "table"), kind)).json).toEqual({
        data: { probe: "ada 1" },
      });
    }
  });

  it("may be another build's, and PostgreSQL denies the access to the other tenant's table", async () => {
    const own = `table = instanceOf(build).identifier("app", name)`;
    const { json } = await answers(keeping(own, "table"), "dedicated");
    expect(json.data).toEqual({ probe: null });
    expect(json.errors[0].message).toMatch(/permission denied for schema bob/);
  });

  it("belongs to its own build with perBuild", async () => {
    const preset = keeping(
      `tables(build).name = instanceOf(build).identifier("app", name)`,
      "tables(build).name",
    );
    for (const kind of ["pooled", "dedicated"] as const) {
      expect((await answers(preset, kind)).json).toEqual({ data: { probe: "ada 1" } });
    }
  });

  it("cannot be read outside a build with perBuild", async () => {
    const worker = new Worker(database, {
      preset: kitPreset(probing("return String(perBuild(() => 1)({}));")),
    });
    const serv = await worker.build("pooled", { app: "ada" });
    const { json } = await worker.ask(serv, { tenant: "ada", query: "{ probe }" });
    expect(json.errors[0].message).toMatch(/pass `build` or `info`/);
  });
});

describe("rows kept under the database's name", () => {
  const byKey = (key: string): string =>
    `if (!kept.has(${key})) kept.set(${key}, (await request.query("${firstName}"))[0].name); return kept.get(${key});`;
  const bodies = {
    // Nothing can detect this one: it sends no SQL. It shows what the next one is for.
    naive: `if (!kept.has("main")) kept.set("main", (await request.query("${firstName}"))[0].name); return kept.get("main");`,
    kit: `return cache.get(request, "first", async () => (await request.query("${firstName}"))[0].name);`,
    byClient: byKey("context.withPgClient"),
    bySettings: byKey("context.pgSettings"),
    byContext: byKey("context"),
    byRequest: byKey("request"),
    byBinding: byKey("request.binding"),
    bySignal: byKey("request.signal"),
    byHeaders: byKey("request.headers"),
    refused: `return cache.get("main", "first", async () => (await request.query("${firstName}"))[0].name);`,
  };
  const ask = async (body: string) => {
    const before = "const kept = new Map(); const cache = new TenantCache({ max: 100 });";
    const worker = new Worker(database, { preset: kitPreset(probing(body), before) });
    const serv = await worker.build("pooled", { app: "ada" });
    const answers = [];
    for (const tenant of ["ada", "bob", "ada"])
      answers.push((await worker.ask(serv, { tenant, query: "{ probe }" })).json);
    return answers;
  };

  it("leak to other tenants, but not from a TenantCache", async () => {
    expect((await ask(bodies.naive)).map(({ data }) => data.probe)).toEqual(["ada 1", "ada 1", "ada 1"]);
    expect((await ask(bodies.kit)).map(({ data }) => data.probe)).toEqual(["ada 1", "bob 1", "ada 1"]);
  });

  it.each([
    "byClient",
    "bySettings",
    "byContext",
    "byRequest",
    "byBinding",
    "bySignal",
    "byHeaders",
  ] as const)(
    "do not leak if they are kept %s instead, since no object of a request is shared between tenants",
    async (by) => {
      expect((await ask(bodies[by])).map(({ data }) => data.probe)).toEqual(["ada 1", "bob 1", "ada 1"]);
    },
  );

  it("are refused by a TenantCache", async () => {
    for (const { data, errors } of await ask(bodies.refused)) {
      expect(data).toEqual({ probe: null });
      expect(errors[0].message).toMatch(/needs the request that requestOf returned/);
    }
  });
});
