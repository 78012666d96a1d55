import { PgSelectStep } from "postgraphile/@dataplan/pg";
import { sql } from "postgraphile/pg-sql2";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { keptCases, otherCases, type SelectCase } from "../support/select-cases.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = ["ada", "bob"] as const;
/** The library's own method, before any instance is built. */
const { execute } = PgSelectStep.prototype;
const preset = new URL("../support/select-preset.ts", import.meta.url).href;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("select_texts");
  for (const tenant of tenants) {
    await database.execute(workerTenantSql(tenant));
    await database.execute(
      `insert into ${tenant}.pet (name, owner_id) select '${tenant} more ' || n, 1 + n % 3 from generate_series(1, 7) n`,
    );
  }
});
afterAll(() => database.drop());

interface Instance {
  readonly worker: Worker;
  readonly serv: CellServ;
}

async function built(): Promise<Instance> {
  const worker = new Worker(database, { preset, poolSize: 4 });
  return { worker, serv: await worker.build("pooled", { app: "ada" }) };
}

/** Meanwhile every select, of any instance, is built anew for each request. */
async function withoutTexts<Value>(work: () => Promise<Value>): Promise<Value> {
  const remembering = PgSelectStep.prototype.execute;
  PgSelectStep.prototype.execute = execute;
  try {
    return await work();
  } finally {
    PgSelectStep.prototype.execute = remembering;
  }
}

/** Both tenants' answers, concurrently. */
async function answers({ worker, serv }: Instance, { query, variables }: SelectCase): Promise<string[]> {
  const asked = variables.flatMap((values) =>
    tenants.map((tenant) => ({ tenant, query, variables: values })),
  );
  return Promise.all(
    asked.map(
      async (ask) => `${ask.tenant} ${JSON.stringify(ask.variables)}: ${(await worker.ask(serv, ask)).text}`,
    ),
  );
}

/** `<2>` becomes the cursor of the second person. */
async function withCursors(cases: readonly SelectCase[], instance: Instance): Promise<readonly SelectCase[]> {
  const { worker, serv } = instance;
  const { json } = await worker.ask(serv, { tenant: "ada", query: "{ allPeople { edges { cursor } } }" });
  const text = JSON.stringify(cases).replace(
    /<(\d)>/g,
    (_, number) => json.data.allPeople.edges[number - 1].cursor,
  );
  return JSON.parse(text);
}

it("two tenants of one instance get the same answers as if SQL were built for each request, whatever the variables", async () => {
  const instance = await built();
  const cases = await withoutTexts(() => withCursors([...keptCases, ...otherCases], instance));
  const expected = await withoutTexts(async () => {
    const reference = await built();
    const found: string[][] = [];
    for (const one of cases) found.push(await answers(reference, one));
    return found;
  });
  expect(JSON.stringify(expected)).toContain("ada more 3");
  for (let round = 0; round < 5; round += 1) {
    for (const [index, one] of cases.entries()) {
      expect([round, await answers(instance, one)]).toEqual([round, expected[index]]);
    }
  }
});

it("SQL that depends on nothing of a request is built for two requests and then never again", async () => {
  const instance = await built();
  const compile = vi.spyOn(sql, "compile");
  for (const one of keptCases) {
    for (const variables of one.variables) {
      const alone = { query: one.query, variables: [variables] };
      // Repeated, and by two tenants: for the plan, for its first use, and for its second.
      await answers(instance, alone);
      await answers(instance, alone);
      await answers(instance, alone);
      compile.mockClear();
      await answers(instance, alone);
      expect([one.query, variables, compile.mock.calls.length]).toEqual([one.query, variables, 0]);
    }
  }
  compile.mockRestore();
});
