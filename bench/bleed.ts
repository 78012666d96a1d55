/** Whether a tenant ever receives another's rows while requests fail or are cancelled, cells are evicted and schemas change. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { Agent, request } from "undici";
import { type Bench, endArms } from "./bench.ts";
import { type BenchDatabase, type BenchTenant, benchDatabase } from "./database.ts";
import { figureOf, Rounds } from "./report.ts";
import { metricOf, type ServerArm, startRowhouse } from "./server.ts";
import { statusOf } from "./status.ts";

const clients = 24;

/** Every row that a tenant owns contains its name. */
const operations: readonly ((tenant: string) => string)[] = [
  () => "{ allT1Items(first: 5) { nodes { name } } }",
  () => "{ t1ItemByRowId(rowId: 3) { name mood } }",
  () => "{ allT3Items(first: 3) { nodes { name t2ItemByParentId { name t1ItemByParentId { name } } } } }",
  (tenant) =>
    `mutation { createT2Item(input: { t2Item: { name: "${tenant} item made", parentId: 1 } }) { t2Item { name t1ItemByParentId { name } } } }`,
];
/** Fails in the middle of its transaction, after a row was written. */
const failing = (tenant: string): string =>
  `mutation { a: createT2Item(input: { t2Item: { name: "${tenant} item lost" } }) { t2Item { name } } b: createT2Item(input: { t2Item: { name: "${tenant} item lost", amount: "99999999999999" } }) { t2Item { name } } }`;

class Witness {
  readonly counts = {
    requests: 0,
    answered: 0,
    "rows seen": 0,
    "foreign rows": 0,
    "failed as meant": 0,
    cancelled: 0,
    "turned away": 0,
    "other errors": 0,
    evictions: 0,
    "schema changes": 0,
  };
  readonly foreign: string[] = [];
  readonly errors: string[] = [];

  see(tenant: string, text: string): void {
    for (const [, owner = ""] of text.matchAll(/(t\d{4}) item/g)) {
      this.counts["rows seen"] += 1;
      if (owner === tenant) continue;
      this.counts["foreign rows"] += 1;
      this.foreign.push(`${tenant} saw ${owner}: ${text.slice(0, 300)}`);
    }
  }

  /** An answer that is neither the expected one nor a declared failure is a fault too. */
  judge(tenant: string, status: number, text: string, meantToFail: boolean): void {
    this.see(tenant, text);
    if (status === 503 || status === 409) this.counts["turned away"] += 1;
    else if (meantToFail && text.includes('"errors"')) this.counts["failed as meant"] += 1;
    else if (text.includes('"errors"') || !text.includes(`${tenant} item`)) {
      this.counts["other errors"] += 1;
      this.errors.push(`${tenant}: ${status} ${text.slice(0, 300)}`);
    } else this.counts.answered += 1;
  }
}

