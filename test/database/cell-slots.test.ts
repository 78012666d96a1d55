import { Piscina } from "piscina";
import { expect, it } from "vitest";
import { cellId } from "../../src/kernel/ids.ts";
import { receiveBody } from "../../src/protocol/body.ts";
import type { Answer, CellSetup, Reply } from "../../src/protocol/messages.ts";
import { createDatabase } from "../support/database.ts";
import { presetUrl, specOf, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const preset = presetUrl(`
  import { PostGraphileAmberPreset } from ${JSON.stringify(import.meta.resolve("postgraphile/presets/amber"))};
  import { StreamDeferPlugin } from ${JSON.stringify(import.meta.resolve("postgraphile/graphile-build"))};
  export default { extends: [PostGraphileAmberPreset], plugins: [StreamDeferPlugin] };`);
const accept = "multipart/mixed;deferSpec=20220824, application/json";

it("a body that is given up ends its statement, and takes no cancel from the next request of its place", async () => {
  const database = await createDatabase("slots");
  await database.execute(workerTenantSql("ada"));
  const setup: CellSetup = {
    cell: cellId(1),
    applicationName: "rowhouse:slots-test",
    databases: { main: { url: database.url, poolSize: 2 } },
    preset,
    graphiql: false,
    production: true,
    resultBytes: 1_000_000,
    operations: { fields: 1_000, depth: 16, introspection: true },
    statementTimeoutMs: 120_000,
    ledger: new SharedArrayBuffer(8),
  };
  const pool = new Piscina({
    filename: new URL("../../workers/cell.ts", import.meta.url).href,
    workerData: setup,
    minThreads: 1,
    maxThreads: 1,
    concurrentTasksPerWorker: 8,
    atomics: "disabled",
  });
  const asleep = async (): Promise<number> => {
    const rows = await database.query(
      "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    return rows.length;
  };
  const worker = new Worker(database);
  /** In place 0, all of them. */
  const request = (query: string): Promise<Reply<Answer>> => {
    const ask = { tenant: "ada", query, settings: { role: "ada" }, headers: { accept } };
    return pool.run({ ...worker.task(ask, worker.scope(ask)), instance: 1, settings: ask.settings });
  };
  try {
    await pool.run({ kind: "build", instance: 1, spec: specOf("pooled", { app: "ada" }, 1) });
    const streamed = await request("{ __typename ... @defer { sleep(seconds: 100) } }");
    if (!streamed.ok || streamed.value.kind !== "stream") throw new Error("not a stream");
    const reader = receiveBody(streamed.value.port).getReader();
    await reader.read();
    await expect.poll(asleep).toBe(1);

    // The host frees a place when it closes the body's port: the next request may be there before the thread hears of that.
    const next = request("{ sleep(seconds: 100) }");
    await expect.poll(asleep).toBe(2);
    await reader.cancel();
    await expect.poll(asleep).toBe(1);
    await pool.run({ kind: "cancel", slot: 0 });
    await expect.poll(asleep).toBe(0);
    await next;
  } finally {
    await pool.destroy();
    await database.drop();
  }
});
