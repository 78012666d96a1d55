/** `npm run bench -- NAME [--json FILE] [--quick] [--tenants N] [--tables M] [--only ARM,…] [--host DIR] [--setup SETUP]`, `all` and `figures`. */
import { mkdir, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type Bench, endArms } from "./bench.ts";
import { writeCharts } from "./charts.ts";
import { resultsDirectory, writeFigures } from "./figures.ts";
import { machine, printTable, type Result, resultShape } from "./report.ts";

const benches: Readonly<Record<string, () => Promise<{ default: Bench }>>> = {
  bleed: () => import("./bleed.ts"),
  churn: () => import("./churn.ts"),
  coldstart: () => import("./coldstart.ts"),
  containment: () => import("./containment.ts"),
  density: () => import("./density.ts"),
  fairness: () => import("./fairness.ts"),
  guard: () => import("./guard.ts"),
  hygiene: () => import("./hygiene.ts"),
  memory: () => import("./memory.ts"),
  migrations: () => import("./migrations.ts"),
  patches: () => import("./patches.ts"),
  realtime: () => import("./realtime.ts"),
  reclaim: () => import("./reclaim.ts"),
  replicas: () => import("./replicas.ts"),
  spread: () => import("./spread.ts"),
  throughput: () => import("./throughput.ts"),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    quick: { type: "boolean", default: false },
    tenants: { type: "string" },
    tables: { type: "string" },
    only: { type: "string" },
    host: { type: "string" },
    setup: { type: "string" },
  },
});

const whole = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number.parseInt(text, 10);

async function benchOf(name: string): Promise<Bench> {
  const load = benches[name];
  if (load === undefined) {
    console.error(
      `usage: npm run bench -- NAME [--json FILE] [--quick] [--tenants N] [--tables M]\nfairness, patches: [--only ARM,…], some of the arms\nfairness, spread, throughput: [--host DIR], another checkout's host\nthroughput: [--setup full|managed|superuser|all], how the host's database is set up\nbenches: ${Object.keys(benches).join(", ")}\nall: every one of them, into bench/results\nfigures: from bench/results into README.md and docs/benches.md`,
    );
    process.exit(2);
  }
  return (await load()).default;
}

async function measure(name: string, json: string | URL | undefined): Promise<void> {
  const bench = await benchOf(name);
  const found = await bench.run({
    quick: values.quick,
    tenants: whole(values.tenants),
    tables: whole(values.tables),
    only: values.only?.split(","),
    host: values.host,
    setup: values.setup,
  });
  const when = new Date().toISOString();
  const result: Result = resultShape.parse({
    bench: name,
    when,
    quick: values.quick,
    machine: machine(),
    ...found,
  });
  printTable(result);
  await writeCharts(name, bench.charts(result));
  if (json !== undefined) await writeFile(json, `${JSON.stringify(result, null, 2)}\n`);
}

async function measureAll(): Promise<void> {
  await mkdir(resultsDirectory, { recursive: true });
  const failed: string[] = [];
  for (const name of Object.keys(benches)) {
    // A bench that fails reports why, and the others still run.
    await measure(name, new URL(`${name}.json`, resultsDirectory)).catch((error: unknown) => {
      console.error(`${name} failed:`, error);
      failed.push(name);
      endArms();
    });
  }
  if (failed.length > 0) throw new Error(`failed: ${failed.join(", ")}`);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    endArms();
    process.exit(1);
  });
}
const [name = ""] = positionals;
try {
  if (name === "figures") await writeFigures(async (result) => (await benchOf(result.bench)).charts(result));
  else if (name === "all") await measureAll();
  else await measure(name, values.json);
} finally {
  endArms();
}
