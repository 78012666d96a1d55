/** What the guard costs: mutations and queries per second with guard off, writes and all, and schema reads per write. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";
import { measureLoad, metricOf, type ServerArm, startRowhouse } from "./server.ts";

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

/** Read until they rest: checks are told with a cell's pong, once a second. */
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

async function oneRound(
  database: BenchDatabase,
  guard: (typeof arms)[number],
  durationMs: number,
  rounds: Rounds,
): Promise<string> {
  const tenants = database.tenants.map((tenant) => tenant.id);
  const server = await startRowhouse({
    database,
    tenants: database.tenants,
    poolSize: 8,
    config: { pooling: true, guard },
  });
  try {
    const answers: string[] = [];
    for (const tenant of tenants) {
      for (const query of Object.values(operations)) answers.push(await server.ask(tenant, query));
    }
    for (const [name, query] of Object.entries(operations)) {
      const before = await countersOf(server);
      const figures = await measureLoad(server, database, tenants, query, durationMs);
      const after = await countersOf(server);
      const checks = after.checks - before.checks;
      const guarded = guard === "all" || (guard === "writes" && name === "mutation");
      if ((checks !== 0) !== guarded) throw new Error(`guard ${guard}: ${checks} checks of a ${name}`);
      rounds.add(`${name} · ${guard}`, {
        ...figures,
        "schema reads": after.reads - before.reads,
        // The warm-up's are in it, so that it says only whether there are any.
        "guard checks": checks,
      });
    }
    return answers.join("\n");
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 4); round += 1) {
        const answers = new Set<string>();
        for (const guard of inTurn(arms, round)) {
          answers.add(await oneRound(database, guard, quick ? 1_000 : 5_000, rounds));
        }
        if (answers.size !== 1 || [...answers].some((text) => text.includes('"errors"'))) {
          throw new Error(`the arms answered differently, or with errors:\n${[...answers].join("\n\n")}`);
        }
      }
    } finally {
      await database.close();
    }
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
    {
      kind: "bars",
      title: "What proving the schema costs",
      unit: "requests per second",
      subtitle: found.notes[0] ?? "",
      groups: Object.keys(operations),
      series: arms.map((arm) => ({
        name: `guard ${arm}`,
        values: Object.keys(operations).map((name) => figureOf(found, `${name} · ${arm}`, "req/s")),
      })),
    },
  ],
};

export default bench;
