/** Reads the current revisions of schemas from the database. */
import { z } from "zod";
import type { Queryable } from "../postgres/database.ts";

const rowsSchema = z.array(z.object({ schema_name: z.string(), revision: z.string().transform(BigInt) }));

/** The revision of each of `schemas` that has one; a schema that does not exist has none. */
export async function readRevisions(
  database: Queryable,
  schemas: readonly string[],
): Promise<Map<string, bigint>> {
  const { rows } = await database.query(
    "select schema_name, revision::text from rowhouse.schema_revision where schema_name = any($1)",
    [schemas],
  );
  return new Map(rowsSchema.parse(rows).map(({ schema_name, revision }) => [schema_name, revision]));
}

/** The revision of each of `schemas`, as a string; "0" if it has none. */
export async function revisionsOf(
  database: Queryable,
  schemas: readonly string[],
): Promise<Record<string, string>> {
  const known = await readRevisions(database, schemas);
  return Object.fromEntries(schemas.map((name) => [name, String(known.get(name) ?? 0n)]));
}

const stateRow = z.object({ replica: z.boolean(), revisions: z.string() });

/**
 * The revisions of `schemas`, and whether the database is a replica, which may lag behind what its primary
 * has announced.
 */
export async function lookUpRevisions(
  database: Queryable,
  schemas: readonly string[],
): Promise<{ readonly found: ReadonlyMap<string, bigint>; readonly replica: boolean }> {
  const { rows } = await database.query(
    `select pg_catalog.pg_is_in_recovery() as replica, (
      select coalesce(json_object_agg(schema_name, revision::text), '{}')::text
      from rowhouse.schema_revision where schema_name = any($1)
    ) as revisions`,
    [schemas],
  );
  const { replica, revisions } = stateRow.parse(rows[0]);
  return { found: parseReport(revisions), replica };
}

const jsonText = z.string().transform((text): unknown => JSON.parse(text));
/** A string: a JSON number cannot hold every bigint. */
const revisionText = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt);
const report = jsonText.pipe(z.record(z.string(), revisionText));
const notice = jsonText.pipe(z.object({ schema: z.string(), revision: revisionText }));

/** The report of a failed guard, by schema; empty if `text` is no such report. */
export function parseReport(text: string): ReadonlyMap<string, bigint> {
  return new Map(Object.entries(parsed(report, text) ?? {}));
}

/** The notification of the control schema's triggers; null for anything else, because any role may NOTIFY. */
export function parseNotice(payload: string): z.output<typeof notice> | null {
  return parsed(notice, payload);
}

function parsed<Value>(schema: z.ZodType<Value, string>, text: string): Value | null {
  try {
    return schema.parse(text);
  } catch {
    return null;
  }
}
