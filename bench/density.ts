/** Heap and build time of an instance in a database of many tenants: stock, scoped to its tenant, and shared. */
import { z } from "zod";
import { type Bench, inTurn, runArm } from "./bench.ts";
import { benchDatabase } from "./database.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";

const arms = ["stock", "scoped", "pooled"] as const;
/** Measures a schema of many tables, in a database with two of them. */
const wideTables = 300;
const wideTenants = 2;
const query = "{ allT1Items(first: 3) { nodes { rowId name mood } } }";
const armAnswer = z.object({ heapMb: z.number(), buildMs: z.number(), answer: z.string() });

interface Size {
  readonly tenants: number;
  readonly tables: number;
  readonly rounds: number;
  /** How many instances each arm builds; the large database allows only one of stock's. */
  readonly built: (arm: string) => number;
  readonly name: (arm: string) => string;
}

async function measure({ tenants, tables, rounds, built, name }: Size, found: Rounds): Promise<void> {
  const database = await benchDatabase(tenants, tables);
  try {
    const answers = new Set<string>();
    for (let round = 0; round < rounds; round += 1) {
      for (const arm of inTurn(arms, round)) {
        const chosen = database.tenants.slice(0, built(arm));
        const { answer, heapMb, buildMs } = await runArm(
          "density",
          { arm, url: database.url, tenants: chosen.toReversed(), query },
          (message) => armAnswer.parse(message),
          ["--max-old-space-size=8192"],
        );
        answers.add(answer);
        found.add(name(arm), {
          "heap MB": heapMb,
          "build ms": buildMs,
          "heap MB for 100 tenants": arm === "pooled" ? heapMb : heapMb * 100,
        });
      }
    }
    if (answers.size !== 1) throw new Error(`the arms answered differently: ${[...answers].join("\n")}`);
  } finally {
    await database.close();
  }
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 50 : 300, tables = 20 }) {
    const rounds = new Rounds();
    await measure(
      {
        tenants,
        tables,
        rounds: quick ? 1 : 3,
        // A stock instance of the large database takes half a gigabyte, so one is enough.
        built: (arm) => (arm === "stock" ? 1 : 4),
        name: (arm) => arm,
      },
      rounds,
    );
    await measure(
      {
        tenants: wideTenants,
        tables: wideTables,
        rounds: quick ? 1 : 2,
        built: () => wideTenants,
        name: (arm) => `${arm}, ${wideTables} tables`,
      },
      rounds,
    );
    const found = { arms: rounds.medians };
    const figure = (arm: string, name: string): number => figureOf(found, arm, name);
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        "heap, stock over scoped": figure("stock", "heap MB") / figure("scoped", "heap MB"),
        "build time, stock over scoped": figure("stock", "build ms") / figure("scoped", "build ms"),
      }),
      notes: [
        `database: ${tenants} tenants × ${tables} tables; a pooled instance serves all of them`,
        `of ${wideTables} tables: ${wideTenants} tenants, each arm builds both; before, stock builds one and the others four`,
      ],
    };
  },
  charts: (found) =>
    [
      { title: "Heap of one instance", unit: "MB", name: "heap MB" },
      { title: "Time to build one instance", unit: "ms", name: "build ms" },
    ].map(({ title, unit, name }) => ({
      kind: "bars",
      title,
      unit: `${unit}, less is better`,
      subtitle: found.notes[0] ?? "",
      groups: [""],
      series: arms.map((arm) => ({ name: arm, values: [figureOf(found, arm, name)] })),
    })),
};

export default bench;
