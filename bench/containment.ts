/** Whether a process survives when one tenant's request allocates without end: with V8's limit alone, and with the governor. */
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Bench, inTurn } from "./bench.ts";
import { type BenchDatabase, type BenchTenant, benchDatabase } from "./database.ts";
import { memoryOf } from "./processes.ts";
import { figureOf, measuredOf, Rounds } from "./report.ts";
import { type ServerArm, startRowhouse } from "./server.ts";
import { cellOf, waitForStatus } from "./status.ts";

const arms = ["V8 limit alone", "governor"] as const;
type Arm = (typeof arms)[number];

/** The shapes of arms/endless-preset.ts. */
const shapes = ["map", "array", "buffers", "strings", "string", "filled", "json"] as const;
const query = "{ allT1Items(first: 3, orderBy: PRIMARY_KEY_ASC) { nodes { rowId name } } }";
/** A cell's budget. Without the governor it is V8's limit, without the headroom that a governed cell has above it. */
const heapMb = 160;
/** A container with this limit would kill the process. */
const containerMb = 2_048;
const pathOf = (name: string): string => fileURLToPath(new URL(`./arms/${name}.ts`, import.meta.url));

function start(arm: Arm, database: BenchDatabase): Promise<ServerArm> {
  const governed = arm === "governor";
  return startRowhouse({
    database,
    tenants: database.tenants,
    config: {
      pooling: true,
      preset: pathOf("endless-preset"),
      cells: { memoryMb: 1_024, heapMb, ...(governed ? {} : { hardLimitFactor: 1, headroomMb: 0 }) },
    },
    execArgv: governed ? [] : ["--import", pathOf("no-governor")],
  });
}

interface Outcome {
  readonly survived: boolean;
  readonly answered: number;
  readonly failed: number;
}

/** Lets `greedy` allocate without end while `calm` keeps asking, until the cell of `greedy` or the process is gone. */
async function endure(
  server: ServerArm,
  calm: BenchTenant,
  greedy: BenchTenant,
  shape: string,
): Promise<Outcome> {
  for (const { id } of [calm, greedy]) {
    const answer = await server.ask(id, query);
    if (!answer.includes(`${id} item 1`)) throw new Error(`${id} answered ${answer}`);
  }
  const [calmCell, greedyCell] = [await cellOf(server, calm.id), await cellOf(server, greedy.id)];
  if (calmCell === greedyCell) throw new Error("both tenants are in one cell");
  const expected = await server.ask(calm.id, query);
  let over = false;
  let [answered, failed] = [0, 0];
  const asking = Array.from({ length: 3 }, async () => {
    while (!over && server.alive) {
      const answer = await server.ask(calm.id, query).catch(() => "");
      if (answer === expected) answered += 1;
      else failed += 1;
      await sleep(5);
    }
  });
  const watching = (async () => {
    while (!over && server.alive) {
      if ((await memoryOf(server.child.pid)).rssMb > containerMb) server.child.kill("SIGKILL");
      await sleep(10);
    }
  })();
  const growing = await server.ask(greedy.id, `{ endless(shape: "${shape}") }`).catch(() => "");
  if (growing.includes('"data"')) throw new Error(`endless ended: ${growing}`);
  // The exit of a process is reported shortly after the end of its connections.
  if (growing === "") await sleep(200);
  over = true;
  await Promise.all([...asking, watching]);
  const still =
    (await ended(server, greedyCell)) && (await server.ask(calm.id, query).catch(() => "")) === expected;
  return { survived: still, answered, failed };
}

/** Whether the process is alive and the cell's thread gone: a thread that goes on allocating is not contained. */
async function ended(server: ServerArm, cell: string): Promise<boolean> {
  try {
    await waitForStatus(server, ({ cells }) => cells.every(({ id }) => id !== cell));
    return true;
  } catch {
    return false;
  }
}

async function oneRound(arm: Arm, database: BenchDatabase, rounds: Rounds): Promise<void> {
  const [calm, ...others] = database.tenants;
  if (calm === undefined) throw new Error("no tenants");
  let server = await start(arm, database);
  try {
    const figures: Record<string, number> = {};
    let [answered, failed] = [0, 0];
    for (const [index, shape] of shapes.entries()) {
      const greedy = others[index];
      if (greedy === undefined) throw new Error("too few tenants");
      const outcome = await endure(server, calm, greedy, shape);
      figures[`${shape}: survived`] = outcome.survived ? 1 : 0;
      answered += outcome.answered;
      failed += outcome.failed;
      if (outcome.survived) continue;
      await server.stop();
      server = await start(arm, database);
    }
    rounds.add(arm, { ...figures, "others answered": answered, "others failed": failed });
  } finally {
    await server.stop();
  }
}

const bench: Bench = {
  async run({ quick, tables = 5 }) {
    // A shape for each tenant, because tenants of one blueprint would share a cell.
    const tenants = shapes.length + 1;
    const database = await benchDatabase(tenants, tables, tenants);
    const rounds = new Rounds();
    const count = quick ? 1 : 6;
    try {
      await database.installControl();
      for (let round = 0; round < count; round += 1) {
        for (const arm of inTurn(arms, round)) await oneRound(arm, database, rounds);
      }
    } finally {
      await database.close();
    }
    const sum = (arm: Arm, figure: string): number =>
      (rounds.all[arm] ?? []).reduce((total, each) => total + (each[figure] ?? 0), 0);
    // Runs are counted: a median of survivals would hide a single failure.
    const counted = (arm: Arm): Record<string, number> => ({
      runs: count * shapes.length,
      survived: shapes.reduce((total, shape) => total + sum(arm, `${shape}: survived`), 0),
      ...Object.fromEntries(
        shapes.map((shape) => [`${shape}: survived`, sum(arm, `${shape}: survived`) / count]),
      ),
      "others answered": sum(arm, "others answered"),
      "others failed": sum(arm, "others failed"),
    });
    const found = { arms: Object.fromEntries(arms.map((arm) => [arm, counted(arm)])) };
    return {
      ...found,
      rounds: rounds.all,
      ratios: measuredOf(
        Object.fromEntries(
          arms.map((arm) => [
            `survived, ${arm}`,
            figureOf(found, arm, "survived") / figureOf(found, arm, "runs"),
          ]),
        ),
      ),
      notes: [
        `${count} runs of each shape; a cell's limit is ${heapMb} MB, and a process beyond ${containerMb} MB is ended, as a container would`,
        "meanwhile a tenant in another cell goes on asking, three requests at a time",
      ],
    };
  },
  charts: (found) => [
    {
      kind: "bars",
      title: "Processes that outlive a request that takes memory without end",
      unit: "% of runs",
      subtitle: found.notes[0] ?? "",
      groups: [...shapes],
      series: arms.map((arm) => ({
        name: arm,
        values: shapes.map((shape) => figureOf(found, arm, `${shape}: survived`) * 100),
      })),
    },
  ],
};

export default bench;
