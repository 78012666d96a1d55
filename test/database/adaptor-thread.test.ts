import { expect, it } from "vitest";
import { createDatabase } from "../support/database.ts";
import { openCell } from "../support/worker-cell.ts";
import { presetUrl, until } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";
import { countThreads } from "../thread/witness.ts";

const amber = JSON.stringify(import.meta.resolve("postgraphile/presets/amber"));
const grafast = JSON.stringify(import.meta.resolve("postgraphile/grafast"));
/** Each request leaves behind two promises that nobody awaits and that fail: one by itself, one in SQL. */
const careless = presetUrl(`
  import { PostGraphileAmberPreset } from ${amber};
  import { context, lambda } from ${grafast};
  export default { extends: [PostGraphileAmberPreset], plugins: [{ name: "Careless", version: "1.0.0",
    schema: { hooks: { GraphQLObjectType_fields(fields, build, { scope }) {
      if (!scope.isRootQuery) return fields;
      return { ...fields, careless: { type: build.graphql.GraphQLString, plan() {
        return lambda(context(), ({ withPgClient, pgSettings }) => {
          void Promise.reject(new Error("dropped"));
          void (async () => { await withPgClient(pgSettings, (client) => client.query({ text: "select 1/0" })); })();
          return "answered";
        });
      } } };
    } } } }] };`);

it("a thread survives the rejected promises that a plugin drops, and logs them", async () => {
  const database = await createDatabase("thread");
  await database.execute(workerTenantSql("ada"));
  const threads = countThreads();
  const { ask, logged, close } = await openCell(database, careless);
  try {
    for (let n = 0; n < 3; n += 1) {
      expect(await ask("{ careless whoami }")).toMatchObject({
        status: 200,
        body: expect.stringMatching(/answered.*ada/),
      });
    }
    await until(() => logged.filter((line) => line.includes("dropped")).length === 3);
    await until(() => logged.filter((line) => line.includes("division by zero")).length === 3);
    expect(threads).toEqual({ started: 1, running: 1 });
  } finally {
    await close();
    await database.drop();
  }
});
