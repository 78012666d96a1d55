/** `npm run bench -- NAME [--json FILE] [--quick] [--tenants N] [--tables M]` */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type Bench, endArms } from "./bench.ts";
import { writeCharts } from "./charts.ts";
import { machine, printTable, resultShape } from "./report.ts";

const benches: Readonly<Record<string, () => Promise<{ default: Bench }>>> = {
  bleed: () => import("./bleed.ts"),
  churn: () => import("./churn.ts"),
  coldstart: () => import("./coldstart.ts"),
  containment: () => import("./containment.ts"),
  density: () => import("./density.ts"),
  guard: () => import("./guard.ts"),
  memory: () => import("./memory.ts"),
  migrations: () => import("./migrations.ts"),
  reclaim: () => import("./reclaim.ts"),
  replicas: () => import("./replicas.ts"),
  throughput: () => import("./throughput.ts"),
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    quick: { type: "boolean", default: false },
    tenants: { type: "string" },
    tables: { type: "string" },
  },
});

const [name = ""] = positionals;
const load = benches[name];
if (load === undefined) {
  console.error(
    `usage: npm run bench -- NAME [--json FILE] [--quick] [--tenants N] [--tables M]\nbenches: ${Object.keys(benches).join(", ")}`,
  );
  process.exit(2);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    endArms();
    process.exit(1);
  });
}
const whole = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number.parseInt(text, 10);
try {
  const { default: bench } = await load();
  const found = await bench.run({
    quick: values.quick,
    tenants: whole(values.tenants),
    tables: whole(values.tables),
  });
  const when = new Date().toISOString();
  const result = resultShape.parse({ bench: name, when, quick: values.quick, machine: machine(), ...found });
  printTable(result);
  await writeCharts(name, bench.charts(result));
  if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(result, null, 2)}\n`);
} finally {
  endArms();
}
