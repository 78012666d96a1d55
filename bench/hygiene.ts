/** What it costs to clear a request's traces from its session, by the chosen means and by others. */
import { z } from "zod";
import { type Bench, inTurn, runArm } from "./bench.ts";
import { benchDatabase } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";

/** No host may do `nothing`; it is the baseline. */
const arms = ["nothing", "chosen", "dropped", "discard all"] as const;
const operations = ["query", "mutation"] as const;
const units = ["req/s", "thread CPU µs", "postgres CPU µs"] as const;
const armAnswer = z.object({ answer: z.string(), left: z.string() }).catchall(z.number());

const bench: Bench = {
  async run({ quick, tenants = 20, tables = 3 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    try {
      const answers = new Set<string>();
      for (let round = 0; round < (quick ? 1 : 6); round += 1) {
        for (const arm of inTurn(arms, round)) {
          const input = {
            arm,
            url: database.url,
            tenants: database.tenants,
            durationMs: quick ? 500 : 3_000,
          };
          const { answer, left, ...figures } = await runArm("hygiene", input, (message) =>
            armAnswer.parse(message),
          );
          answers.add(answer);
          if (left.includes("something") !== (arm === "nothing"))
            throw new Error(`${arm} left behind ${left}`);
          for (const operation of operations) {
            rounds.add(
              `${operation} · ${arm}`,
              Object.fromEntries(units.map((unit) => [unit, Number(figures[`${operation} ${unit}`])])),
            );
          }
        }
      }
      if (answers.size !== 1) throw new Error(`the arms answered differently: ${[...answers].join("\n")}`);
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    const ratios: Record<string, number> = {};
    for (const operation of operations) {
      ratios[`${operation}: req/s, dropped over chosen`] =
        figureOf(found, `${operation} · dropped`, "req/s") /
        figureOf(found, `${operation} · chosen`, "req/s");
      for (const arm of arms.slice(1)) {
        ratios[`${operation}: req/s, ${arm} over nothing`] =
          figureOf(found, `${operation} · ${arm}`, "req/s") /
          figureOf(found, `${operation} · nothing`, "req/s");
      }
    }
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants in turn on 8 connections; the adaptor alone, without GraphQL or HTTP`,
        "each request is another tenant's than the one before it on its connection",
        "dropped: as where names of statements can be listed, or without event triggers",
      ],
    };
  },
  charts: (found) => [
    operationBars(found, {
      title: "What a clean session costs",
      unit: "requests per second",
      operations,
      arms,
      figures: ["req/s"],
    }),
  ],
};

export default bench;
