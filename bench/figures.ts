/** Writes the contents of bench/results into README.md and docs/benches.md, with charts: the only source of numbers there. */
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { type Chart, chartSvg, shown } from "./charts.ts";
import { goalRows } from "./goals.ts";
import { figureOf, type Result, resultShape } from "./report.ts";

const root = new URL("../", import.meta.url);
export const resultsDirectory = new URL("bench/results/", root);
const chartsDirectory = new URL("docs/charts/", root);

const begin = "<!-- figures: written by `npm run bench -- figures` -->";
const end = "<!-- /figures -->";

type Results = ReadonlyMap<string, Result>;

async function readResults(): Promise<Results> {
  const files = (await readdir(resultsDirectory).catch((): string[] => [])).filter((file) =>
    file.endsWith(".json"),
  );
  const results = new Map<string, Result>();
  for (const file of files.toSorted()) {
    const result = resultShape.parse(JSON.parse(await readFile(new URL(file, resultsDirectory), "utf8")));
    results.set(result.bench, result);
  }
  return results;
}

const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(head), `|${"---|".repeat(head.length)}`, ...rows.map(row)].join("\n");
}

function onMachine({ machine, when, quick }: Result): string {
  const memory = Math.round(machine.memoryMb / 1024);
  return `${machine.cpu}, ${machine.cores} cores, ${memory} GB, Node ${machine.node}, ${when.slice(0, 10)}${quick ? ", a quick run" : ""}`;
}

/** A bench's own section, with every arm and every figure. */
function section(result: Result, charts: number): string {
  const { bench, arms, ratios, notes } = result;
  const figures = [...new Set(Object.values(arms).flatMap((each) => Object.keys(each)))];
  const rows = Object.entries(arms).map(([arm, each]) => [
    arm,
    ...figures.map((figure) => shown(each[figure])),
  ]);
  const images = Array.from({ length: charts }, (_, index) => `![${bench}](charts/${fileOf(bench, index)})`);
  return [
    `### ${bench}`,
    `${notes.join(". ")}. (${onMachine(result)})`,
    table(["", ...figures], rows),
    Object.entries(ratios)
      .map(([name, value]) => `- ${name}: ${shown(value)}`)
      .join("\n"),
    images.join("\n"),
  ].join("\n\n");
}

const fileOf = (bench: string, index: number): string => `${bench}${index === 0 ? "" : `-${index + 1}`}.svg`;

/** The README's table: one line per question, stock beside Rowhouse; lines without a measurement are left out. */
function summary(results: Results): string {
  const of = (bench: string, arm: string, figure: string): number => {
    const result = results.get(bench);
    return result === undefined ? Number.NaN : figureOf(result, arm, figure);
  };
  const lines: [string, string, string][] = [];
  const line = (what: string, stock: string, rowhouse: string, known: number): void => {
    if (Number.isFinite(known)) lines.push([what, stock, rowhouse]);
  };
  const pair = (what: string, bench: string, [a, b]: [string, string], figure: string, unit: string): void =>
    line(
      what,
      `${shown(of(bench, a, figure))} ${unit}`.trim(),
      `${shown(of(bench, b, figure))} ${unit}`.trim(),
      of(bench, b, figure),
    );
  pair("heap of an instance", "density", ["stock", "pooled"], "heap MB", "MB");
  pair("time to build it", "density", ["stock", "pooled"], "build ms", "ms");
  const died = of("memory", "stock", "tenants served before it failed");
  const points = results.get("memory")?.series["pooled"] ?? [];
  const [one, last] = [points[0], points.at(-1)];
  if (one !== undefined && last !== undefined) {
    lines.push([
      `memory of the process after ${shown(last[0])} tenants (after one)`,
      Number.isNaN(died)
        ? `${shown(of("memory", "stock", `RSS MB, ${last[0]} served`))} MB`
        : `out of memory after ${died}`,
      `${shown(last[1])} MB (${shown(one[1])} MB)`,
    ]);
  }
  for (const name of ["one row", "one query", "nested", "mutation", "typename"]) {
    pair(`requests per second, ${name}`, "throughput", [`${name} · stock`, `${name} · pooled`], "req/s", "");
  }
  const first = "first answer ms";
  pair("first answer of an unknown schema", "coldstart", ["stock", "warm spare"], first, "ms");
  pair("first answer of a new tenant of a known one", "coldstart", ["stock", "known blueprint"], first, "ms");
  const share = (bench: string, name: string): number =>
    (results.get(bench)?.ratios[name] ?? Number.NaN) * 100;
  const percent = (value: number): string => `${shown(value)} %`;
  line(
    "answered while more blueprints are asked for than fit in 512 MB",
    percent(share("churn", "answered, stock, 3 cached")),
    percent(share("churn", "answered, rowhouse")),
    share("churn", "answered, rowhouse"),
  );
  line(
    "processes that outlive a request that takes memory without end",
    `${percent(share("containment", "survived, V8 limit alone"))} (V8's limit alone)`,
    percent(share("containment", "survived, governor")),
    share("containment", "survived, governor"),
  );
  const back = of("reclaim", "rowhouse", "% back after 10 s");
  line("memory back 10 s after cells are evicted", "–", percent(back), back);
  const rows = of("bleed", "rowhouse", "rows seen");
  const foreign = of("bleed", "rowhouse", "foreign rows");
  line("rows of other tenants among those seen", "–", `${shown(foreign)} of ${shown(rows)}`, rows);
  const [result] = results.values();
  const where = result === undefined ? "" : `\n\nOn ${onMachine(result)}; stock is PostGraphile 5.1.5.`;
  const images = ["density", "memory", "throughput"].filter((bench) => results.has(bench));
  const shownImages = images.map((bench) => `\n\n![${bench}](docs/charts/${fileOf(bench, 0)})`).join("");
  return `${table(["", "stock", "Rowhouse"], lines)}${where}${shownImages}`;
}

async function fill(file: string, text: string): Promise<void> {
  const url = new URL(file, root);
  const before = await readFile(url, "utf8");
  const [from, to] = [before.indexOf(begin), before.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${file} has no place for figures: ${begin} … ${end}`);
  await writeFile(url, `${before.slice(0, from)}${begin}\n\n${text}\n\n${before.slice(to)}`);
  console.log(`written: ${file}`);
}

/** Fills both documents from the available results, and draws their charts; throws if there are none. */
export async function writeFigures(chartsOf: (result: Result) => Promise<readonly Chart[]>): Promise<void> {
  const results = await readResults();
  if (results.size === 0) throw new Error("bench/results holds nothing: npm run bench -- all");
  await mkdir(chartsDirectory, { recursive: true });
  const sections: string[] = [];
  for (const [bench, result] of results) {
    const charts = await chartsOf(result);
    for (const [index, chart] of charts.entries()) {
      await writeFile(new URL(fileOf(bench, index), chartsDirectory), chartSvg(chart));
    }
    sections.push(section(result, charts.length));
  }
  await fill("README.md", summary(results));
  const goals = `### Goals\n\n${table(["", "goal", "measured", "met"], goalRows(results))}`;
  await fill("docs/benches.md", [goals, ...sections].join("\n\n"));
}
