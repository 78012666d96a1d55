import { makeSchema } from "postgraphile";
import { PgInsertSingleStep, PgSelectStep, PgUpdateSingleStep } from "postgraphile/@dataplan/pg";
import { makePgService } from "postgraphile/adaptors/pg";
import { grafast } from "postgraphile/grafast";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createDatabase, type TestDatabase } from "../support/database.ts";
import { changeCases, keptCases, otherCases, type SelectCase } from "../support/select-cases.ts";
import own from "../support/select-preset.ts";
import { Worker } from "../support/worker-instance.ts";
import { workerTenantSql } from "../support/worker-tenant.ts";

const tenants = ["ada", "bob"] as const;
const classes = [PgSelectStep, PgInsertSingleStep, PgUpdateSingleStep] as const;
/** The library's own methods, before any instance is built. */
const originals = classes.map(({ prototype }) => prototype.execute);

const preset = new URL("../support/select-preset.ts", import.meta.url).href;

let database: TestDatabase;
beforeAll(async () => {
  database = await createDatabase("original_answers");
  await madeAnew();
});
async function madeAnew(): Promise<void> {
  for (const tenant of tenants) {
    await database.execute(`drop schema if exists ${tenant} cascade; ${workerTenantSql(tenant)}
      create table ${tenant}.kind (a int, b text default 'given', raw bytea, many numeric(30, 10) default 1.5, big bigint,
        at timestamptz, waits interval, list int[], moods ${tenant}.mood[], places ${tenant}.place[], during tstzrange,
        plain json, code uuid unique, twice int generated always as (a * 2) stored, flag boolean not null default false,
        primary key (a, b));
      grant select, insert, update, delete on ${tenant}.kind to ${tenant}`);
  }
}
afterAll(() => database.drop());

const kind =
  "a b raw many big at waits { hours } list moods places { town } during { start { value } } plain code twice flag";
const code = "00000000-0000-0000-0000-000000000001";
const kindCases: readonly SelectCase[] = [
  {
    query: `mutation ($kind: KindInput!) { createKind(input: { kind: $kind }) { kind { ${kind} } } }`,
    variables: [
      { a: 1, b: "x" },
      { a: 2, code },
      { b: "y", a: 3, raw: "AQI=" },
      { a: 4, b: null },
      { a: 5, many: "123456789012345678.5", big: "9007199254740993", at: "2020-01-01T00:00:00Z" },
      {
        a: 6,
        waits: { hours: 2 },
        list: [1, null],
        moods: ["HAPPY", null],
        places: [{ town: "'\"\\" }, null],
      },
      { a: 7, during: { start: { value: "2020-01-01T00:00:00Z", inclusive: true } }, plain: { a: 1 } },
      { a: 8, list: [], moods: [], places: [], plain: null },
      { a: 9, many: "none" },
      { a: 10, flag: null },
      { a: 1, b: "x" },
      {},
    ].map((one) => ({ kind: one })),
  },
  {
    query: `mutation ($patch: KindPatch!) {
      updateKindByAAndB(input: { a: 1, b: "x", kindPatch: $patch }) { kind { ${kind} } }
      updateKindByCode(input: { code: "${code}", kindPatch: $patch }) { kind { ${kind} } } }`,
    variables: [
      { flag: true },
      { many: null },
      { raw: "AA==", list: [9] },
      {},
      { flag: null },
      { a: 20 },
    ].map((patch) => ({ patch })),
  },
  {
    query: `query ($first: Int) { allKinds(first: $first) { nodes { ${kind} } } }`,
    variables: [{}, { first: 2 }, { first: 3 }],
  },
];
const cases = [...keptCases, ...otherCases, ...changeCases, ...kindCases].filter(
  ({ query }) => !query.includes("$after"),
);

/** An answer without the digest of the ORDER BY SQL in its cursors, since only one of the two qualifies names. */
function comparable({ data, errors = [] }: { readonly data?: unknown; readonly errors?: readonly object[] }) {
  const text = JSON.stringify(data ?? null, (key, value: unknown) =>
    typeof value === "string" && /cursor$/i.test(key)
      ? Buffer.from(value, "base64")
          .toString()
          .replace(/^\["\w+"/, "")
      : value,
  );
  return `${text} ${errors.map((error) => Reflect.get(error, "message"))}`;
}

/** The tenant's answers from PostGraphile alone, and the rows it leaves in the tables. */
async function original(tenant: string): Promise<string[]> {
  const pgServices = [makePgService({ connectionString: database.url, schemas: [tenant] })];
  const pgSettings = { role: tenant, search_path: `${tenant}, public` };
  try {
    const { schema, resolvedPreset } = await makeSchema({
      extends: [own],
      pgServices,
      grafast: { context: () => ({ pgSettings }) },
    });
    const found: string[] = [];
    for (const { query: source, variables } of cases) {
      for (const variableValues of variables) {
        const result = await grafast({ schema, resolvedPreset, requestContext: {}, source, variableValues });
        if (Symbol.asyncIterator in result) throw new Error("an answer in parts");
        found.push(comparable(JSON.parse(JSON.stringify(result))));
      }
    }
    return [...found, ...(await left(tenant))];
  } finally {
    await pgServices[0]?.release?.();
  }
}

async function left(tenant: string): Promise<string[]> {
  const tables = ["person", "pet", "kind"];
  return Promise.all(
    tables.map(async (table) =>
      JSON.stringify(await database.query(`select r::text from ${tenant}.${table} r order by r.*::text`)),
    ),
  );
}

it("every answer, and every row left in the tables, equals PostGraphile's alone, in each of four rounds", async () => {
  expect(classes.map(({ prototype }) => prototype.execute)).toEqual(originals);
  const expected = await Promise.all(tenants.map(original));
  expect(expected.flat().join()).toContain("123456789012345678.5");

  const worker = new Worker(database, { preset, poolSize: 4 });
  const serv = await worker.build("pooled", { app: "ada" });
  for (let round = 1; round <= 4; round += 1) {
    await madeAnew();
    const found = await Promise.all(
      tenants.map(async (tenant) => {
        const answers: string[] = [];
        for (const { query, variables } of cases) {
          for (const values of variables) {
            const ask = { tenant, tag: `${tenant}${round}`, query, variables: values };
            answers.push(comparable((await worker.ask(serv, ask)).json));
          }
        }
        return [...answers, ...(await left(tenant))];
      }),
    );
    expect([round, found]).toEqual([round, expected]);
  }
});
