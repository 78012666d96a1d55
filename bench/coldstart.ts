/** Milliseconds to the first answer for a schema that is not known yet, and for a new tenant of a known blueprint. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, type BenchTenant, benchDatabase, tenantCalled } from "./database.ts";
import { cpuSeconds } from "./processes.ts";
import { type Figures, figureOf, measuredOf, median, Rounds } from "./report.ts";
import { type ServerArm, startRowhouse, startStock } from "./server.ts";
import { cellOf, waitForStatus } from "./status.ts";

const arms = ["stock", "cold cell", "warm spare", "known blueprint"] as const;
type Arm = (typeof arms)[number];

const query = "{ allT1Items(first: 3, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name mood amount } } }";
/** The number of shapes, assigned to the tenants in turn. */
const shapes = 4;

async function timed(
  server: ServerArm,
  { id }: BenchTenant,
): Promise<{ readonly ms: number; readonly answer: string }> {
  const startedMs = performance.now();
  const answer = await server.ask(id, query);
  const ms = performance.now() - startedMs;
  if (!answer.includes(`${id} item 1`)) throw new Error(`${id} answered ${answer}`);
  return { ms, answer };
}

async function medianMs(server: ServerArm, tenants: readonly BenchTenant[]): Promise<number> {
  const all: number[] = [];
  for (const tenant of tenants) all.push((await timed(server, tenant)).ms);
  return median(all);
}

/** The number of blueprints that are requested at once from a host that has just started. */
const restarted = 20;
const restartArm = `restart, ${restarted} blueprints`;

/** Measures from when the host is ready and has told a client so to the first answer of the slowest blueprint. */
async function restart(database: BenchDatabase): Promise<Figures> {
  const { tenants } = database;
  const server = await startRowhouse({
    database,
    tenants,
    config: { pooling: true, cells: { memoryMb: 2048 } },
  });
  try {
    await server.ask("nobody", query);
    const startedMs = performance.now();
    const cpuBefore = await cpuSeconds(server.child.pid);
    await Promise.all(tenants.map((tenant) => timed(server, tenant)));
    return {
      "all first answers ms": performance.now() - startedMs,
      "host CPU ms": ((await cpuSeconds(server.child.pid)) - cpuBefore) * 1_000,
    };
  } finally {
    await server.stop();
  }
}

async function measureRestarts(tables: number, times: number, rounds: Rounds): Promise<void> {
  const database = await benchDatabase(restarted, tables, restarted);
  try {
    await database.installControl();
    for (let round = 0; round < times; round += 1) rounds.add(restartArm, await restart(database));
  } finally {
    await database.close();
  }
}

const times = <Value>(value: Value, count: number): Value[] => Array.from({ length: count }, () => value);

interface Measured {
  readonly figures: Figures;
  /** Answers by tenant. */
  readonly answers: ReadonlyMap<string, string>;
}

/** Measures the tenants of every shape but the first, which has been served already: each is a blueprint of its own. */
async function unknown(
  arm: Arm,
  server: ServerArm,
  [first, ...others]: readonly BenchTenant[],
): Promise<Measured> {
  if (first === undefined) throw new Error("no tenants");
  const answers = new Map([[first.id, (await timed(server, first)).answer]]);
  const all: number[] = [];
  for (const tenant of others) {
    // Waits until the next spare cell is up and none is starting, which would distort the measurement.
    if (arm === "warm spare") {
      await waitForStatus(
        server,
        ({ cells }) =>
          cells.some(({ phase }) => phase === "spare") && cells.every(({ phase }) => phase !== "starting"),
      );
    }
    const { ms, answer } = await timed(server, tenant);
    all.push(ms);
    answers.set(tenant.id, answer);
    if (arm !== "stock") await giveUp(server, tenant);
  }
  const warmMs = await medianMs(server, times(first, 200));
  return { figures: { "first answer ms": median(all), "warm answer ms": warmMs }, answers };
}

/** Evicts the tenant's cell. With as many serving cells as cores, the next instance would be placed beside another. */
async function giveUp(server: ServerArm, { id }: BenchTenant): Promise<void> {
  const cell = await cellOf(server, id);
  await server.admin("/evict", { cell });
  await waitForStatus(server, ({ cells }) => cells.every((each) => each.id !== cell));
}

