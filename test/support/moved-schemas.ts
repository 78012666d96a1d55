/** Determines which schemas' revisions an action changes. */
import { expect } from "vitest";
import type { TestDatabase } from "./database.ts";

async function revisions(database: TestDatabase): Promise<ReadonlyMap<string, bigint>> {
  const rows = await database.query<{ schema_name: string; revision: string }>(
    "select schema_name, revision::text from rowhouse.schema_revision",
  );
  return new Map(rows.map(({ schema_name, revision }) => [schema_name, BigInt(revision)]));
}

/** The schemas whose revision `work` changed, sorted; a row that was added or removed counts. No revision ever decreases. */
export async function movedBy(database: TestDatabase, work: () => Promise<unknown>): Promise<string[]> {
  const before = await revisions(database);
  await work();
  const after = await revisions(database);
  for (const [schema, revision] of after) expect(revision).toBeGreaterThanOrEqual(before.get(schema) ?? 0n);
  return [...new Set([...before.keys(), ...after.keys()])]
    .filter((name) => before.get(name) !== after.get(name))
    .sort();
}
