/** Heap and time of an instance, in a database of many tenants: stock, scoped to its tenant, and shared. */
import { z } from "zod";
import { type Bench, inTurn, runArm } from "./bench.ts";
import { benchDatabase } from "./database.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";

const arms = ["stock", "scoped", "pooled"] as const;
const query = "{ allT1Items(first: 3) { nodes { rowId name mood } } }";
const armAnswer = z.object({ heapMb: z.number(), buildMs: z.number(), answer: z.string() });

const bench: Bench = {
  async run({ quick, tenants = quick ? 50 : 300, tables = 20 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    try {
      const answers = new Set<string>();
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        for (const arm of inTurn(arms, round)) {
          // A stock instance of the large database takes half a gigabyte: one is enough to see it.
          const built = database.tenants.slice(0, arm === "stock" ? 1 : 4);
          const { answer, heapMb, buildMs } = await runArm(
            "density",
            { arm, url: database.url, tenants: built.toReversed(), query },
            (message) => armAnswer.parse(message),
            ["--max-old-space-size=8192"],
          );
          answers.add(answer);
          rounds.add(arm, {
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
    const found = { arms: rounds.medians };
    const figure = (arm: string, name: string): number => figureOf(found, arm, name);
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        "heap, stock over scoped": figure("stock", "heap MB") / figure("scoped", "heap MB"),
        "build time, stock over scoped": figure("stock", "build ms") / figure("scoped", "build ms"),
      }),
      notes: [`database: ${tenants} tenants × ${tables} tables; a pooled instance serves all of them`],
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
