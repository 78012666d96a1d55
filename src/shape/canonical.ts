/** The canonical text: one line of JSON for each thing that PostGraphile's build, or a plugin of it, can see. */
import { relationLines } from "./canonical-relations.ts";
import type { Lines } from "./lines.ts";
import { comment, extension, grants, typeLabel, typeLabels } from "./spelling.ts";

/** Type oids of pg_catalog are the same in every database of a server version; that is in the header. */
const notBuiltIn = (namespace: string): string => `${namespace} <> 'pg_catalog'::regnamespace`;

const namespaces: Lines = {
  place: "''",
  position: "pg_catalog.row_number() over (order by n.oid)",
  line: [
    "'schema'",
    "s.label",
    grants("n", "n.nspacl", "n.nspowner", "s.own"),
    comment("pg_namespace", "n.oid"),
  ],
  from: `from spelled_namespace s join pg_catalog.pg_namespace n on n.oid = s.oid cross join actor
    where ${notBuiltIn("n.oid")}`,
};

const types: Lines = {
  place: "s.label",
  line: [
    "'type'",
    "s.label",
    "t.typtype",
    "t.typcategory",
    "t.typnotnull",
    "t.typtypmod",
    "t.typdefault is not null",
    "t.typdelim",
    typeLabel("t.typbasetype"),
    typeLabel("t.typelem"),
    "(select label from spelled_class where oid = t.typrelid)",
    "(select label from spelled_type where oid = t.typarray)",
    `(select ${typeLabel("r.rngsubtype")} from pg_catalog.pg_range r where r.rngtypid = t.oid)`,
    `(select pg_catalog.json_agg(e.enumlabel order by e.enumsortorder)
      from pg_catalog.pg_enum e where e.enumtypid = t.oid and t.typtype = 'e')`,
    extension("pg_type", "t.oid"),
    `case when t.typacl is not null then ${grants("T", "t.typacl", "t.typowner", "s.own")} end`,
    comment("pg_type", "t.oid"),
  ],
  from: `from spelled_type s cross join actor
    cross join lateral (select * from pg_catalog.pg_type where oid = s.oid offset 0) t
    where ${notBuiltIn("t.typnamespace")}`,
};

const procs: Lines = {
  place: "s.label || '.' || pg_catalog.quote_ident(p.proname)",
  line: [
    "'function'",
    "s.label",
    "p.proname",
    "p.prokind",
    typeLabels("p.proargtypes::oid[]"),
    typeLabels("p.proallargtypes"),
    "p.proargmodes",
    "p.proargnames",
    "p.pronargdefaults",
    typeLabel("p.provariadic"),
    typeLabel("p.prorettype"),
    "p.proretset",
    "p.provolatile",
    "p.proisstrict",
    "p.prosecdef",
    "l.lanname",
    extension("pg_proc", "p.oid"),
    `case when p.proacl is not null then ${grants("f", "p.proacl", "p.proowner", "s.own")} end`,
    comment("pg_proc", "p.oid"),
  ],
  from: `from scope_proc cross join actor
    cross join lateral (select * from pg_catalog.pg_proc where oid = scope_proc.oid offset 0) p
    left join spelled_namespace s on s.oid = p.pronamespace
    left join pg_catalog.pg_language l on l.oid = p.prolang`,
};

const header: Lines = {
  place: "''",
  line: [
    // Moves when what follows is written differently.
    "1",
    "pg_catalog.current_setting('server_version_num')::int / 10000",
    "$2::text[]",
  ],
  from: "",
};

const enumRows: Lines = {
  place: "s.label",
  line: ["'rows'", "s.label", "e.columns", "e.content"],
  from: "from enum_table e join spelled_class s on s.oid = e.oid",
};

const sections: readonly Lines[] = [header, namespaces, ...relationLines, types, procs, enumRows];

/** SQL, after `spellingCtes` and `enumCtes`: `canonical(text)`, one row. */
export const canonicalCtes = `\
line(section, place, position, content) as (
${sections
  .map(
    ({ place, position = "0", line, from }, section) =>
      `select ${section}, ${place}, ${position}::int8, pg_catalog.json_build_array(${line.join(", ")})::text ${from}`,
  )
  .join("\nunion all\n")}
),
canonical as materialized (
  select pg_catalog.string_agg(
    content, E'\\n' order by section, place collate "C", position, content collate "C"
  ) as text
  from line
)`;
