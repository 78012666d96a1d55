/** What a request costs as it is spread over more tenants: each backend of PostgreSQL caches what it has seen of every one. */
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase, sumMb } from "./database.ts";
import { operationBars } from "./operation-bars.ts";
import { operations as all } from "./operations.ts";
import { privateMb } from "./processes.ts";
import { type Figures, figureOf, measuredOf, Rounds } from "./report.ts";
import { measureLoad, type ServerArm, startRowhouse } from "./server.ts";

const operations = { "one row": all["one row"], nested: all.nested, mutation: all.mutation } as const;
const names = Object.keys(operations);
const poolSize = 8;
/** Hosts that are compared; with `--host DIR` the other checkout's as well. */
type Host = "pooled" | "other";

interface Arm {
  readonly host: Host;
  readonly tenants: number;
  /** How often each tenant is asked: all alike, or the nth 1/n times as often as the first. */
  readonly spread: "uniform" | "Zipf";
}

const called = ({ host, tenants, spread }: Arm): string =>
  `${tenants} ${spread}${host === "other" ? ", other" : ""}`;

/** Numbers from 0 to 1 that look random and are the same in every run. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const asked = 50_000;

/** The tenants of the requests, one after the other. */
function sequenceOf({ tenants, spread }: Arm, ids: readonly string[]): string[] {
  const next = numbers(tenants);
  const weights = ids.slice(0, tenants).map((_, index) => (spread === "Zipf" ? 1 / (index + 1) : 1));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  let passed = 0;
  const upTo = weights.map((weight) => {
    passed += weight / sum;
    return passed;
  });
  return Array.from({ length: asked }, () => {
    const at = next();
    const index = upTo.findIndex((limit) => at < limit);
    return ids[index === -1 ? tenants - 1 : index] ?? "";
  });
}

/** Every operation once for each tenant, eight at a time; throws if an answer has errors or is another tenant's. */
async function serveAll(server: ServerArm, ids: readonly string[]): Promise<void> {
  const left = [...ids];
  const serve = async (): Promise<void> => {
    for (let id = left.pop(); id !== undefined; id = left.pop()) {
      for (const [name, query] of Object.entries(operations)) {
        const text = await server.ask(id, query);
        const isTheirs = name === "mutation" || text.includes(`"${id} item `);
        if (text.includes('"errors"') || !isTheirs) throw new Error(`${name} of ${id}: ${text}`);
      }
    }
  };
  await Promise.all(Array.from({ length: poolSize }, serve));
}

/** A cell's connections are named after host and cell. */
const isOfCell = /^rowhouse:\w+:c\d+$/;

/** Private memory: of the cells' backends and the front's, of the largest, and of the host. */
async function memoryOf(server: ServerArm, database: BenchDatabase): Promise<Figures> {
  const backends = await database.backends();
  const ofCell = backends.filter(({ application }) => isOfCell.test(application));
  return {
    "backends MB": sumMb(ofCell),
    "front's MB": sumMb(backends) - sumMb(ofCell),
    "largest MB": Math.max(...backends.map((each) => each.privateMb)),
    "host MB": await privateMb(server.child.pid),
  };
}

interface Run {
  readonly database: BenchDatabase;
  readonly rounds: Rounds;
  readonly host: string | undefined;
  readonly durationMs: number;
}

async function measure(arm: Arm, { database, rounds, host, durationMs }: Run): Promise<void> {
  const ids = database.tenants.map(({ id }) => id);
  const server = await startRowhouse({
    database,
    tenants: database.tenants,
    poolSize,
    config: { pooling: true },
    host: arm.host === "other" ? host : undefined,
  });
  try {
    await serveAll(server, ids.slice(0, arm.tenants));
    const tenants = sequenceOf(arm, ids);
    for (const [name, query] of Object.entries(operations)) {
      const figures = await measureLoad({ server, database, tenants, query }, durationMs);
      rounds.add(`${name} · ${called(arm)}`, { ...figures, ...(await memoryOf(server, database)) });
    }
  } finally {
    await server.stop();
  }
}

function armsOf(most: number, hosts: readonly Host[]): Arm[] {
  const counts = [...new Set([4, 100, 1000].filter((count) => count < most).concat(most))];
  const last = counts.at(-1) ?? most;
  const spreads = counts.map((tenants) => ({ tenants, spread: "uniform" as const }));
  return [...spreads, { tenants: last, spread: "Zipf" as const }].flatMap((each) =>
    hosts.map((host) => ({ ...each, host })),
  );
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 40 : 1000, tables = 10, host }) {
    const hosts: readonly Host[] = host === undefined ? ["pooled"] : ["pooled", "other"];
    const arms = armsOf(tenants, hosts);
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        const run = { database, rounds, host, durationMs: quick ? 1_000 : 6_000 };
        for (const arm of inTurn(arms, round)) await measure(arm, run);
      }
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    const of = (name: string, arm: Arm, figure: string): number =>
      figureOf(found, `${name} · ${called(arm)}`, figure);
    const ratios: Record<string, number> = {};
    for (const name of names) {
      for (const arm of arms) {
        const few = { ...arm, tenants: Math.min(4, tenants), spread: "uniform" as const };
        for (const figure of ["req/s", "postgres CPU µs"]) {
          if (called(arm) === called(few)) continue;
          ratios[`${name}: ${figure}, ${called(arm)} over 4`] = of(name, arm, figure) / of(name, few, figure);
        }
        if (arm.host === "pooled" && host !== undefined) {
          for (const figure of ["req/s", "server CPU µs", "postgres CPU µs", "backends MB"]) {
            const other = of(name, { ...arm, host: "other" }, figure);
            ratios[`${name}: ${figure}, ${called(arm)} over other`] = of(name, arm, figure) / other;
          }
        }
      }
    }
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables of one shape in the database, of which an arm's are asked; ${poolSize} connections`,
        "every tenant of an arm has had each operation once before the first figure",
        "memory is private memory from /proc, without what processes share; backends are those of the cell, the front's apart",
      ],
    };
  },
  charts: (found) => {
    const [first = ""] = names;
    const arms = Object.keys(found.arms)
      .filter((arm) => arm.startsWith(`${first} · `))
      .map((arm) => arm.slice(first.length + 3));
    const bars = { operations: names, arms };
    return [
      operationBars(found, {
        ...bars,
        title: "Requests per second, by tenants",
        unit: "more is better",
        figures: ["req/s"],
      }),
      operationBars(found, {
        ...bars,
        title: "PostgreSQL's CPU per request, by tenants",
        unit: "µs, less is better",
        figures: ["postgres CPU µs"],
      }),
      operationBars(found, {
        ...bars,
        title: "Private memory of the cell's backends, by tenants",
        unit: "MB after the operation, less is better",
        figures: ["backends MB"],
      }),
    ];
  },
};

export default bench;
