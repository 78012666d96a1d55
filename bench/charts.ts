/** Draws a bench's findings as SVG charts: grouped bars by arm, or lines over a figure. */
import { mkdir, writeFile } from "node:fs/promises";
import { BarChart, LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { LegacyGridContainLabel } from "echarts/features";
import { SVGRenderer } from "echarts/renderers";

interface ChartFrame {
  readonly title: string;
  /** Context that a reader needs: the database, the load. */
  readonly subtitle?: string;
  readonly unit: string;
}

export interface BarsChart extends ChartFrame {
  readonly kind: "bars";
  readonly groups: readonly string[];
  /** One value for each group; NaN if there is none. */
  readonly series: readonly ChartSeries[];
  readonly logarithmic?: boolean;
}

export interface LinesChart extends ChartFrame {
  readonly kind: "lines";
  readonly across: string;
  readonly logarithmicAcross?: boolean;
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly (readonly [number, number])[];
    /** Text at the line's end, such as why it ends. */
    readonly note?: string;
  }[];
}

interface ChartSeries {
  readonly name: string;
  readonly values: readonly number[];
}

export type Chart = BarsChart | LinesChart;

/** Each arm has the same colour in every chart; grey and red are stock's. */
const colours: Readonly<Record<string, string>> = {
  stock: "#94a3b8",
  "stock, 3 cached": "#475569",
  "V8 limit alone": "#94a3b8",
  dedicated: "#60a5fa",
  scoped: "#60a5fa",
  "cold cell": "#60a5fa",
  pooled: "#0f766e",
  rowhouse: "#0f766e",
  governor: "#0f766e",
  "warm spare": "#0f766e",
};
const others = ["#0f766e", "#d97706", "#7c3aed", "#be123c", "#0369a1"];
const colourOf = (name: string, index: number): string =>
  colours[name] ?? (name.startsWith("stock") ? "#94a3b8" : (others[index % others.length] ?? "#0f766e"));

export function shown(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "–";
  if (Math.abs(value) >= 10_000) return Math.round(value).toLocaleString("en");
  if (Math.abs(value) >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

const width = 820;
const font = "Inter, system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif";
const faint = "#e2e8f0";

const frameOf = ({ title, subtitle, unit }: ChartFrame, names: readonly string[]) => ({
  animation: false,
  backgroundColor: "#ffffff",
  textStyle: { fontFamily: font, color: "#334155", fontSize: 13 },
  title: {
    text: title,
    subtext: subtitle === undefined ? unit : `${unit} · ${subtitle}`,
    left: 24,
    top: 18,
    itemGap: 6,
    textStyle: { fontSize: 17, fontWeight: 600 as const, color: "#0f172a" },
    subtextStyle: { fontSize: 12.5, color: "#64748b" },
  },
  legend: {
    show: names.length > 1,
    data: [...names],
    left: 24,
    top: 64,
    itemWidth: 12,
    itemHeight: 12,
    itemGap: 18,
    textStyle: { fontSize: 13 },
  },
});

/** The bar's colour. A single series needs no legend, so its bars are coloured by group. */
function barColour(chart: BarsChart, name: string, index: number, group: number): string {
  const own = chart.series.length === 1 ? chart.groups[group] : undefined;
  return own !== undefined && own in colours ? colourOf(own, index) : colourOf(name, index);
}

function barsOption(chart: BarsChart) {
  const names = chart.series.map((series) => series.name);
  return {
    ...frameOf(chart, names),
    grid: { left: 48, right: 90, top: names.length > 1 ? 98 : 76, bottom: 18, containLabel: true },
    xAxis: {
      type: chart.logarithmic === true ? ("log" as const) : ("value" as const),
      // A bar on a logarithmic axis needs a starting value; from 1 it remains readable.
      ...(chart.logarithmic === true ? { min: 1 } : {}),
      splitLine: { lineStyle: { color: faint } },
      axisLabel: { color: "#64748b", hideOverlap: true },
    },
    yAxis: {
      type: "category" as const,
      data: [...chart.groups],
      inverse: true,
      axisTick: { show: false },
      axisLine: { lineStyle: { color: "#94a3b8" } },
      axisLabel: { fontSize: 13 },
    },
    series: chart.series.map((series, index) => ({
      type: "bar" as const,
      name: series.name,
      data: series.values.map((value, group) => ({
        value: Number.isFinite(value) ? value : null,
        itemStyle: { color: barColour(chart, series.name, index, group) },
      })),
      itemStyle: { color: colourOf(series.name, index), borderRadius: [0, 3, 3, 0] },
      barGap: "12%",
      barCategoryGap: "32%",
      label: {
        show: true,
        position: "right" as const,
        color: "#334155",
        formatter: ({ value }: { value: unknown }) => shown(typeof value === "number" ? value : Number.NaN),
      },
    })),
  };
}

function linesOption(chart: LinesChart) {
  const names = chart.series.map((series) => series.name);
  return {
    ...frameOf(chart, names),
    grid: {
      left: 24,
      right: chart.series.some((series) => series.note !== undefined) ? 190 : 40,
      top: names.length > 1 ? 104 : 82,
      bottom: 40,
      containLabel: true,
    },
    xAxis: {
      type: chart.logarithmicAcross === true ? ("log" as const) : ("value" as const),
      min: chart.logarithmicAcross === true ? "dataMin" : ({ min }: { min: number }) => Math.floor(min),
      name: chart.across,
      nameLocation: "middle" as const,
      nameGap: 30,
      nameTextStyle: { color: "#64748b" },
      axisLine: { lineStyle: { color: "#94a3b8" } },
      splitLine: { show: false },
      axisLabel: { color: "#64748b" },
    },
    yAxis: {
      type: "value" as const,
      min: 0,
      axisLine: { onZero: false },
      splitLine: { lineStyle: { color: faint } },
      axisLabel: { color: "#64748b" },
    },
    series: chart.series.map((series, index) => ({
      type: "line" as const,
      name: series.name,
      data: series.points.map(([x, y]) => [x, y]),
      showSymbol: series.points.length <= 12,
      symbolSize: 7,
      lineStyle: { width: 2.5, color: colourOf(series.name, index) },
      itemStyle: { color: colourOf(series.name, index) },
      endLabel: {
        show: series.note !== undefined,
        formatter: series.note ?? "",
        color: "#334155",
        fontSize: 13,
        width: 170,
        overflow: "break" as const,
      },
    })),
  };
}

/** The chart as a document of its own, without scripts or fonts. */
export function chartSvg(chart: Chart): string {
  use([
    BarChart,
    LineChart,
    GridComponent,
    LegendComponent,
    TitleComponent,
    LegacyGridContainLabel,
    SVGRenderer,
  ]);
  const rows = chart.kind === "bars" ? chart.groups.length * chart.series.length : 0;
  const height = chart.kind === "bars" ? 130 + rows * 27 + chart.groups.length * 14 : 430;
  const drawn = init(null, null, { renderer: "svg", ssr: true, width, height });
  drawn.setOption(chart.kind === "bars" ? barsOption(chart) : linesOption(chart));
  const svg = drawn.renderToSVGString();
  drawn.dispose();
  return `${svg}\n`;
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
