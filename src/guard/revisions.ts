/** The revisions of schemas, as the database has them now. */
import { z } from "zod";
import type { Queryable } from "../pg/pool.ts";

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
