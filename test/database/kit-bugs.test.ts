/** Plugins with the bugs that bleed tenants, and what becomes of them here. */
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
  // Both requests have stored theirs before either goes on: the first finds the second's.
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
  ])("gets another request's rows by neither: it is refused (%s)", async (_, code) => {
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

describe("what a build found out, kept in a variable of the module", () => {
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

  it("is the same for all of them where it is a schema's name: each has its own under it", async () => {
    for (const kind of ["pooled", "dedicated"] as const) {
      expect((await answers(keeping(`table = ${baked}`, "table"), kind)).json).toEqual({
        data: { probe: "ada 1" },
      });
    }
  });

  it("is another build's by then; PostgreSQL has the last word on the other tenant's table", async () => {
    const own = `table = instanceOf(build).identifier("app", name)`;
    const { json } = await answers(keeping(own, "table"), "dedicated");
    expect(json.data).toEqual({ probe: null });
    expect(json.errors[0].message).toMatch(/permission denied for schema bob/);
  });

  it("is its own with perBuild", async () => {
    const preset = keeping(
      `tables(build).name = instanceOf(build).identifier("app", name)`,
      "tables(build).name",
    );
    for (const kind of ["pooled", "dedicated"] as const) {
      expect((await answers(preset, kind)).json).toEqual({ data: { probe: "ada 1" } });
    }
  });

  it("is to be had outside a build by nobody", async () => {
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
    // Nothing can see this one: it sends no SQL. It is here to show what the next one is for.
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

  it("bleed, which a TenantCache's do not", async () => {
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
    "do not, kept %s instead: nothing that a request is given is another tenant's too",
    async (by) => {
      expect((await ask(bodies[by])).map(({ data }) => data.probe)).toEqual(["ada 1", "bob 1", "ada 1"]);
    },
  );

  it("cannot be put into a TenantCache", async () => {
    for (const { data, errors } of await ask(bodies.refused)) {
      expect(data).toEqual({ probe: null });
      expect(errors[0].message).toMatch(/needs the request that requestOf returned/);
    }
  });
});
