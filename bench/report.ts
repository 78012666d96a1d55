/** What a bench found: as a table, as JSON, and as a chart. */
import { mkdir, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";

export type Figures = Readonly<Record<string, number>>;

export interface Result {
  readonly bench: string;
  readonly when: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryMb: number;
    readonly node: string;
  };
  /** Medians over the rounds, by arm. */
  readonly arms: Readonly<Record<string, Figures>>;
  readonly ratios: Figures;
  /** Every round as it was measured. */
  readonly rounds: Readonly<Record<string, readonly Figures[]>>;
  readonly notes: readonly string[];
}

export interface Chart {
  readonly title: string;
  readonly unit: string;
  /** The figure that is drawn, of each arm. */
  readonly bars: readonly { readonly label: string; readonly value: number; readonly note?: string }[];
  readonly logarithmic?: boolean;
}

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

const shown = (value: number | undefined): string => {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (value >= 100) return String(Math.round(value));
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
};

export function printTable(result: Result): void {
  const arms = Object.keys(result.arms);
  const figures = [...new Set(Object.values(result.arms).flatMap((each) => Object.keys(each)))];
  const rows = [
    ["", ...figures],
    ...arms.map((arm) => [arm, ...figures.map((figure) => shown(result.arms[arm]?.[figure]))]),
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

const colours = ["#c2410c", "#0f766e", "#1d4ed8", "#7c3aed", "#a16207"];

/** Horizontal bars with their values; nothing that needs a script or a font of its own. */
export function chartSvg(chart: Chart): string {
  const left = 190;
  const width = 720;
  const rowHeight = 44;
  const height = 86 + chart.bars.length * rowHeight;
  const scale = (value: number): number =>
    chart.logarithmic === true ? Math.log10(Math.max(1, value)) : value;
  const most = Math.max(...chart.bars.map((bar) => scale(bar.value)), 1e-9);
  const bars = chart.bars.map((bar, index) => {
    const y = 62 + index * rowHeight;
    const length = Math.max(2, (scale(bar.value) / most) * (width - left - 150));
    return `
  <text x="${left - 12}" y="${y + 19}" text-anchor="end">${escapeXml(bar.label)}</text>
  <rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="28" rx="3" fill="${colours[index % colours.length]}"/>
  <text x="${(left + length + 8).toFixed(1)}" y="${y + 19}" class="value">${shown(bar.value)} ${escapeXml(chart.unit)}${bar.note === undefined ? "" : ` · ${escapeXml(bar.note)}`}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="14">
  <rect width="100%" height="100%" fill="#ffffff"/>
  <text x="20" y="34" font-size="17" font-weight="600" fill="#111827">${escapeXml(chart.title)}${chart.logarithmic === true ? " (logarithmic)" : ""}</text>
  <g fill="#374151">${bars.join("")}
  </g>
</svg>
`;
}

function escapeXml(text: string): string {
  return text.replace(/[<>&"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** Writes the charts beside the result, under bench/out. */
export async function writeCharts(bench: string, charts: readonly Chart[]): Promise<void> {
  const directory = new URL("./out/", import.meta.url);
  await mkdir(directory, { recursive: true });
  for (const [index, chart] of charts.entries()) {
    const file = new URL(`${bench}${index === 0 ? "" : `-${index + 1}`}.svg`, directory);
    await writeFile(file, chartSvg(chart));
    console.log(`chart: ${file.pathname}`);
  }
}