/** Roughly how long it takes someone who has just signed up to send a first request. */
const signUpMs = 1_500;

/** Measures first requests of tenants with the first one's shape; each of `made` is created just before its request. */
async function known(
  server: ServerArm,
  database: BenchDatabase,
  made: readonly BenchTenant[],
): Promise<Measured> {
  const same = database.tenants.filter((_, index) => index % shapes === 0);
  const [first, ...others] = same;
  if (first === undefined) throw new Error("no tenants");
  const answers = new Map([[first.id, (await timed(server, first)).answer]]);
  const warmMs = await medianMs(server, times(first, 200));
  const firstMs = await medianMs(server, others.slice(0, 40));
  const madeMs: number[] = [];
  for (const tenant of made) {
    await database.add(tenant);
    await sleep(signUpMs);
    madeMs.push((await timed(server, tenant)).ms);
  }
  return {
    figures: {
      "first answer ms": firstMs,
      "warm answer ms": warmMs,
      "over a warm one ms": firstMs - warmMs,
      "the same, schema just made ms": median(madeMs) - warmMs,
    },
    answers,
  };
}

async function measure(arm: Arm, database: BenchDatabase, made: readonly BenchTenant[]): Promise<Measured> {
  const tenants = database.tenants.slice(0, shapes);
  const server =
    arm === "stock"
      ? await startStock(database, tenants, { execArgv: ["--max-old-space-size=8192"] })
      : await startRowhouse({
          database,
          tenants: [...database.tenants, ...made],
          config: { pooling: true, cells: { memoryMb: 4096, spare: arm === "cold cell" ? 0 : 1 } },
        });
  try {
    // Excludes what the client needs for its own first request.
    await server.ask("nobody", query);
    return await (arm === "known blueprint" ? known(server, database, made) : unknown(arm, server, tenants));
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tenants = quick ? 40 : 300, tables = 20 }) {
    const database = await benchDatabase(tenants, tables, shapes);
    const rounds = new Rounds();
    const answers = new Map<string, string>();
    try {
      await database.installControl();
      for (let round = 0; round < (quick ? 1 : 5); round += 1) {
        for (const arm of inTurn(arms, round)) {
          const made = Array.from({ length: 5 }, (_, index) => tenantCalled(`n${round}${index}`));
          const measured = await measure(arm, database, made);
          rounds.add(arm, measured.figures);
          for (const [tenant, answer] of measured.answers) {
            const other = answers.get(tenant) ?? answer;
            if (other !== answer) throw new Error(`the arms answered differently: ${other}\n${answer}`);
            answers.set(tenant, answer);
          }
        }
      }
    } finally {
      await database.close();
    }
    await measureRestarts(tables, quick ? 1 : 5, rounds);
    const found = { arms: rounds.medians };
    const first = (arm: Arm): number => figureOf(found, arm, "first answer ms");
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf({
        "first answer, stock over warm spare": first("stock") / first("warm spare"),
        "first answer, cold cell over warm spare": first("cold cell") / first("warm spare"),
        "first answer, stock over known blueprint": first("stock") / first("known blueprint"),
      }),
      notes: [
        `database: ${tenants} tenants × ${tables} tables of ${shapes} shapes`,
        "the process runs and has served another schema; the shape is asked of PostgreSQL within the time",
        `a schema that was just made is asked for ${signUpMs / 1000} s after it, for the first time`,
        `restart: ${restarted} tenants of as many shapes, asked for at once when the host is ready; its own start is not counted`,
      ],
    };
  },
  charts: (found) => [
    {
      kind: "bars",
      title: "Time to the first answer",
      unit: "ms, less is better",
      subtitle: found.notes[0] ?? "",
      groups: arms.map((arm) =>
        arm === "stock" || arm === "known blueprint" ? arm : `unknown blueprint, ${arm}`,
      ),
      series: [{ name: "rowhouse", values: arms.map((arm) => figureOf(found, arm, "first answer ms")) }],
      logarithmic: true,
    },
  ],
};

export default bench;
