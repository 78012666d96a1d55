/** What the guard costs: mutations and queries per second with guard off, writes and all, and schema reads per write. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Bench } from "./bench.ts";
import { operationBars } from "./operation-bars.ts";
import { type Figures, figureOf, measuredOf } from "./report.ts";
import { measureLoad, metricOf, type ServerArm, startRowhouse } from "./server.ts";
import { type ArmLoad, serveInTurn } from "./serving.ts";

const arms = ["off", "writes", "all"] as const;
const operations = {
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
  query: "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
} as const;

interface Counters {
  readonly reads: number;
  readonly checks: number;
}

/** Reads the counters until they stop changing, because cells report checks with their pong, once a second. */
async function countersOf(server: ServerArm): Promise<Counters> {
  let before = -1;
  for (;;) {
    const reads = await metricOf(server, "schema_reads_total");
    const checks = await metricOf(server, "guard_checks_total");
    if (checks === before) return { reads, checks };
    before = checks;
    await sleep(1_200);
  }
}

async function measure(load: ArmLoad<(typeof arms)[number]>, durationMs: number): Promise<Figures> {
  const { arm, name, server } = load;
  const before = await countersOf(server);
  const figures = await measureLoad(load, durationMs);
  const after = await countersOf(server);
  const checks = after.checks - before.checks;
  const guarded = arm === "all" || (arm === "writes" && name === "mutation");
  if ((checks !== 0) !== guarded) throw new Error(`guard ${arm}: ${checks} checks of a ${name}`);
  return {
    ...figures,
    "schema reads": after.reads - before.reads,
    // Includes the warm-up's checks, so it only tells whether there are any.
    "guard checks": checks,
  };
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const rounds = await serveInTurn({
      tenants,
      tables,
      rounds: quick ? 1 : 4,
      arms,
      operations,
      start: (guard, database) =>
        startRowhouse({
          database,
          tenants: database.tenants,
          poolSize: 8,
          config: { pooling: true, guard },
        }),
      measure: (load) => measure(load, quick ? 1_000 : 5_000),
    });
    const found = { arms: rounds.medians };
    const ratios: Record<string, number> = {};
    for (const name of Object.keys(operations)) {
      for (const guard of ["writes", "all"]) {
        ratios[`${name}: req/s, ${guard} over off`] =
          figureOf(found, `${name} · ${guard}`, "req/s") / figureOf(found, `${name} · off`, "req/s");
      }
    }
    const writes = rounds.all["mutation · writes"] ?? [];
    const sum = (figure: string): number => writes.reduce((total, each) => total + (each[figure] ?? 0), 0);
    ratios["schema reads per write"] = sum("schema reads") / sum("requests");
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables of one shape, pooled; 8 connections, load from a process of its own`,
      ],
    };
  },
  charts: (found) => [
    operationBars(found, {
      title: "What proving the schema costs",
      unit: "requests per second",
      operations: Object.keys(operations),
      arms,
      figures: ["req/s"],
      called: (arm) => `guard ${arm}`,
    }),
  ],
};

export default bench;
