/** Rowhouse's goals and the measured values; a missed goal is shown like one that is met. */
import { shown } from "./charts.ts";
import { figureOf, type Result } from "./report.ts";

interface Goal {
  readonly what: string;
  readonly most?: number;
  readonly least?: number;
  readonly unit: string;
  /** NaN if it was not measured. */
  measured(figure: Figure, ratio: Ratio): number;
}

type Figure = (bench: string, arm: string, name: string) => number;
type Ratio = (bench: string, name: string) => number;

const operations: [name: string, least: number][] = [
  ["one row", 1.5],
  ["one query", 1.5],
  ["nested", 1.4],
  ["mutation", 1.2],
  ["typename", 0.9],
];

const goals: readonly Goal[] = [
  {
    what: "heap of a dedicated instance, 300 tenants × 20 tables in the database",
    most: 8,
    unit: "MB",
    measured: (figure) => figure("density", "scoped", "heap MB"),
  },
  { what: "its build", most: 350, unit: "ms", measured: (figure) => figure("density", "scoped", "build ms") },
  {
    what: "heap of an instance of 300 tables",
    most: 45,
    unit: "MB",
    measured: (figure) => figure("density", "scoped, 300 tables", "heap MB"),
  },
  {
    what: "resident memory, 1000 pooled tenants served over one",
    most: 1.05,
    unit: "×",
    measured: (_, ratio) => ratio("memory", "pooled, 1000 served over 1"),
  },
  {
    what: "resident memory of a host that serves one blueprint, while it is asked",
    most: 170,
    unit: "MB",
    measured: (figure) => figure("memory", "pooled", "RSS MB, 1 served"),
  },
  ...operations.flatMap(([name, least]): Goal[] => {
    const requests: Goal = {
      what: `requests per second over stock's, ${name}`,
      least,
      unit: "×",
      measured: (_, ratio) => ratio("throughput", `${name}: req/s, pooled over stock`),
    };
    // A request without SQL only measures the way through a thread.
    if (name === "typename") return [requests];
    const cpu: Goal = {
      what: `CPU per request over stock's, ${name}`,
      most: 0.75,
      unit: "×",
      measured: (_, ratio) => ratio("throughput", `${name}: CPU, pooled over stock`),
    };
    return [requests, cpu];
  }),
  {
    what: "first answer of an unknown blueprint, with a warm spare",
    most: 350,
    unit: "ms",
    measured: (figure) => figure("coldstart", "warm spare", "first answer ms"),
  },
  {
    what: "first answer of a new tenant of a known blueprint, over a warm one",
    most: 15,
    unit: "ms",
    measured: (figure) => figure("coldstart", "known blueprint", "over a warm one ms"),
  },
  {
    what: "first answers of 20 blueprints, asked for at once when the host is ready",
    most: 2_000,
    unit: "ms",
    measured: (figure) => figure("coldstart", "restart, 20 blueprints", "all first answers ms"),
  },
  {
    what: "memory back 10 s after eight cells are evicted",
    least: 90,
    unit: "%",
    measured: (figure) => figure("reclaim", "rowhouse", "% back after 10 s"),
  },
  {
    what: "mutations per second with the guard over without",
    least: 0.97,
    unit: "×",
    measured: (_, ratio) => ratio("guard", "mutation: req/s, writes over off"),
  },
  {
    what: "schema reads for a write of the guard's",
    most: 0,
    unit: "",
    measured: (_, ratio) => ratio("guard", "schema reads per write"),
  },
  {
    what: "failed of 60 blueprints' requests in 512 MB, five minutes",
    most: 0,
    unit: "",
    measured: (figure) => figure("churn", "rowhouse", "failed"),
  },
  {
    what: "99th percentile of a tenant's answers beside the worst attack, over that without one",
    most: 5,
    unit: "×",
    measured: (_, ratio) => ratio("fairness", "worst attack: p99 over quiet"),
  },
  {
    what: "by how much the worst attack delays it",
    most: 150,
    unit: "ms",
    measured: (_, ratio) => ratio("fairness", "worst attack: delay ms"),
  },
  {
    what: "failed requests of a tenant beside all attacks",
    most: 0,
    unit: "",
    measured: (_, ratio) => ratio("fairness", "failures beside all attacks"),
  },
  {
    what: "rows of other tenants seen",
    most: 0,
    unit: "",
    measured: (figure) => figure("bleed", "rowhouse", "foreign rows"),
  },
];

/** Rows of the goal, its target, the measured value, and whether it is met. A quick run does not count. */
export function goalRows(results: ReadonlyMap<string, Result>): string[][] {
  const whole = (bench: string): Result | undefined => {
    const result = results.get(bench);
    return result?.quick === true ? undefined : result;
  };
  const figure: Figure = (bench, arm, name) => {
    const result = whole(bench);
    return result === undefined ? Number.NaN : figureOf(result, arm, name);
  };
  const ratio: Ratio = (bench, name) => whole(bench)?.ratios[name] ?? Number.NaN;
  return goals.map(({ what, most, least, unit, measured }) => {
    const value = measured(figure, ratio);
    const met = (most === undefined || value <= most) && (least === undefined || value >= least);
    const bound = most === undefined ? `≥ ${least}` : most === 0 ? "0" : `≤ ${most}`;
    const found = Number.isFinite(value) ? `${shown(value)} ${unit}`.trim() : "not measured";
    return [what, `${bound} ${unit}`.trim(), found, met ? "yes" : "no"];
  });
}
