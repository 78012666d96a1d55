/**
 * Requests per second, latency and CPU per request: stock on its own node server, the host, dedicated and pooled, in each set-up of
 * its database, and the floor, below which nothing can come that serves tenants from Node and PostgreSQL.
 */
import { z } from "zod";
import type { Bench } from "./bench.ts";
import type { BenchDatabase } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { operations } from "./operations.ts";
import { type Figures, type Found, figureOf, measuredOf, median, type Rounds } from "./report.ts";
import { measureLoad, type ServerArm, startFloor, startRowhouse, startStock } from "./server.ts";
import { serveInTurn } from "./serving.ts";

const setups = ["full", "managed", "superuser"] as const;
const setupOption = z.enum([...setups, "all"]);
type Setup = (typeof setups)[number];

/** The baselines; without roles stock opens no transaction for a read, but then nothing in PostgreSQL keeps tenants apart. */
const baselines = ["stock", "stock, no role", "floor"] as const;
/** With `--host DIR`: this checkout's host, and the other's on the same database. */
const hosts = ["pooled", "other"] as const;
/** The host by the set-up of its database; "full" has no further name, because all other benches use that. */
const pooledIn = { full: "pooled", managed: "pooled, managed", superuser: "pooled, superuser" } as const;
type Arm = (typeof baselines)[number] | "dedicated" | (typeof pooledIn)[Setup] | (typeof hosts)[number];
const names = Object.keys(operations);

function armsOf(setup: z.infer<typeof setupOption>): readonly Arm[] {
  if (setup === "all")
    return [...baselines, "dedicated", pooledIn.full, pooledIn.managed, pooledIn.superuser];
  return [...baselines, ...(setup === "full" ? ["dedicated" as const] : []), pooledIn[setup]];
}

/** Uses the host's defaults, including the guard on writes; only the pools are as large as stock's. */
async function startServer(arm: Arm, database: BenchDatabase, host: string | undefined): Promise<ServerArm> {
  if (arm === "floor") return startFloor(database);
  if (arm === "stock" || arm === "stock, no role")
    return startStock(database, database.tenants, { roles: arm === "stock" });
  await database.setPrivileged(arm !== "pooled, managed");
  const pooling = arm !== "dedicated";
  return startRowhouse({
    database,
    tenants: database.tenants,
    url: arm === "pooled, superuser" ? database.ownerUrl : database.url,
    // Dedicated tenants are spread over two cells.
    poolSize: pooling ? 8 : 4,
    config: { pooling },
    host: arm === "other" ? host : undefined,
  });
}

/** Each arm of `compared` over `base`, by operation. */
function ratiosOver(base: Arm, compared: readonly Arm[], found: Pick<Found, "arms">): Figures {
  const ratios: Record<string, number> = {};
  for (const name of names) {
    const of = (arm: string, figure: string): number => figureOf(found, `${name} · ${arm}`, figure);
    const cpu = (arm: string): number => of(arm, "server CPU µs") + of(arm, "postgres CPU µs");
    for (const arm of compared.filter((each) => each !== base)) {
      ratios[`${name}: req/s, ${arm} over ${base}`] = of(arm, "req/s") / of(base, "req/s");
      ratios[`${name}: CPU, ${arm} over ${base}`] = cpu(arm) / cpu(base);
    }
  }
  return measuredOf(ratios);
}

const overFloor = {
  "server CPU over floor": "server CPU µs",
  "postgres CPU over floor": "postgres CPU µs",
} as const;

/**
 * The medians, with what only the rounds can tell: the CPU per request over the floor's in the same round, which a noisy machine
 * disturbs less than either, and the least and the most of it and of the requests per second.
 */
function withSpread(rounds: Rounds): Record<string, Figures> {
  return Object.fromEntries(
    Object.entries(rounds.medians).map(([arm, medians]) => {
      const floor = rounds.all[arm.replace(/ · .*/, " · floor")] ?? [];
      const each = rounds.all[arm] ?? [];
      const spread: Record<string, number> = {};
      const add = (name: string, values: readonly number[]): void => {
        spread[`${name}, min`] = Math.min(...values);
        spread[`${name}, max`] = Math.max(...values);
      };
      add(
        "req/s",
        each.flatMap((round) => round["req/s"] ?? []),
      );
      for (const [name, figure] of Object.entries(overFloor)) {
        const ratios = each.map((round, at) => (round[figure] ?? NaN) / (floor[at]?.[figure] ?? NaN));
        const known = ratios.filter((ratio) => Number.isFinite(ratio));
        if (known.length === 0) continue;
        spread[name] = median(known);
        add(name, known);
      }
      return [arm, { ...medians, ...measuredOf(spread) }];
    }),
  );
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10, host, setup }) {
    const chosen = setupOption.parse(setup ?? "full");
    const compared: readonly Arm[] = host === undefined ? armsOf(chosen) : hosts;
    const rounds = await serveInTurn({
      tenants,
      tables,
      rounds: quick ? 1 : host === undefined ? 8 : 6,
      arms: compared,
      operations,
      start: (arm, database) => startServer(arm, database, host),
      measure: (load) => measureLoad(load, quick ? 1_000 : host === undefined ? 2_000 : 5_000),
    });
    const arms = withSpread(rounds);
    const between =
      chosen === "all" ? ratiosOver("pooled", [pooledIn.managed, pooledIn.superuser], { arms }) : {};
    return {
      arms,
      rounds: rounds.all,
      ratios:
        host === undefined
          ? { ...ratiosOver("stock", compared, { arms }), ...between }
          : ratiosOver("other", ["pooled"], { arms }),
      notes: [
        `${tenants} tenants × ${tables} tables, 8 connections, load from a process of its own on the same machine`,
        'the hosts run with their default guard, "writes": their mutations prove the schema, stock\'s do not',
        ...(host === undefined ? baselineNotes : []),
      ],
    };
  },
  charts: (found) => {
    // Left out: without SQL it is ten times as fast as the others, and would make their bars tiny.
    const shown = ["stock", "dedicated", ...Object.values(pooledIn), "floor"];
    const arms = shown.filter((arm) => Object.hasOwn(found.arms, `one row · ${arm}`));
    const bars = { operations: names.filter((name) => name !== "typename"), arms };
    return [
      operationBars(found, {
        ...bars,
        title: "Requests per second",
        unit: "more is better",
        figures: ["req/s"],
      }),
      operationBars(found, {
        ...bars,
        title: "CPU per request, server and PostgreSQL together",
        unit: "µs, less is better",
        figures: ["server CPU µs", "postgres CPU µs"],
      }),
    ];
  },
};

const baselineNotes = [
  "stock sets its tenant's role for each request, as the host does; without, a read is one round trip instead of four, and nothing in PostgreSQL keeps tenants apart",
  "floor: a bare Node server that knows the SQL, sends begin, role and path, statement and commit as one burst of pg, and writes JSON.stringify of the rows",
  "managed: nothing that only a superuser can install, neither event triggers nor hidden names of statements; superuser: the host connects as one",
];

export default bench;
