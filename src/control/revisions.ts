/** The revisions of schemas, as the database has them now. */
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

/** The revision of each of `schemas`, as text; "0" where it has none. */
export async function revisionsOf(
  database: Queryable,
  schemas: readonly string[],
): Promise<Record<string, string>> {
  const known = await readRevisions(database, schemas);
  return Object.fromEntries(schemas.map((name) => [name, String(known.get(name) ?? 0n)]));
}

const stateRow = z.object({ replica: z.boolean(), revisions: z.string() });

/** The same, and whether the database is a replica, which may not have come yet to what its primary has told of. */
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
/** As text: a JSON number does not hold every bigint. */
const revisionText = z
  .string()
  .regex(/^\d{1,19}$/)
  .transform(BigInt);
const report = jsonText.pipe(z.record(z.string(), revisionText));
const notice = jsonText.pipe(z.object({ schema: z.string(), revision: revisionText }));

/** What a failed guard reports, by schema; nothing where `text` is no such report. */
export function parseReport(text: string): ReadonlyMap<string, bigint> {
  return new Map(Object.entries(parsed(report, text) ?? {}));
}

/** What the control schema's triggers notify of; null for anything else, as anyone in the database may notify. */
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
