/** How much of a cell's memory the process returns after the cell is evicted, and how soon. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Bench } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { memoryOf } from "./processes.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";
import { type ServerArm, startRowhouse } from "./server.ts";
import { cellOf, waitForStatus } from "./status.ts";

const query = "{ allT1Items(first: 1) { nodes { name } } }";
/** Enough for one instance of the bench's tables, but not for two. */
const heapMb = 128;

interface Followed {
  readonly figures: Readonly<Record<string, number>>;
  /** Pairs of seconds since the eviction and MB. */
  readonly points: [number, number][];
}

/** Fills a cell for each tenant but the last, evicts them all, and records the process's memory. */
async function follow(database: BenchDatabase): Promise<Followed> {
  const tenants = database.tenants.slice(0, -1);
  const [last] = database.tenants.slice(-1);
  const server = await startRowhouse({
    database,
    tenants: database.tenants,
    config: { cells: { memoryMb: 8192, heapMb, spare: 0, max: tenants.length } },
  });
  const rss = async (): Promise<number> => (await memoryOf(server.child.pid)).rssMb;
  try {
    // A cell is started and evicted first: the memory that the front then keeps to serve and end one is not the cells'.
    await serve(server, [last?.id ?? ""]);
    await evictAll(server);
    await sleep(10_000);
    const before = await rss();
    await serve(
      server,
      tenants.map(({ id }) => id),
    );
    const { cells } = await waitForStatus(server, (status) => status.cells.length === tenants.length);
    if (cells.some(({ instances }) => instances.length !== 1)) throw new Error("a cell holds two instances");
    const filled = await rss();
    const points: [number, number][] = [[-1, filled]];
    await evictAll(server);
    const startedMs = performance.now();
    const at = async (seconds: number): Promise<number> => {
      await sleep(Math.max(0, startedMs + seconds * 1_000 - performance.now()));
      const value = await rss();
      points.push([seconds, value]);
      return value;
    };
    await at(0);
    const after1 = await at(1);
    for (let second = 2; second < 10; second += 1) await at(second);
    const after10 = await at(10);
    for (let second = 11; second <= 15; second += 1) await at(second);
    const back = (value: number): number => ((filled - value) / (filled - before)) * 100;
    return {
      figures: {
        "RSS MB before": before,
        "RSS MB with": filled,
        "RSS MB 1 s after": after1,
        "RSS MB 10 s after": after10,
        "% back after 1 s": back(after1),
        "% back after 10 s": back(after10),
      },
      points,
    };
  } finally {
    await server.stop();
  }
}

async function serve(server: ServerArm, tenants: readonly string[]): Promise<void> {
  for (const tenant of tenants) {
    const answer = await server.ask(tenant, query);
    if (!answer.includes(`${tenant} item 1`)) throw new Error(`${tenant} answered ${answer}`);
    await cellOf(server, tenant);
  }
}

/** Resolves when every cell's thread has exited. */
async function evictAll(server: ServerArm): Promise<void> {
  const { cells } = await waitForStatus(server, () => true);
  for (const { id } of cells) await server.admin("/evict", { cell: id });
  await waitForStatus(server, (status) => status.cells.length === 0);
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 3 : 8, tables = 120 }) {
    const database = await benchDatabase(tenants + 1, tables);
    const rounds = new Rounds();
    let points: [number, number][] = [];
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        const followed = await follow(database);
        rounds.add("rowhouse", followed.figures);
        points = followed.points;
      }
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        "back after 10 s": figureOf(found, "rowhouse", "% back after 10 s") / 100,
      }),
      series: { rowhouse: points },
      notes: [
        `${tenants} cells evicted at once, each with an instance of ${tables} tables; the chart is of the last round`,
      ],
    };
  },
  charts: (found) => [
    {
      kind: "lines",
      title: "Memory of the process after its cells are evicted",
      unit: "RSS in MB",
      subtitle: found.notes[0] ?? "",
      across: "seconds after the threads have ended",
      series: [
        { name: "rowhouse", points: found.series?.["rowhouse"] ?? [] },
        {
          name: "before the cells",
          points: [-1, 15].map((second) => [second, figureOf(found, "rowhouse", "RSS MB before")] as const),
        },
      ],
    },
  ],
};

export default bench;