async function ask(
  server: ServerArm,
  agent: Agent,
  tenant: string,
  kind: number,
  witness: Witness,
): Promise<void> {
  const meantToFail = kind === 8;
  const cancelled = kind === 9 ? new AbortController() : undefined;
  const operation = operations[kind % operations.length];
  const query = meantToFail || operation === undefined ? failing(tenant) : operation(tenant);
  witness.counts.requests += 1;
  const timer = cancelled === undefined ? undefined : setTimeout(() => cancelled.abort(), Math.random() * 4);
  try {
    const { statusCode, body } = await request(server.url, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json", "x-tenant": tenant },
      body: JSON.stringify({ query }),
      dispatcher: agent,
      ...(cancelled === undefined ? {} : { signal: cancelled.signal }),
    });
    witness.judge(tenant, statusCode, await body.text(), meantToFail);
  } catch (error) {
    if (cancelled?.signal.aborted !== true) throw error;
    witness.counts.cancelled += 1;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Evicts cells and changes schemas by hand until the run is over: after every so many requests, not by the clock, so that a slow
 * machine is not disturbed more often than it can recover.
 */
async function disturb(
  server: ServerArm,
  database: BenchDatabase,
  witness: Witness,
  every: number,
  over: () => boolean,
): Promise<void> {
  const client = new pg.Client({ connectionString: database.ownerUrl });
  await client.connect();
  try {
    for (let turn = 0; !over(); turn += 1) {
      while (!over() && witness.counts.requests < (turn + 1) * every) await sleep(5);
      const tenant = database.tenants[(turn * 7) % database.tenants.length];
      if (turn % 3 === 0) {
        const { cells } = await statusOf(server);
        const cell = cells.find(({ phase }) => phase === "serving");
        if (cell === undefined) continue;
        // The cell may have been evicted meanwhile.
        const evicted = await server.admin("/evict", { cell: cell.id }).catch(() => null);
        if (evicted !== null) witness.counts.evictions += 1;
      } else if (tenant !== undefined) {
        await changeSchema(client, tenant);
        witness.counts["schema changes"] += 1;
      }
    }
  } finally {
    await client.end();
  }
}

/** Adds a column, or drops it if it exists. The tenant then has another shape, which another tenant may have by now. */
async function changeSchema(client: pg.Client, { schemas }: BenchTenant): Promise<void> {
  const { rows } = await client.query(
    "select from information_schema.columns where table_schema = $1 and table_name = 't1_item' and column_name = 'moved'",
    [schemas.app],
  );
  const table = `${pg.escapeIdentifier(schemas.app)}.t1_item`;
  await client.query(
    rows.length > 0
      ? `alter table ${table} drop column moved`
      : `alter table ${table} add column moved integer`,
  );
}

async function run(database: BenchDatabase, requests: number, every: number): Promise<Witness> {
  const witness = new Witness();
  const server = await startRowhouse({
    database,
    tenants: database.tenants,
    config: { pooling: true, guard: "all", cells: { memoryMb: 1_024 } },
  });
  const agent = new Agent({ connections: clients });
  try {
    let left = requests;
    const ids = database.tenants.map(({ id }) => id);
    const asking = Array.from({ length: clients }, async () => {
      while (left > 0) {
        left -= 1;
        const tenant = ids[Math.floor(Math.random() * ids.length)] ?? "";
        await ask(server, agent, tenant, Math.floor(Math.random() * 10), witness);
      }
    });
    const disturbing = disturb(server, database, witness, every, () => left <= 0);
    await Promise.all([...asking, disturbing]);
    const unguarded = await metricOf(server, "guard_checks_total");
    if (unguarded === 0) throw new Error("the guard did not check anything");
    return witness;
  } finally {
    await agent.destroy();
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 12 : 50, tables = 5 }) {
    const requests = quick ? 3_000 : 200_000;
    const database = await benchDatabase(tenants, tables);
    const rounds = new Rounds();
    let witness: Witness;
    try {
      await database.installControl();
      witness = await run(database, requests, quick ? 150 : 1_000);
    } finally {
      endArms();
      await database.close();
    }
    const { counts, foreign, errors } = witness;
    rounds.add("rowhouse", counts);
    if (foreign.length > 0)
      throw new Error(`rows of other tenants were seen:\n${foreign.slice(0, 10).join("\n")}`);
    const { answered, cancelled, evictions } = counts;
    const quiet = [answered, cancelled, evictions, counts["failed as meant"], counts["schema changes"]];
    if (quiet.includes(0)) throw new Error(`not all of it happened: ${JSON.stringify(counts)}`);
    return {
      arms: rounds.medians,
      rounds: rounds.all,
      ratios: { "foreign rows per row seen": counts["foreign rows"] / counts["rows seen"] },
      notes: [
        `${requests} requests of ${tenants} tenants, ${clients} at a time; guard "all"`,
        "every row names its tenant; cells are ended and columns come and go meanwhile",
        ...errors.slice(0, 5),
      ],
    };
  },
  charts: (found) => [
    {
      kind: "bars",
      title: "What the tenants saw",
      unit: "logarithmic",
      subtitle: found.notes[0] ?? "",
      groups: Object.keys(found.arms["rowhouse"] ?? {}),
      series: [
        {
          name: "rowhouse",
          values: Object.keys(found.arms["rowhouse"] ?? {}).map((name) => figureOf(found, "rowhouse", name)),
        },
      ],
      logarithmic: true,
    },
  ],
};

export default bench;
