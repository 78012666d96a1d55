/** A bench's findings: their JSON form, their medians and their table. */
import { cpus, totalmem } from "node:os";
import { z } from "zod";
import { shown } from "./charts.ts";

const figuresShape = z.record(z.string(), z.number());
const points = z.array(z.tuple([z.number(), z.number()]));

const foundShape = z.object({
  /** Medians over the rounds, by arm. */
  arms: z.record(z.string(), figuresShape),
  ratios: figuresShape,
  /** Every round as measured. */
  rounds: z.record(z.string(), z.array(figuresShape)),
  /** Values over time or over a growing load, by arm. */
  series: z.record(z.string(), points).default({}),
  notes: z.array(z.string()),
});

/** A bench's JSON. */
export const resultShape = foundShape.extend({
  bench: z.string(),
  when: z.string(),
  quick: z.boolean(),
  machine: z.object({ cpu: z.string(), cores: z.number(), memoryMb: z.number(), node: z.string() }),
});

export type Figures = Readonly<Record<string, number>>;
export type Found = z.input<typeof foundShape>;
export type Result = z.infer<typeof resultShape>;

export function machine(): Result["machine"] {
  const [first] = cpus();
  return {
    cpu: first?.model ?? "unknown",
    cores: cpus().length,
    memoryMb: Math.round(totalmem() / 1024 ** 2),
    node: process.version,
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
}

/** The median of each figure over an arm's rounds. */
export function medians(rounds: readonly Figures[]): Figures {
  const names = new Set(rounds.flatMap((round) => Object.keys(round)));
  return Object.fromEntries(
    [...names].map((name) => [
      name,
      median(rounds.flatMap((round) => (name in round ? [round[name] ?? Number.NaN] : []))),
    ]),
  );
}

/** Collects rounds by arm. Values that are not numbers were not measured, and are dropped because JSON cannot hold them. */
export class Rounds {
  readonly all: Record<string, Figures[]> = {};

  add(arm: string, round: Figures): void {
    this.all[arm] = [...(this.all[arm] ?? []), measuredOf(round)];
  }

  get medians(): Record<string, Figures> {
    return Object.fromEntries(Object.entries(this.all).map(([arm, each]) => [arm, medians(each)]));
  }
}

/** A figure of an arm; NaN if it is missing. */
export function figureOf(found: Pick<Found, "arms">, arm: string, figure: string): number {
  return found.arms[arm]?.[figure] ?? Number.NaN;
}

/** Keeps only measured figures: an arm that died has none, and comparisons with it have none either. */
export function measuredOf(figures: Figures): Figures {
  return Object.fromEntries(Object.entries(figures).filter(([, value]) => Number.isFinite(value)));
}

export function printTable(result: Result): void {
  const arms = Object.keys(result.arms);
  const names = [...new Set(Object.values(result.arms).flatMap((each) => Object.keys(each)))];
  const rows = [
    ["", ...names],
    ...arms.map((arm) => [arm, ...names.map((name) => shown(result.arms[arm]?.[name]))]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  console.log(
    `\n${result.bench} — ${result.machine.cpu}, ${result.machine.cores} cores, Node ${result.machine.node}\n`,
  );
  for (const row of rows) {
    const cells = row.map((cell, column) =>
      column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
    );
    console.log(cells.join("  "));
  }
  console.log("");
  for (const [name, value] of Object.entries(result.ratios)) console.log(`${name}: ${shown(value)}`);
  for (const note of result.notes) console.log(note);
}
