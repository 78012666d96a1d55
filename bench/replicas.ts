/** A hot blueprint in one cell and in two, and each thread's share of a request: what more cores would yield. */
import { z } from "zod";
import type { Bench } from "./bench.ts";
import { threadCpuSeconds } from "./processes.ts";
import { type Figures, figureOf, measuredOf } from "./report.ts";
import { measureLoad, type ServerArm, startRowhouse } from "./server.ts";
import { type ArmLoad, serveInTurn } from "./serving.ts";

const arms = [1, 2] as const;
const operations = {
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
} as const;

/** Keeps a thread busy: many rows, with little waiting. */
const busy =
  "{ allT3Items(first: 50) { nodes { rowId name t2ItemByParentId { name t1ItemByParentId { name } } } } }";

const status = z.object({ cells: z.array(z.object({ instances: z.array(z.object({ key: z.string() })) })) });

async function instancesOf(server: ServerArm): Promise<number> {
  const { cells } = status.parse(await server.admin("/status"));
  return cells.reduce((sum, { instances }) => sum + instances.length, 0);
}

async function measure(load: ArmLoad<number>, durationMs: number): Promise<Figures> {
  const { arm: replicas, server } = load;
  // Loads the host until it starts the second cell.
  for (let attempt = 0; attempt < 10; attempt += 1) {
    await measureLoad({ ...load, query: busy }, 5_000);
    if ((await instancesOf(server)) === replicas) break;
  }
  const cells = await instancesOf(server);
  if (cells !== replicas) throw new Error(`${cells} cells serve the blueprint, not ${replicas}`);
  const before = await threadCpuSeconds(server.child.pid);
  const figures = await measureLoad(load, durationMs);
  const after = await threadCpuSeconds(server.child.pid);
  // The CPU times include the warm-up, and the counted requests are three quarters of all.
  const perRequest = 1e6 / ((figures["requests"] ?? Number.NaN) * (4 / 3));
  const frontMicros = (after.main - before.main) * perRequest;
  return {
    ...figures,
    "front CPU µs": frontMicros,
    "cells' CPU µs": (after.all - before.all) * perRequest - frontMicros,
  };
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const rounds = await serveInTurn({
      tenants,
      tables,
      rounds: quick ? 1 : 3,
      arms,
      operations,
      start: (replicas, database) =>
        startRowhouse({
          database,
          tenants: database.tenants,
          poolSize: 8 / replicas,
          config: { pooling: true, cells: { replicas } },
        }),
      measure: (load) => measure(load, quick ? 2_000 : 6_000),
    });
    const found = { arms: rounds.medians };
    const ratios: Record<string, number> = {};
    for (const name of Object.keys(operations)) {
      const of = (replicas: number, figure: string): number =>
        figureOf(found, `${name} · ${replicas}`, figure);
      ratios[`${name}: req/s, two cells over one`] = of(2, "req/s") / of(1, "req/s");
      ratios[`${name}: cells that one front could keep busy`] =
        of(1, "cells' CPU µs") / of(1, "front CPU µs");
    }
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables of one shape; 8 connections in all; server, database and load share the machine`,
      ],
    };
  },
  charts: (found) => [
    {
      kind: "bars",
      title: "CPU of a request, by thread",
      unit: "µs",
      subtitle: found.notes[0] ?? "",
      groups: Object.keys(operations),
      series: ["front CPU µs", "cells' CPU µs", "postgres CPU µs"].map((figure) => ({
        name: figure.replace(" CPU µs", ""),
        values: Object.keys(operations).map((name) => figureOf(found, `${name} · 1`, figure)),
      })),
    },
  ],
};

export default bench;
