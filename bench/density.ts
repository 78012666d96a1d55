/** Heap and time of an instance, in a database of many tenants: stock, scoped to its tenant, and shared. */
import { z } from "zod";
import { type Bench, runArm } from "./bench.ts";
import { benchDatabase } from "./database.ts";
import { type Figures, medians } from "./report.ts";

const arms = ["stock", "scoped", "pooled"] as const;
const query = "{ allT1Items(first: 3) { nodes { rowId name mood } } }";
const armAnswer = z.object({ heapMb: z.number(), buildMs: z.number(), answer: z.string() });

const bench: Bench = {
  async run({ quick, tenants = quick ? 50 : 300, tables = 20 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds: Record<string, Figures[]> = { stock: [], scoped: [], pooled: [] };
    try {
      const answers = new Set<string>();
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        for (const arm of round % 2 === 0 ? arms : arms.toReversed()) {
          // A stock instance of the large database takes half a gigabyte: one is enough to see it.
          const built = database.tenants.slice(0, arm === "stock" ? 1 : 4);
          const input = { arm, url: database.url, tenants: built.toReversed(), query };
          const { answer, ...figures } = await runArm(
            "density",
            input,
            (message) => armAnswer.parse(message),
            ["--max-old-space-size=8192"],
          );
          answers.add(answer);
          rounds[arm]?.push(
            arm === "pooled"
              ? { ...figures, heapPer100TenantsMb: figures.heapMb }
              : { ...figures, heapPer100TenantsMb: figures.heapMb * 100 },
          );
        }
      }
      if (answers.size !== 1) throw new Error(`the arms answered differently: ${[...answers].join("\n")}`);
    } finally {
      await database.close();
    }
    const found = Object.fromEntries(arms.map((arm) => [arm, medians(rounds[arm] ?? [])]));
    const figure = (arm: string, name: string): number => found[arm]?.[name] ?? Number.NaN;
    return {
      arms: found,
      rounds,
      ratios: {
        "heap, stock over scoped": figure("stock", "heapMb") / figure("scoped", "heapMb"),
        "build time, stock over scoped": figure("stock", "buildMs") / figure("scoped", "buildMs"),
      },
      notes: [`database: ${tenants} tenants × ${tables} tables; a pooled instance serves all of them`],
      charts: [
        {
          title: `Heap of one instance (${tenants} tenants × ${tables} tables in the database)`,
          unit: "MB",
          bars: arms.map((arm) => ({ label: arm, value: figure(arm, "heapMb") })),
        },
      ],
    };
  },
};

export default bench;
