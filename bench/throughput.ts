/** Requests per second, latency and CPU per request: stock on its own node server, and the host, dedicated and pooled. */
import type { Bench } from "./bench.ts";
import type { BenchDatabase } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { figureOf, measuredOf } from "./report.ts";
import { measureLoad, type ServerArm, startRowhouse, startStock } from "./server.ts";
import { serveInTurn } from "./serving.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
export const operations = {
  typename: "{ __typename }",
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  "one query": "{ allT1Items(first: 10, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
} as const;
const names = Object.keys(operations);

/** Uses the host's defaults, including the guard on writes; only the pools are as large as stock's. */
function startServer(arm: (typeof arms)[number], database: BenchDatabase): Promise<ServerArm> {
  if (arm === "stock") return startStock(database, database.tenants);
  return startRowhouse({
    database,
    tenants: database.tenants,
    // Dedicated tenants are spread over two cells.
    poolSize: arm === "pooled" ? 8 : 4,
    config: { pooling: arm === "pooled" },
  });
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const rounds = await serveInTurn({
      tenants,
      tables,
      rounds: quick ? 1 : 3,
      arms,
      operations,
      start: startServer,
      measure: (load) => measureLoad(load, quick ? 1_000 : 5_000),
    });
    const found = { arms: rounds.medians };
    const ratios: Record<string, number> = {};
    for (const name of names) {
      const of = (arm: string, figure: string): number => figureOf(found, `${name} · ${arm}`, figure);
      const cpu = (arm: string): number => of(arm, "server CPU µs") + of(arm, "postgres CPU µs");
      for (const arm of ["dedicated", "pooled"]) {
        ratios[`${name}: req/s, ${arm} over stock`] = of(arm, "req/s") / of("stock", "req/s");
        ratios[`${name}: CPU, ${arm} over stock`] = cpu(arm) / cpu("stock");
      }
    }
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables, 8 connections, load from a process of its own on the same machine`,
        "dedicated and pooled run with the host's default guard, \"writes\": their mutations prove the schema, stock's do not",
      ],
    };
  },
  charts: (found) => {
    // Left out: without SQL it is ten times as fast as the others, and would make their bars tiny.
    const bars = { operations: names.filter((name) => name !== "typename"), arms };
    return [
      operationBars(found, {
        ...bars,
        title: "Requests per second",
        unit: "more is better",
        figures: ["req/s"],
      }),
      operationBars(found, {
        ...bars,
        title: "CPU per request, server and PostgreSQL together",
        unit: "µs, less is better",
        figures: ["server CPU µs", "postgres CPU µs"],
      }),
    ];
  },
};

export default bench;
