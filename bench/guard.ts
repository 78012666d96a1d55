/** What the guard costs: mutations and queries per second with guard off, writes and all, and schema reads per write. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { type Bench, startArm } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { type Figures, medians } from "./report.ts";
import { cpuSeconds, postgresCpuSeconds, type ServerArm, startServer } from "./server.ts";

const arms = ["off", "writes", "all"] as const;
const operations = {
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
  query: "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
} as const;

const measured = z.object({
  requests: z.number(),
  requestsPerSecond: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  failed: z.number(),
});

interface Counters {
  readonly reads: number;
  readonly checks: number;
}

/** Read until they rest: checks are told with a cell's pong, once a second. */
async function countersOf(server: ServerArm): Promise<Counters> {
  let before = -1;
  for (;;) {
    const text = await (await fetch(new URL("/metrics", server.adminUrl))).text();
    const of = (name: string): number =>
      Number(new RegExp(`^rowhouse_${name} (\\S+)`, "m").exec(text)?.[1] ?? 0);
    const counters = { reads: of("schema_reads_total"), checks: of("guard_checks_total") };
    if (counters.checks === before) return counters;
    before = counters.checks;
    await sleep(1_200);
  }
}

async function load(
  server: ServerArm,
  tenants: readonly string[],
  query: string,
  durationMs: number,
): Promise<Figures> {
  const before = await countersOf(server);
  const child = startArm("load");
  const warmMs = durationMs / 3;
  child.send({ input: { url: server.url, tenants, query, connections: 8, warmMs, durationMs } });
  await once(child, "message");
  const [server0, postgres0] = [await cpuSeconds(server.child.pid), await postgresCpuSeconds()];
  const [message]: unknown[] = await once(child, "message");
  const [server1, postgres1] = [await cpuSeconds(server.child.pid), await postgresCpuSeconds()];
  const { requests, requestsPerSecond, p50Ms, p99Ms, failed } = measured.parse(message);
  if (failed > 0) throw new Error(`${failed} requests failed: ${query}`);
  const after = await countersOf(server);
  return {
    "req/s": requestsPerSecond,
    "p50 ms": p50Ms,
    "p99 ms": p99Ms,
    "server CPU µs": ((server1 - server0) * 1e6) / requests,
    "postgres CPU µs": ((postgres1 - postgres0) * 1e6) / requests,
    "schema reads": after.reads - before.reads,
    // The warm-up's are in it, so that it says only whether there are any.
    "guard checks": after.checks - before.checks,
    requests,
  };
}

async function oneRound(
  database: BenchDatabase,
  guard: (typeof arms)[number],
  durationMs: number,
  into: Record<string, Figures[]>,
): Promise<string> {
  const tenants = database.tenants.map((tenant) => tenant.id);
  const server = await startServer("pooled", database, database.tenants, [], guard);
  try {
    const answers: string[] = [];
    for (const tenant of tenants) {
      for (const query of Object.values(operations)) answers.push(await server.ask(tenant, query));
    }
    for (const [name, query] of Object.entries(operations)) {
      const figures = await load(server, tenants, query, durationMs);
      const guarded = guard === "all" || (guard === "writes" && name === "mutation");
      if ((figures["guard checks"] !== 0) !== guarded) {
        throw new Error(`guard ${guard}: ${figures["guard checks"]} checks of a ${name}`);
      }
      const key = `${name} · ${guard}`;
      into[key] = [...(into[key] ?? []), figures];
    }
    return answers.join("\n");
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds: Record<string, Figures[]> = {};
    const seconds = quick ? 1 : 5;
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 4); round += 1) {
        const answers = new Set<string>();
        for (const guard of round % 2 === 0 ? arms : arms.toReversed()) {
          answers.add(await oneRound(database, guard, seconds * 1_000, rounds));
        }
        if (answers.size !== 1 || [...answers].some((text) => text.includes('"errors"'))) {
          throw new Error(`the arms answered differently, or with errors:\n${[...answers].join("\n\n")}`);
        }
      }
    } finally {
      await database.close();
    }
    const found = Object.fromEntries(Object.entries(rounds).map(([name, each]) => [name, medians(each)]));
    const of = (arm: string, figure: string): number => found[arm]?.[figure] ?? Number.NaN;
    const ratios: Record<string, number> = {};
    for (const name of Object.keys(operations)) {
      for (const guard of ["writes", "all"]) {
        ratios[`${name}: req/s, ${guard} over off`] =
          of(`${name} · ${guard}`, "req/s") / of(`${name} · off`, "req/s");
      }
    }
    const writes = Object.entries(rounds).flatMap(([arm, each]) => (arm === "mutation · writes" ? each : []));
    const sum = (figure: string): number => writes.reduce((total, each) => total + (each[figure] ?? 0), 0);
    ratios["schema reads per write"] = sum("schema reads") / sum("requests");
    return {
      arms: found,
      rounds,
      ratios,
      notes: [
        `${tenants} tenants × ${tables} tables of one shape, pooled; 8 connections, load from a process of its own on the same machine`,
      ],
      charts: [
        {
          title: "Mutations per second, by guard",
          unit: "req/s",
          bars: arms.map((arm) => ({ label: arm, value: of(`mutation · ${arm}`, "req/s") })),
        },
      ],
    };
  },
};

export default bench;
