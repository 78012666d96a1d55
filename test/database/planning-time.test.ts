import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { presetUrl, Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const limitMs = 100;

/** Fields whose planning uses CPU time, as a large plan does, or only wall time, as on a machine that is busy with others. */
const preset = presetUrl(`
  import { PostGraphileAmberPreset } from "${import.meta.resolve("postgraphile/presets/amber")}";
  import { extendSchema, gql } from "${import.meta.resolve("postgraphile/utils")}";
  import { constant } from "${import.meta.resolve("postgraphile/grafast")}";
  const cpuMs = () => { const { user, system } = process.threadCpuUsage(); return (user + system) / 1000; };
  const work = (ms) => { for (const began = cpuMs(); cpuMs() - began < ms; ); };
  const sleep = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  export default {
    extends: [PostGraphileAmberPreset],
    grafast: { timeouts: { planning: ${limitMs} } },
    plugins: [extendSchema(() => ({
      typeDefs: gql\`extend type Query { worked: Int slept: Int }\`,
      objects: { Query: { plans: {
        worked() { work(${6 * limitMs}); return constant(1); },
        slept() { sleep(${6 * limitMs}); return constant(2); },
      } } },
    }))],
  };`);

let database: TestDatabase;
let worker: Worker;
let serv: CellServ;

beforeAll(async () => {
  database = await createDatabase("planning");
  await database.execute(workerTenantSql("pia"));
  worker = new Worker(database, { preset, production: true });
  serv = await worker.build("pooled", { app: "pia" });
});
afterAll(() => database.drop());

const ask = (query: string, headers: Record<string, string> = {}) =>
  worker.ask(serv, { tenant: "pia", query, headers });

const refusal = {
  message: "Operation took too long to plan and was aborted. Please simplify the request and try again.",
  extensions: { code: "PLANNING_TIMEOUT" },
};

describe("an operation", () => {
  it("whose planning exceeds its CPU time is refused with PLANNING_TIMEOUT, and at once when it comes again", async () => {
    for (const query of ["{ worked }", "{ worked }", "query again { worked }"]) {
      const { status, json } = await ask(query);
      expect([status, json]).toEqual([200, { errors: [refusal] }]);
    }
    const { status, json } = await ask("{ worked }", { accept: "application/graphql-response+json" });
    expect([status, json.errors]).toEqual([400, [refusal]]);
  });

  it("whose planning only waits for a busy machine is answered, however long that takes", async () => {
    expect((await ask("{ slept whoami }")).json.data).toMatchObject({ slept: 2 });
    // By wall time it would exceed the limit each time it is planned.
    expect((await ask("query again { slept more: slept }")).json.data).toEqual({ slept: 2, more: 2 });
  });
});
