/** Which tables of a schema are watched, and whether as they are now. */
import { z } from "zod";
import type { Queryable } from "../postgres/database.ts";

export interface WatchedTable {
  readonly schema: string;
  readonly table: string;
  /** `outdated`: some of its triggers are missing, or name the columns of an earlier primary key. */
  readonly state: "watched" | "outdated" | "not watched";
}

const rowsSchema = z.array(
  z.object({
    schema: z.string(),
    table: z.string(),
    state: z.enum(["watched", "outdated", "not watched"]),
  }),
);

/** Arguments of triggers end with a zero byte each. A partition belongs to its table, so it is watched if that is. */
const query = `
  select n.nspname as schema, c.relname as table, case
      when t.triggers = 4 and t.current then 'watched'
      when t.triggers > 0 or exists (
        select from pg_catalog.pg_trigger p where p.tgrelid = pg_catalog.pg_partition_root(c.oid)
          and p.tgfoid = pg_catalog.to_regprocedure('rowhouse.note_change()')
      ) then 'outdated'
      else 'not watched'
    end as state
  from pg_catalog.pg_namespace n join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
  cross join lateral (
    select count(*) as triggers, bool_and(g.tgargs = (
      select coalesce(string_agg(convert_to(a.attname::text, getdatabaseencoding()) || '\\x00'::bytea, ''::bytea order by k.place), '')
      from pg_catalog.pg_index i cross join unnest(i.indkey) with ordinality as k (number, place)
      join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number
      where i.indrelid = c.oid and i.indisprimary and k.place <= i.indnkeyatts
    )) as current
    from pg_catalog.pg_trigger g
    where g.tgrelid = c.oid and g.tgfoid = pg_catalog.to_regprocedure('rowhouse.note_change()') and g.tgenabled <> 'D'
  ) t
  where n.nspname = any ($1::text[]) order by 1, 2`;

/** The tables of `schemas`, by name. */
export async function readWatchedTables(
  database: Queryable,
  schemas: readonly string[],
): Promise<readonly WatchedTable[]> {
  return rowsSchema.parse((await database.query(query, [schemas])).rows);
}
