import { MessageChannel } from "node:worker_threads";
import { Piscina } from "piscina";
import { expect, it } from "vitest";
import { cellId } from "../../src/kernel/ids.ts";
import type { CellMessage, CellSetup } from "../../src/protocol/messages.ts";
import { createDatabase } from "../support/database.ts";
import { presetUrl, specOf, until, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const amber = JSON.stringify(import.meta.resolve("postgraphile/presets/amber"));
const grafast = JSON.stringify(import.meta.resolve("postgraphile/grafast"));
/** Each request leaves a promise behind that nobody waits for, and that fails: by itself, and in SQL. */
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

it("a thread outlives the promises that a plugin drops, and says what they were", async () => {
  const database = await createDatabase("thread");
  await database.execute(workerTenantSql("ada"));
  const setup: CellSetup = {
    cell: cellId(1),
    applicationName: "rowhouse:thread-test",
    databases: { main: { url: database.url, poolSize: 2 } },
    preset: careless,
    graphiql: false,
    production: true,
    resultBytes: 1_000_000,
    operations: { fields: 1_000, depth: 16, introspection: true },
    statementTimeoutMs: 30_000,
    ledger: new SharedArrayBuffer(8),
  };
  const pool = new Piscina({
    filename: new URL("../../workers/cell.ts", import.meta.url).href,
    workerData: setup,
    minThreads: 1,
    maxThreads: 1,
    atomics: "disabled",
  });
  const { port1, port2 } = new MessageChannel();
  const logged: string[] = [];
  port1.on("message", (message: CellMessage) => {
    if (message.kind === "log") logged.push(message.message);
  });
  try {
    await pool.run({ kind: "open", port: port2 }, { transferList: [port2] });
    expect(
      await pool.run({ kind: "build", instance: 1, spec: specOf("pooled", { app: "ada" }, 1) }),
    ).toMatchObject({ ok: true });
    const worker = new Worker(database);
    for (let n = 0; n < 3; n += 1) {
      const ask = { tenant: "ada", query: "{ careless whoami }", settings: { role: "ada" } };
      const reply = await pool.run({
        ...worker.task(ask, worker.scope(ask)),
        instance: 1,
        settings: ask.settings,
      });
      expect(reply).toMatchObject({
        ok: true,
        value: { status: 200, body: expect.stringMatching(/answered.*ada/) },
      });
    }
    await until(() => logged.filter((line) => line.includes("dropped")).length === 3);
    await until(() => logged.filter((line) => line.includes("division by zero")).length === 3);
    expect(pool.threads).toHaveLength(1);
  } finally {
    port1.close();
    await pool.destroy();
    await database.drop();
  }
});
