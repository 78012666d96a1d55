/** Requests per second, latency and CPU per request: stock on its own node server, and the host, dedicated and pooled. */
import { once } from "node:events";
import { z } from "zod";
import { type Bench, startArm } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { type Figures, medians } from "./report.ts";
import { cpuSeconds, postgresCpuSeconds, type ServerArm, startServer } from "./server.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
const operations = {
  typename: "{ __typename }",
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  "one query": "{ allT1Items(first: 10, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
} as const;

const measured = z.object({
  requests: z.number(),
  requestsPerSecond: z.number(),
  p50Ms: z.number(),
  p99Ms: z.number(),
  failed: z.number(),
});

async function load(
  server: ServerArm,
  tenants: readonly string[],
  query: string,
  durationMs: number,
): Promise<Figures> {
  const child = startArm("load");
  child.send({
    input: { url: server.url, tenants, query, connections: 8, warmMs: durationMs / 3, durationMs },
  });
  await once(child, "message");
  const [server0, postgres0] = [await cpuSeconds(server.child.pid), await postgresCpuSeconds()];
  const [message]: unknown[] = await once(child, "message");
  const [server1, postgres1] = [await cpuSeconds(server.child.pid), await postgresCpuSeconds()];
  const { requests, requestsPerSecond, p50Ms, p99Ms, failed } = measured.parse(message);
  if (failed > 0) throw new Error(`${failed} requests failed: ${query}`);
  const perRequest = 1e6 / requests;
  return {
    "req/s": requestsPerSecond,
    "p50 ms": p50Ms,
    "p99 ms": p99Ms,
    "server CPU µs": (server1 - server0) * perRequest,
    "postgres CPU µs": (postgres1 - postgres0) * perRequest,
  };
}

async function answersOf(server: ServerArm, tenant: string): Promise<string> {
  const texts: string[] = [];
  for (const [name, query] of Object.entries(operations)) {
    const text = await server.ask(tenant, query);
    if (text.includes('"errors"')) throw new Error(`${name}: ${text}`);
    texts.push(`${name}: ${text}`);
  }
  return texts.join("\n");
}

async function oneRound(
  database: BenchDatabase,
  arm: string,
  durationMs: number,
  into: Record<string, Figures[]>,
): Promise<string> {
  const tenants = database.tenants.slice(0, 4);
  const server = await startServer(arm, database, tenants);
  try {
    let answers = "";
    for (const tenant of tenants) answers = await answersOf(server, tenant.id);
    for (const [name, query] of Object.entries(operations)) {
      const figures = await load(
        server,
        tenants.map((tenant) => tenant.id),
        query,
        durationMs,
      );
      const key = `${name} · ${arm}`;
      into[key] = [...(into[key] ?? []), figures];
    }
    return answers;
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tables = 10 }) {
    const database = await benchDatabase(4, tables);
    const rounds: Record<string, Figures[]> = {};
    const seconds = quick ? 1 : 5;
    try {
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        const answers = new Set<string>();
        for (const arm of round % 2 === 0 ? arms : arms.toReversed()) {
          answers.add(await oneRound(database, arm, seconds * 1_000, rounds));
        }
        if (answers.size !== 1)
          throw new Error(`the arms answered differently:\n${[...answers].join("\n\n")}`);
      }
    } finally {
      await database.close();
    }
    const found = Object.fromEntries(Object.entries(rounds).map(([name, each]) => [name, medians(each)]));
    const ratios: Record<string, number> = {};
    for (const name of Object.keys(operations)) {
      const of = (arm: string, figure: string): number => found[`${name} · ${arm}`]?.[figure] ?? Number.NaN;
      const cpu = (arm: string): number => of(arm, "server CPU µs") + of(arm, "postgres CPU µs");
      for (const arm of ["dedicated", "pooled"]) {
        ratios[`${name}: req/s, ${arm} over stock`] = of(arm, "req/s") / of("stock", "req/s");
        ratios[`${name}: CPU, ${arm} over stock`] = cpu(arm) / cpu("stock");
      }
    }
    return {
      arms: found,
      rounds,
      ratios,
      notes: [
        `4 tenants × ${tables} tables, 8 connections, load from a process of its own on the same machine`,
      ],
      charts: [
        {
          title: "Requests per second, one SQL query each",
          unit: "req/s",
          bars: arms.map((arm) => ({ label: arm, value: found[`one query · ${arm}`]?.["req/s"] ?? 0 })),
        },
      ],
    };
  },
};

export default bench;
