import { PgInsertSingleStep, PgUpdateSingleStep } from "postgraphile/@dataplan/pg";
import { sql } from "postgraphile/pg-sql2";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import type { CellServ } from "../../workers/request/grafserv.ts";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { changeCases } from "../support/select-cases.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = ["ada", "bob"] as const;
const classes = [PgInsertSingleStep, PgUpdateSingleStep] as const;
/** The library's own methods, before any instance is built. */
const originals = classes.map(({ prototype }) => prototype.execute);
const preset = new URL("../support/select-preset.ts", import.meta.url).href;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("change_texts");
});
afterAll(() => database.drop());

interface Instance {
  readonly worker: Worker;
  readonly serv: CellServ;
}

/** Both tenants in their initial state, and an instance that serves them. */
async function built(): Promise<Instance> {
  await madeAnew();
  const worker = new Worker(database, { preset, poolSize: 4 });
  return { worker, serv: await worker.build("pooled", { app: "ada" }) };
}

async function madeAnew(): Promise<void> {
  for (const tenant of tenants) {
    await database.execute(`drop schema if exists ${tenant} cascade; ${workerTenantSql(tenant)}`);
  }
}

/** Both tenants' answers, each in order and concurrently with the other's, and their rows afterwards. */
async function answers({ worker, serv }: Instance): Promise<string[]> {
  const found = await Promise.all(
    tenants.map(async (tenant) => {
      const texts: string[] = [];
      for (const { query, variables } of changeCases) {
        for (const values of variables) {
          const { text } = await worker.ask(serv, { tenant, query, variables: values });
          texts.push(`${tenant} ${JSON.stringify(values)}: ${text}`);
        }
      }
      return texts;
    }),
  );
  const rows: unknown[] = [];
  for (const tenant of tenants) {
    rows.push(await database.query(`select * from ${tenant}.person order by id`));
    rows.push(await database.query(`select * from ${tenant}.pet order by id`));
  }
  return [...found.flat(), JSON.stringify(rows)];
}

it("two tenants of one instance insert and update as if SQL were built for each request, whatever columns they set", async () => {
  const reference = await built();
  const remembering = classes.map(({ prototype }) => prototype.execute);
  for (const [index, { prototype }] of classes.entries())
    Object.assign(prototype, { execute: originals[index] });
  const expected = await answers(reference);
  for (const [index, { prototype }] of classes.entries())
    Object.assign(prototype, { execute: remembering[index] });
  for (const text of ["no new values were specified", "ada@role", "of the plan"]) {
    expect(expected.some((answer) => answer.includes(text))).toBe(true);
  }

  const instance = await built();
  for (let round = 0; round < 4; round += 1) {
    await madeAnew();
    expect([round, await answers(instance)]).toEqual([round, expected]);
  }
});

it("SQL for a list of columns that was set before is not built again", async () => {
  const instance = await built();
  await answers(instance);
  const compile = vi.spyOn(sql, "compile");
  for (const { query, variables } of changeCases.slice(0, 3)) {
    for (const values of variables) {
      await instance.worker.ask(instance.serv, { tenant: "bob", query, variables: values });
    }
  }
  expect(compile.mock.calls.length).toBe(0);
  compile.mockRestore();
});
