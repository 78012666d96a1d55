/** A chart for benches that measure operations by arm: a group for each operation, a bar for each arm. */
import type { BarsChart } from "./charts.ts";
import { type Found, figureOf } from "./report.ts";

export interface OperationBars {
  readonly title: string;
  readonly unit: string;
  readonly operations: readonly string[];
  readonly arms: readonly string[];
  /** Several figures are added up. */
  readonly figures: readonly string[];
  /** An arm's label, by default its name. */
  readonly called?: (arm: string) => string;
}

/** Takes the figures of the arms named `OPERATION · ARM`. */
export function operationBars(
  found: Pick<Found, "arms" | "notes">,
  { title, unit, operations, arms, figures, called = (arm) => arm }: OperationBars,
): BarsChart {
  return {
    kind: "bars",
    title,
    unit,
    subtitle: found.notes[0] ?? "",
    groups: operations,
    series: arms.map((arm) => ({
      name: called(arm),
      values: operations.map((operation) =>
        figures.reduce((sum, figure) => sum + figureOf(found, `${operation} · ${arm}`, figure), 0),
      ),
    })),
  };
}
