/** Benches whose arms are servers on the same tenants, under the same load. */
import { inTurn } from "./bench.ts";
import { type BenchDatabase, benchDatabase } from "./database.ts";
import { type Figures, Rounds } from "./report.ts";
import type { Load, ServerArm } from "./server.ts";

/** One operation of one arm. */
export interface ArmLoad<Arm> extends Load {
  readonly arm: Arm;
  readonly name: string;
}

export interface Serving<Arm> {
  readonly tenants: number;
  readonly tables: number;
  readonly rounds: number;
  readonly arms: readonly Arm[];
  readonly operations: Readonly<Record<string, string>>;
  start(arm: Arm, database: BenchDatabase): Promise<ServerArm>;
  measure(load: ArmLoad<Arm>): Promise<Figures>;
}

/**
 * Starts each arm anew in every round, in alternating order, lets it answer every operation of every tenant, and measures it.
 * Figures are named `OPERATION · ARM`. Throws if an answer has errors or the arms answer differently.
 */
export async function serveInTurn<Arm extends string | number>(bench: Serving<Arm>): Promise<Rounds> {
  const { arms, operations } = bench;
  const database = await benchDatabase(bench.tenants, bench.tables);
  const tenants = database.tenants.map(({ id }) => id);
  const found = new Rounds();
  try {
    await database.installControl();
    for (let round = 0; round < bench.rounds; round += 1) {
      const answers = new Set<string>();
      for (const arm of inTurn(arms, round)) {
        const server = await bench.start(arm, database);
        try {
          answers.add(await answersOf(server, tenants, operations));
          for (const [name, query] of Object.entries(operations)) {
            const figures = await bench.measure({ arm, server, database, tenants, name, query });
            found.add(`${name} · ${arm}`, figures);
          }
        } finally {
          await server.stop();
        }
      }
      if (answers.size !== 1) throw new Error(`the arms answered differently:\n${[...answers].join("\n\n")}`);
    }
  } finally {
    await database.close();
  }
  return found;
}

async function answersOf(
  server: ServerArm,
  tenants: readonly string[],
  operations: Readonly<Record<string, string>>,
): Promise<string> {
  const texts: string[] = [];
  for (const tenant of tenants) {
    for (const [name, query] of Object.entries(operations)) {
      const text = await server.ask(tenant, query);
      if (text.includes('"errors"')) throw new Error(`${name}: ${text}`);
      texts.push(`${tenant}, ${name}: ${text}`);
    }
  }
  return texts.join("\n");
}
