/** What each patch for speed saves of a thread's CPU per request: the same cell without it, slice by slice in turn. */
import type { PatchName } from "../workers/graphile/patches.ts";
import type { Bench } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { operations } from "./operations.ts";
import { PatchedCell, type Slice } from "./patched-cell.ts";
import { measuredOf, median, Rounds } from "./report.ts";

/** The patches that act on each request; what builds and memory gain is in `density` and `memory`. */
const perRequest = [
  "select-texts",
  "change-texts",
  "lone-reads",
  "single-reads",
  "single-writes",
  "plan-cache",
  "middleware",
  "planning-time",
  "abort-reason",
] as const satisfies readonly PatchName[];

interface Lengths {
  readonly slices: number;
  readonly sliceMs: number;
}

const perRequestUs = (slices: readonly Slice[]): number =>
  median(slices.map(({ cpuUs, requests }) => cpuUs / requests));

const perSecond = (slices: readonly Slice[]): number =>
  median(slices.map(({ ms, requests }) => (1_000 * requests) / ms));

/** Two fresh threads, one with every patch and one without `patch`, which take turns. */
async function compare(database: BenchDatabase, patch: PatchName, lengths: Lengths, found: Rounds) {
  const cells = [
    { arm: "with", cell: await PatchedCell.open(1, database, []) },
    { arm: "without", cell: await PatchedCell.open(2, database, [patch]) },
  ];
  try {
    for (const [name, query] of Object.entries(operations)) {
      const answers = new Set<string>();
      for (const { cell } of cells) {
        const answer = await cell.ask(query);
        if (answer.includes('"errors"')) throw new Error(`${name}: ${answer}`);
        answers.add(answer);
        await cell.slice(query, 2 * lengths.sliceMs);
      }
      if (answers.size !== 1) throw new Error(`${patch}: ${name} is answered differently without it`);
      const slices = new Map(cells.map(({ arm }): [string, Slice[]] => [arm, []]));
      for (let slice = 0; slice < lengths.slices; slice += 1) {
        for (const { arm, cell } of slice % 2 === 0 ? cells : cells.toReversed()) {
          slices.get(arm)?.push(await cell.slice(query, lengths.sliceMs));
        }
      }
      for (const [arm, each] of slices) {
        found.add(`${name} · ${arm} ${patch}`, {
          "thread CPU µs": perRequestUs(each),
          "req/s": perSecond(each),
        });
      }
    }
  } finally {
    for (const { cell } of cells) await cell.close();
  }
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10, only }) {
    const database = await benchDatabase(tenants, tables);
    const measured = perRequest.filter((name) => only === undefined || only.includes(name));
    const lengths = quick ? { slices: 4, sliceMs: 50 } : { slices: 24, sliceMs: 100 };
    const found = new Rounds();
    const ratios: Record<string, number> = {};
    try {
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        for (const patch of measured) await compare(database, patch, lengths, found);
      }
    } finally {
      await database.close();
    }
    const arms = found.medians;
    for (const patch of measured) {
      for (const name of Object.keys(operations)) {
        const [own, plain] = ["with", "without"].map((arm) => arms[`${name} · ${arm} ${patch}`] ?? {});
        for (const figure of ["thread CPU µs", "req/s"]) {
          ratios[`${patch}: ${name}, ${figure}, without over with`] =
            (plain?.[figure] ?? Number.NaN) / (own?.[figure] ?? Number.NaN);
        }
      }
    }
    return {
      arms,
      rounds: found.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables, 8 requests at once, pooled, no guard; each pair of threads is fresh in every round`,
        "CPU of the cell's JavaScript thread alone, from /proc; two threads of one process, in slices of a tenth of a second",
      ],
    };
  },
  charts: () => [],
};

export default bench;
