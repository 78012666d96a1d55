/** A chart of benches that measure operations by arm: a group for each operation, a bar for each arm. */
import type { BarsChart } from "./charts.ts";
import { type Found, figureOf } from "./report.ts";

export interface OperationBars {
  readonly title: string;
  readonly unit: string;
  readonly operations: readonly string[];
  readonly arms: readonly string[];
  /** Added up, where there are several. */
  readonly figures: readonly string[];
  /** What an arm is called, if not by its name. */
  readonly called?: (arm: string) => string;
}

/** The figures are those of `OPERATION · ARM`. */
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
