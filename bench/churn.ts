/** More blueprints than fit: a cache of stock instances in one heap against the host, with equal memory and load. */
import { setTimeout as sleep } from "node:timers/promises";
import { request } from "undici";
import { z } from "zod";
import { type Bench, inTurn, runArm } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { memoryOf } from "./processes.ts";
import { type Figures, figureOf, measuredOf, Rounds } from "./report.ts";
import { metricOf, type ServerArm, startRowhouse, startStock } from "./server.ts";

/** A cache of the size that such caches have by default, one that fits, and the host. */
const arms = ["stock, 50 cached", "stock, 3 cached", "rowhouse"] as const;
type Arm = (typeof arms)[number];

const memoryMb = 512;
const query = "{ allT1Items(first: 1) { nodes { name } } }";
const expected = '{"data":{"allT1Items":{"nodes":[{"name":"TENANT item 1"}]}}}';

const loadAnswer = z.object({
  asked: z.number(),
  answered: z.number(),
  wrong: z.number(),
  // Null if there were no answers.
  p50Ms: z.number().nullable(),
  p99Ms: z.number().nullable(),
  failures: z.string(),
});

function start(arm: Arm, database: BenchDatabase): Promise<ServerArm> {
  const { tenants } = database;
  if (arm === "rowhouse") {
    // The database allows as many connections as the cells may open.
    return startRowhouse({ database, tenants, config: { pooling: true, cells: { memoryMb } } });
  }
  return startStock(database, tenants, {
    instances: arm === "stock, 50 cached" ? 50 : 3,
    // What 512 MB leave for the heap beside the rest of the process.
    execArgv: [`--max-old-space-size=${memoryMb - 100}`],
  });
}

const stockFigures = z.object({ builds: z.number(), evictions: z.number() });

/** Builds and evictions so far; undefined if the server does not answer. */
async function countsOf(arm: Arm, server: ServerArm): Promise<z.infer<typeof stockFigures> | undefined> {
  try {
    if (arm === "rowhouse") {
      return {
        builds: await metricOf(server, "builds_total"),
        evictions: await metricOf(server, "evictions_total"),
      };
    }
    const { body } = await request(new URL("/figures", server.url));
    return stockFigures.parse(await body.json());
  } catch {
    return undefined;
  }
}

interface Run {
  readonly durationMs: number;
  /** How long a client waits for its answer. */
  readonly patienceMs: number;
}

interface Endured {
  readonly figures: Figures;
  readonly points: [number, number][];
  readonly failures: string;
}

async function endure(arm: Arm, database: BenchDatabase, run: Run): Promise<Endured> {
  const { durationMs, patienceMs } = run;
  const server = await start(arm, database);
  const points: [number, number][] = [];
  let peakMb = 0;
  let counts = { builds: 0, evictions: 0 };
  let over = false;
  const startedMs = performance.now();
  const watching = (async () => {
    while (!over && server.alive) {
      const memory = await memoryOf(server.child.pid);
      if (!Number.isNaN(memory.rssMb)) {
        points.push([(performance.now() - startedMs) / 1_000, memory.rssMb]);
        peakMb = Math.max(peakMb, memory.peakMb);
      }
      counts = (await countsOf(arm, server)) ?? counts;
      await sleep(durationMs / 150);
    }
  })();
  try {
    const load = await runArm(
      "churn-load",
      {
        url: server.url,
        tenants: database.tenants.map(({ id }) => id),
        query,
        expected,
        perSecond: 20,
        durationMs,
        patienceMs,
      },
      (message) => loadAnswer.parse(message),
    );
    if (load.wrong > 0) throw new Error(`${arm}: ${load.wrong} wrong answers`);
    if (server.alive) counts = (await countsOf(arm, server)) ?? counts;
    const diedAfter = server.alive ? {} : { "died after s": points.at(-1)?.[0] ?? Number.NaN };
    over = true;
    await watching;
    return {
      points,
      failures: load.failures,
      figures: {
        answered: load.answered,
        failed: load.asked - load.answered,
        builds: counts.builds,
        evictions: counts.evictions,
        "peak RSS MB": peakMb,
        "p50 ms": load.p50Ms ?? Number.NaN,
        "p99 ms": load.p99Ms ?? Number.NaN,
        ...diedAfter,
      },
    };
  } finally {
    over = true;
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = 60, tables = 20 }) {
    const database = await benchDatabase(tenants, tables, tenants);
    const rounds = new Rounds();
    const series: Record<string, [number, number][]> = {};
    const failures: string[] = [];
    const run = quick
      ? { durationMs: 6_000, patienceMs: 10_000 }
      : { durationMs: 300_000, patienceMs: 120_000 };
    try {
      await database.installControl();
      // A single round, because each arm takes five minutes.
      for (const arm of inTurn(arms, 0)) {
        const endured = await endure(arm, database, run);
        rounds.add(arm, endured.figures);
        series[arm] = endured.points;
        if (endured.failures !== "{}") failures.push(`${arm} failed with ${endured.failures}`);
      }
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    const share = (arm: Arm): number =>
      figureOf(found, arm, "answered") / (figureOf(found, arm, "answered") + figureOf(found, arm, "failed"));
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(Object.fromEntries(arms.map((arm) => [`answered, ${arm}`, share(arm)]))),
      series,
      notes: [
        `${tenants} blueprints of ${tables} tables in ${memoryMb} MB, 20 requests a second by a Zipf law, ${run.durationMs / 1_000} s`,
        `a process that ended is not started again; clients wait for ${run.patienceMs / 1_000} s`,
        ...failures,
      ],
    };
  },
  charts: (found) => [
    {
      kind: "lines",
      title: "Memory under more blueprints than fit",
      unit: "RSS in MB",
      subtitle: found.notes[0] ?? "",
      across: "seconds",
      series: arms.map((arm) => {
        const died = figureOf(found, arm, "died after s");
        const [answered, failed] = [figureOf(found, arm, "answered"), figureOf(found, arm, "failed")];
        const note = `${Number.isNaN(died) ? "" : "ended; "}${failed} of ${answered + failed} failed`;
        return { name: arm, points: found.series?.[arm] ?? [], note };
      }),
    },
  ],
};

export default bench;
