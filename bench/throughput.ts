/** Requests per second, latency and CPU per request: stock on its own node server, and the host, dedicated and pooled. */
import type { Bench } from "./bench.ts";
import type { BenchDatabase } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { type Figures, type Found, figureOf, measuredOf } from "./report.ts";
import { measureLoad, type ServerArm, startRowhouse, startStock } from "./server.ts";
import { serveInTurn } from "./serving.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
/** With `--host DIR`: this checkout's host, and the other's on the same database. */
const hosts = ["pooled", "other"] as const;
type Arm = (typeof arms)[number] | (typeof hosts)[number];
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
function startServer(arm: Arm, database: BenchDatabase, host: string | undefined): Promise<ServerArm> {
  if (arm === "stock") return startStock(database, database.tenants);
  const pooling = arm !== "dedicated";
  return startRowhouse({
    database,
    tenants: database.tenants,
    // Dedicated tenants are spread over two cells.
    poolSize: pooling ? 8 : 4,
    config: { pooling },
    host: arm === "other" ? host : undefined,
  });
}

/** Each arm of `compared` over `base`, by operation. */
function ratiosOver(base: Arm, compared: readonly Arm[], found: Pick<Found, "arms">): Figures {
  const ratios: Record<string, number> = {};
  for (const name of names) {
    const of = (arm: string, figure: string): number => figureOf(found, `${name} · ${arm}`, figure);
    const cpu = (arm: string): number => of(arm, "server CPU µs") + of(arm, "postgres CPU µs");
    for (const arm of compared) {
      ratios[`${name}: req/s, ${arm} over ${base}`] = of(arm, "req/s") / of(base, "req/s");
      ratios[`${name}: CPU, ${arm} over ${base}`] = cpu(arm) / cpu(base);
    }
  }
  return measuredOf(ratios);
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10, host }) {
    const compared: readonly Arm[] = host === undefined ? arms : hosts;
    const rounds = await serveInTurn({
      tenants,
      tables,
      rounds: quick ? 1 : host === undefined ? 3 : 6,
      arms: compared,
      operations,
      start: (arm, database) => startServer(arm, database, host),
      measure: (load) => measureLoad(load, quick ? 1_000 : 5_000),
    });
    const found = { arms: rounds.medians };
    return {
      ...found,
      rounds: rounds.all,
      ratios:
        host === undefined
          ? ratiosOver("stock", ["dedicated", "pooled"], found)
          : ratiosOver("other", ["pooled"], found),
      notes: [
        `${tenants} tenants × ${tables} tables, 8 connections, load from a process of its own on the same machine`,
        'the hosts run with their default guard, "writes": their mutations prove the schema, stock\'s do not',
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
