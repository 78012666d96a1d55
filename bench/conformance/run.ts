/**
 * `npm run conformance -- DIRECTORY [--postgres 15,18] [--only TEXT] [--arm NAME]`: compares a host's answers to PostGraphile's
 * own documents with those of stock PostGraphile. DIRECTORY is `postgraphile/postgraphile/__tests__` of a checkout of
 * github.com/graphile/crystal.
 */
import { parseArgs } from "node:util";
import { endArms } from "../bench.ts";
import { comparable, firstDifference } from "./answers.ts";
import { type Arm, hostArm, stockArm } from "./arms.ts";
import { Suite, type SuiteDatabase } from "./databases.ts";
import { excused } from "./excused.ts";
import { startServer } from "./servers.ts";
import { type Document, documentsIn } from "./suite.ts";

const arms = [
  { name: "dedicated", pooling: false, renamed: false },
  { name: "pooled", pooling: true, renamed: false },
  { name: "dedicated, renamed", pooling: false, renamed: true },
  { name: "pooled, renamed", pooling: true, renamed: true },
] as const;

interface Difference {
  readonly document: string;
  readonly said: string;
  readonly reason: string | null;
}

/** Every document's answer by name, and how many documents each kind of instance answered. */
async function answersOf(arm: Arm, database: SuiteDatabase, documents: readonly Document[]) {
  const answers = new Map<string, string>();
  const kinds = new Map<string, number>();
  let changed = false;
  for (const document of documents) {
    const { setupSql, cleanupSql, mask = [] } = document.directives;
    if (changed || document.mutates) await database.reset(setupSql);
    changed = document.mutates;
    const answer = await arm
      .answer(document)
      .catch((error: unknown) => [{ errors: [{ message: String(error) }] }]);
    answers.set(document.name, comparable(answer, [mask].flat()));
    const kind = await arm.kind(document);
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    if (cleanupSql !== undefined) changed = true;
  }
  return { answers, kinds };
}

async function compare(directory: string, version: string, only: string | undefined): Promise<boolean> {
  const all = (await documentsIn(directory)).filter(({ name }) => only === undefined || name.includes(only));
  const documents = all
    .filter(({ scripted }) => !scripted)
    .toSorted((one, other) =>
      JSON.stringify([one.schemas, one.options]) < JSON.stringify([other.schemas, other.options]) ? -1 : 1,
    );
  const server = await startServer(version);
  let fine = documents.length > 0;
  try {
    const suite = await Suite.open(directory, server.url);
    const run = async (renamed: boolean, open: (database: SuiteDatabase) => Arm | Promise<Arm>) => {
      const database = await suite.database(renamed);
      const arm = await open(database);
      try {
        return { ...(await answersOf(arm, database, documents)), physical: database.physical };
      } finally {
        await arm.close();
        await database.close();
      }
    };
    const stock = await run(false, stockArm);
    console.log(
      `\nPostgreSQL ${version}: ${documents.length} documents, ${all.length - documents.length} with subscriptions left out`,
    );
    for (const { name, pooling, renamed } of arms.filter(
      (arm) => values.arm === undefined || arm.name === values.arm,
    )) {
      const { answers, kinds, physical } = await run(renamed, (database) =>
        hostArm(database, documents, pooling),
      );
      const differences = documents.flatMap(({ name: document }): Difference[] => {
        const expected = stock.answers.get(document) ?? "";
        const found = answers.get(document) ?? "";
        if (expected === found) return [];
        return [
          {
            document,
            said: firstDifference(expected, found),
            reason: excused(expected, found, { pooled: pooling, physical }),
          },
        ];
      });
      const unexpected = differences.filter(({ reason }) => reason === null);
      console.log(
        `\n${name}: ${documents.length - differences.length} of ${documents.length} alike, ${unexpected.length} unexpected differences`,
      );
      for (const [kind, count] of kinds) console.log(`  ${count} by ${kind}`);
      for (const { document, said, reason } of differences)
        console.log(`  ${document}: ${reason ?? "UNEXPECTED"}: ${said.slice(0, 300)}`);
      fine &&= unexpected.length === 0;
    }
  } finally {
    await server.close();
  }
  return fine;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { postgres: { type: "string", default: "18" }, only: { type: "string" }, arm: { type: "string" } },
});
const [directory] = positionals;
if (directory === undefined) {
  console.error("usage: npm run conformance -- DIRECTORY [--postgres 15,18] [--only TEXT] [--arm NAME]");
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    endArms();
    process.exit(1);
  });
}
try {
  let fine = true;
  for (const version of values.postgres.split(",")) {
    fine = (await compare(directory, version, values.only)) && fine;
  }
  process.exitCode = fine ? 0 : 1;
} finally {
  endArms();
}
