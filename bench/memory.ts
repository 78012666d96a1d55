/** Memory of the whole process, and of PostgreSQL for it, after a given number of tenants of one shape have each been served. */
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase, sumMb } from "./database.ts";
import { memoryOf } from "./processes.ts";
import { type Figures, figureOf, measuredOf, Rounds } from "./report.ts";
import { type ServerArm, startRowhouse, startStock } from "./server.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
const query = "{ allT1Items(first: 1) { nodes { name } } }";
const usualMarks = [1, 10, 100, 500, 1000];
/**
 * Requests to the first tenant before anything is read: a process grows by 40 MB while it warms up, whatever it serves, and needs
 * this many,
 */
const warmUp = 3_000;
/** and at least this long: the memory used for starting and building is returned some seconds later. */
const warmUpMs = 15_000;
const quickWarmUpMs = 8_000;
const served = (count: number): string => `RSS MB, ${count} served`;
const backendsAfter = (count: number): string => `PostgreSQL MB, ${count} served`;
const failedAfter = "tenants served before it failed";

function start(arm: (typeof arms)[number], database: BenchDatabase): Promise<ServerArm> {
  const { tenants } = database;
  if (arm === "stock") return startStock(database, tenants);
  const config = { pooling: arm === "pooled", cells: { memoryMb: 2048 } };
  return startRowhouse({ database, tenants, config });
}

/** Serves tenants one after the other and records the memory at each mark; an arm that dies keeps its figures so far. */
async function measure(
  arm: (typeof arms)[number],
  database: BenchDatabase,
  marks: readonly number[],
  warmMs: number,
): Promise<Figures> {
  const server = await start(arm, database);
  const figures: Record<string, number> = {};
  try {
    const untilMs = performance.now() + warmMs;
    for (let count = 0; count < warmUp || performance.now() < untilMs; count += 1) {
      await server.ask(database.tenants[0]?.id ?? "", query);
    }
    for (const [index, { id }] of database.tenants.entries()) {
      const answer = await server.ask(id, query).catch((error: unknown) => String(error));
      const expected = JSON.stringify({ data: { allT1Items: { nodes: [{ name: `${id} item 1` }] } } });
      if (answer !== expected) {
        // A process that runs out of memory closes its sockets before its exit is reported.
        await Promise.race([once(server.child, "exit"), sleep(server.alive ? 10_000 : 0)]);
        if (server.alive) throw new Error(`${arm}, ${id}: ${answer}`);
        figures[failedAfter] = index;
        break;
      }
      if (marks.includes(index + 1)) {
        figures[served(index + 1)] = (await memoryOf(server.child.pid)).rssMb;
        figures[backendsAfter(index + 1)] = sumMb(await database.backends());
      }
    }
    return figures;
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 20 : 1000, tables = 5 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    const warmMs = quick ? quickWarmUpMs : warmUpMs;
    const marks = [...usualMarks.filter((mark) => mark < tenants), tenants];
    try {
      await database.installControl();
      // Two rounds: resident memory differs by one or two percent between rounds, and a thousand builds take minutes.
      for (let round = 0; round < (quick ? 1 : 2); round += 1) {
        for (const arm of inTurn(arms, round)) rounds.add(arm, await measure(arm, database, marks, warmMs));
      }
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        [`pooled, ${tenants} served over 1`]:
          figureOf(found, "pooled", served(tenants)) / figureOf(found, "pooled", served(1)),
      }),
      series: Object.fromEntries(
        arms.map((arm) => [
          arm,
          marks.flatMap((mark): [number, number][] => {
            const rssMb = figureOf(found, arm, served(mark));
            return Number.isNaN(rssMb) ? [] : [[mark, rssMb]];
          }),
        ]),
      ),
      notes: [
        `${tenants} tenants × ${tables} tables of one shape; stock keeps one instance per tenant, as far as its heap allows`,
        `dedicated evicts what was used least recently: the plan is 2048 MB; the first tenant is asked ${warmUp} times and for ${warmMs / 1000} s before the first figure`,
        "PostgreSQL MB is the private memory of all the host's backends, from /proc, without what processes share",
      ],
    };
  },
  charts: (found) => [
    {
      kind: "lines",
      title: "Memory of the whole process, by tenants served",
      unit: "RSS in MB",
      subtitle: found.notes[0] ?? "",
      across: "tenants served",
      logarithmicAcross: true,
      series: arms.map((arm) => {
        const died = figureOf(found, arm, failedAfter);
        const points = found.series?.[arm] ?? [];
        return Number.isNaN(died)
          ? { name: arm, points }
          : { name: arm, points, note: `out of memory after ${died} tenants` };
      }),
    },
  ],
};

export default bench;
