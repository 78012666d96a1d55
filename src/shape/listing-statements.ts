/** Whether a tenant's SQL could list the statements that are prepared on its connection. */
import { z } from "zod";
import { HostError } from "../shared/kernel/errors.ts";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import { hidesStatements } from "../shared/postgres/hidden-statements.ts";
import type { ShapeInput } from "./shape.ts";

/**
 * Words in a body beyond those that reach beyond the tenant anyway (`src/role-safety/reach-bodies.ts`): the view and its
 * function, other views of a session's memory, what changes the search path, and functions that find by name what they run.
 */
const words = String.raw`prepared_statement|memory_context|search_path|pg_input_|\m(brin_|gin_clean)|\m(schema|alter)\M`;

/** A name in front of a dot, or of a comment that may precede one. */
const qualifier = String.raw`([[:alpha:]_\u0080-\uffff][\w$\u0080-\uffff]*|"(?:[^"]|"")+")(?=\s*(?:\.|--|/\*))`;

/** Catalogues whose objects are in schemas, and the column that says in which. */
const placed: readonly [catalogue: string, column: string][] = [
  ["pg_class", "relnamespace"],
  ["pg_proc", "pronamespace"],
  ["pg_type", "typnamespace"],
  ["pg_operator", "oprnamespace"],
  ["pg_opclass", "opcnamespace"],
  ["pg_opfamily", "opfnamespace"],
];

/** Catalogues of what belongs to a relation, and the column that says to which. */
const belonging: readonly [catalogue: string, column: string][] = [
  ["pg_rewrite", "ev_class"],
  ["pg_attrdef", "adrelid"],
  ["pg_constraint", "conrelid"],
  ["pg_policy", "polrelid"],
  ["pg_trigger", "tgrelid"],
];

const cls = (catalogue: string): string => `'pg_catalog.${catalogue}'::regclass`;

const ofExtension = (classid: string, objid: string): string => `(
    select pg_catalog.count(*) from pg_catalog.pg_depend e
    where e.classid = ${classid} and e.objid = ${objid} and e.deptype = 'e'
  ) > 0`;

/**
 * Everything that runs by a tenant's SQL is in its schemas, in shared ones, in extensions, or PostgreSQL's own: then
 * `src/role-safety/reach.ts` has seen all of it. So whatever leads elsewhere counts as able to list: a name in a body, a
 * dependency of anything stored, a table's children, casts, and foreign keys of other tables by which a change goes on to them.
 */
const text = `
with
place as materialized (
  select oid, nspname from pg_catalog.pg_namespace where nspname = any ($1::text[] || $2::text[])
),
known as materialized (
  select oid from place union all select oid from pg_catalog.pg_namespace where nspname in ('pg_catalog', 'pg_toast', 'information_schema')
),
acting as materialized (
  select oid from pg_catalog.pg_proc where proname ~ '^RI_FKey_(cascade|setnull|setdefault)_' and pronamespace = 'pg_catalog'::regnamespace
),
top as materialized (
  select d.classid, d.objid from place cross join lateral (
    select classid, objid from pg_catalog.pg_depend where refclassid = ${cls("pg_namespace")} and refobjid = place.oid offset 0
  ) d
),
part(classid, objid) as materialized (
  select classid::oid, objid from top
  ${belonging
    .map(
      ([catalogue, column]) => `union all
  select ${cls(catalogue)}, w.oid from top cross join lateral (select oid from pg_catalog.${catalogue} where ${column} = top.objid offset 0) w
  where top.classid = ${cls("pg_class")}`,
    )
    .join("\n  ")}
  union all
  select ${cls("pg_constraint")}, w.oid from top cross join lateral (select oid from pg_catalog.pg_constraint where contypid = top.objid offset 0) w
  where top.classid = ${cls("pg_type")}
  union all
  select ${cls("pg_cast")}, w.objid from top cross join lateral (
    select classid, objid from pg_catalog.pg_depend where refclassid = ${cls("pg_type")} and refobjid = top.objid offset 0
  ) w
  where top.classid = ${cls("pg_type")} and w.classid = ${cls("pg_cast")}
  union all
  select ${cls("pg_class")}, w.inhrelid from top cross join lateral (select inhrelid from pg_catalog.pg_inherits where inhparent = top.objid offset 0) w
  where top.classid = ${cls("pg_class")}
),
reference as (
  select d.refclassid, d.refobjid, case d.refclassid
      when ${cls("pg_namespace")} then d.refobjid
      ${placed
        .map(
          ([catalogue, column]) =>
            `when ${cls(catalogue)} then (select ${column} from pg_catalog.${catalogue} where oid = d.refobjid)`,
        )
        .join("\n      ")}
    end as namespace
  from part cross join lateral (
    select refclassid, refobjid from pg_catalog.pg_depend where classid = part.classid and objid = part.objid offset 0
  ) d
),
body as (
  select p.prosrc collate "C" as prosrc, p.proconfig, p.stored from top cross join lateral (
    select prosrc, proconfig, prosqlbody is null as stored from pg_catalog.pg_proc where oid = top.objid offset 0
  ) p
  where top.classid = ${cls("pg_proc")} and not ${ofExtension("top.classid", "top.objid")}
)
select case when ${hidesStatements} then true else
  exists (
    select from reference where namespace not in (select oid from known) and not ${ofExtension("reference.refclassid", "reference.refobjid")}
  )
  or exists (
    select from top
    cross join lateral (
      select tgconstrrelid from pg_catalog.pg_trigger where tgrelid = top.objid and tgfoid in (select oid from acting) offset 0
    ) t
    cross join lateral (select relnamespace from pg_catalog.pg_class where oid = t.tgconstrrelid offset 0) c
    where top.classid = ${cls("pg_class")} and c.relnamespace not in (select oid from known)
  )
  or exists (select from body where stored and prosrc ~* '${words}')
  or exists (
    select from body cross join lateral pg_catalog.regexp_matches(prosrc, '${qualifier}', 'g') word
    cross join lateral (
      select oid from pg_catalog.pg_namespace
      where nspname in (word[1], pg_catalog.lower(word[1]), pg_catalog.replace(pg_catalog.btrim(word[1], '"'), '""', '"')) offset 0
    ) n
    where stored and n.oid not in (select oid from known)
  )
  or exists (
    select from body cross join lateral pg_catalog.unnest(proconfig) setting
    cross join lateral pg_catalog.regexp_split_to_table(pg_catalog.substr(setting, 13), '\\s*,\\s*') name
    where setting ~* '^search_path=' and pg_catalog.btrim(name, '"') <> all (array['', 'pg_catalog', 'pg_temp'])
      and pg_catalog.btrim(name, '"') not in (select nspname from place)
  )
end as lists`;

const row = z.object({ lists: z.boolean() });

/**
 * Whether the tenant's SQL could list prepared statements by what the inspection of its SQL does not report. True where nobody
 * may list them, because it is not looked for. To be run after `probeSettings`.
 */
export function listingQuery({ schemas, sharedSchemas }: Pick<ShapeInput, "schemas" | "sharedSchemas">): {
  text: string;
  values: unknown[];
} {
  return { text, values: [physicalNames(schemas), sharedSchemas] };
}

/** Parses the row of `listingQuery`; throws `INTERNAL` for anything else. */
export function parseListing(found: unknown): boolean {
  const parsed = row.safeParse(found);
  if (parsed.success) return parsed.data.lists;
  throw new HostError(
    "INTERNAL",
    "the query for SQL that lists prepared statements returned an unexpected result",
    {
      cause: parsed.error,
    },
  );
}
