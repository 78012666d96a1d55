/** Requests per second, latency and CPU per request: stock on its own node server, and the host, dedicated and pooled. */
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";
import { measureLoad, type ServerArm, startRowhouse, startStock } from "./server.ts";

const arms = ["stock", "dedicated", "pooled"] as const;
const operations = {
  typename: "{ __typename }",
  "one row": "{ t1ItemByRowId(rowId: 3) { rowId name mood amount } }",
  "one query": "{ allT1Items(first: 10, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }",
  nested: "{ allT3Items(first: 5) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  mutation:
    'mutation { createT1Item(input: { t1Item: { name: "made", amount: "1.5" } }) { t1Item { name amount } } }',
} as const;
const names = Object.keys(operations);

/** With the host's defaults, the guard on writes among them; only the pools are as large as stock's. */
function startServer(arm: (typeof arms)[number], database: BenchDatabase): Promise<ServerArm> {
  if (arm === "stock") return startStock(database, database.tenants);
  return startRowhouse({
    database,
    tenants: database.tenants,
    // Tenants of their own are spread over two cells.
    poolSize: arm === "pooled" ? 8 : 4,
    config: { pooling: arm === "pooled" },
  });
}

async function answersOf(server: ServerArm, tenant: string): Promise<string> {
  const texts: string[] = [];
  for (const [name, query] of Object.entries(operations)) {
    const text = await server.ask(tenant, query);
    if (text.includes('"errors"')) throw new Error(`${name}: ${text}`);
    texts.push(`${tenant}, ${name}: ${text}`);
  }
  return texts.join("\n");
}

async function oneRound(
  database: BenchDatabase,
  arm: (typeof arms)[number],
  durationMs: number,
  rounds: Rounds,
): Promise<string> {
  const tenants = database.tenants.map((tenant) => tenant.id);
  const server = await startServer(arm, database);
  try {
    const answers: string[] = [];
    for (const tenant of tenants) answers.push(await answersOf(server, tenant));
    for (const [name, query] of Object.entries(operations)) {
      const figures = await measureLoad(server, database, tenants, query, durationMs);
      rounds.add(`${name} · ${arm}`, figures);
    }
    return answers.join("\n");
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = 4, tables = 10 }) {
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 3); round += 1) {
        const answers = new Set<string>();
        for (const arm of inTurn(arms, round)) {
          answers.add(await oneRound(database, arm, quick ? 1_000 : 5_000, rounds));
        }
        if (answers.size !== 1)
          throw new Error(`the arms answered differently:\n${[...answers].join("\n\n")}`);
      }
    } finally {
      await database.close();
    }
    const found = { arms: rounds.medians };
    const ratios: Record<string, number> = {};
    for (const name of names) {
      const of = (arm: string, figure: string): number => figureOf(found, `${name} · ${arm}`, figure);
      const cpu = (arm: string): number => of(arm, "server CPU µs") + of(arm, "postgres CPU µs");
      for (const arm of ["dedicated", "pooled"]) {
        ratios[`${name}: req/s, ${arm} over stock`] = of(arm, "req/s") / of("stock", "req/s");
        ratios[`${name}: CPU, ${arm} over stock`] = cpu(arm) / cpu("stock");
      }
    }
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(ratios),
      notes: [
        `${tenants} tenants × ${tables} tables, 8 connections, load from a process of its own on the same machine`,
        "dedicated and pooled run with the host's default guard, \"writes\": their mutations prove the schema, stock's do not",
      ],
    };
  },
  charts: (found) => {
    // One without SQL is ten times as fast as the others, and would make them all small.
    const drawn = names.filter((name) => name !== "typename");
    return [
      {
        kind: "bars",
        title: "Requests per second",
        unit: "more is better",
        subtitle: found.notes[0] ?? "",
        groups: drawn,
        series: arms.map((arm) => ({
          name: arm,
          values: drawn.map((name) => figureOf(found, `${name} · ${arm}`, "req/s")),
        })),
      },
      {
        kind: "bars",
        title: "CPU per request, server and PostgreSQL together",
        unit: "µs, less is better",
        subtitle: found.notes[0] ?? "",
        groups: drawn,
        series: arms.map((arm) => ({
          name: arm,
          values: drawn.map(
            (name) =>
              figureOf(found, `${name} · ${arm}`, "server CPU µs") +
              figureOf(found, `${name} · ${arm}`, "postgres CPU µs"),
          ),
        })),
      },
    ];
  },
};

export default bench;
