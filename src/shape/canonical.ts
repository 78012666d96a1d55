/** The canonical text: one line of JSON for everything that PostGraphile's build, or a plugin of it, can see. */
import { grantCtes, grantLines } from "./canonical-grants.ts";
import { relationLines } from "./canonical-relations.ts";
import { typeLabel, typeLabels } from "./labels.ts";
import { type Lines, without } from "./lines.ts";

const namespaces: Lines = {
  place: "''",
  position: "oid",
  line: ["'schema'", "label"],
  // Type oids of pg_catalog are the same in every database of a server version, which is in the header.
  from: "from spelled_namespace where oid <> 'pg_catalog'::regnamespace",
};

const types: Lines = {
  place: "t.label",
  line: [
    "'type'",
    "t.label",
    "t.typtype",
    "t.typcategory",
    "t.typnotnull",
    "t.typtypmod",
    "t.typhasdefault",
    "t.typdelim",
    typeLabel("t.typbasetype", "base"),
    typeLabel("t.typelem", "element"),
    "c.label",
    "many.label",
    `case when t.typtype = 'r' then (
      select ${typeLabel("r.rngsubtype", "s")} from pg_catalog.pg_range r
      left join spelled_type s on s.oid = r.rngsubtype where r.rngtypid = t.oid
    ) end`,
    `case when t.typtype = 'e' then (
      select pg_catalog.json_agg(e.enumlabel order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid
    ) end`,
  ],
  from: `from spelled_type t
    left join spelled_type base on base.oid = t.typbasetype
    left join spelled_type element on element.oid = t.typelem
    left join spelled_class c on c.oid = t.typrelid
    left join spelled_type many on many.oid = t.typarray
    where t.typnamespace <> 'pg_catalog'::regnamespace`,
};

const coreTypes: Lines = {
  ...without(types, "t.typtypmod"),
  from: `${types.from} and t.oid not in (select oid from unused_type)`,
};

const procs: Lines = {
  place: "p.label",
  line: [
    "'function'",
    "p.label",
    "p.prokind",
    "p.arguments",
    typeLabels("p.proallargtypes"),
    "p.proargmodes",
    "p.proargnames",
    "p.pronargdefaults",
    typeLabel("p.provariadic", "rest"),
    typeLabel("p.prorettype", "result"),
    "p.proretset",
    "p.provolatile",
    "p.proisstrict",
    "p.prosecdef",
    "l.lanname",
  ],
  from: `from spelled_proc p
    left join spelled_type rest on rest.oid = p.provariadic
    left join spelled_type result on result.oid = p.prorettype
    left join pg_catalog.pg_language l on l.oid = p.prolang`,
};

/** Whose rights it runs with, and in which language, is PostgreSQL's concern. */
const coreProcs = without(procs, "p.prosecdef", "l.lanname");

const header: Lines = {
  place: "''",
  line: [
    // Version of this format; increment it when the lines below change.
    "4",
    "pg_catalog.current_setting('server_version_num')::int / 10000",
    "$2::text[]",
  ],
  from: "",
};

/** With a version of its own; no core shape equals a full one. */
const coreHeader: Lines = { ...header, in: "core", line: ["'core 1'", ...header.line] };

const enumRows: Lines = {
  place: "s.label",
  line: ["'rows'", "s.label", "e.columns", "e.content", "e.alike"],
  from: "from enum_table e join spelled_class s on s.oid = e.oid",
};

const sections: readonly Lines[] = [
  { ...header, in: "full" },
  coreHeader,
  namespaces,
  ...relationLines,
  { ...types, in: "full" },
  coreTypes,
  { ...procs, in: "full" },
  coreProcs,
  enumRows,
  ...grantLines,
];

const isIn = (text: "full" | "core", lines: Lines): boolean => lines.in === undefined || lines.in === text;

/**
 * SQL, after `labelCtes` and `enumCtes`: `canonical(text, core)`, one row: the full text, and that without what builds of the known plugins
 * do not read (`workers/instance/core-catalogue.ts` removes the same).
 */
export const canonicalCtes = `\
${grantCtes},
line(section, place, position, content, in_full, in_core) as (
${sections
  .map((lines, section) => {
    const { place, position = "0", line, from } = lines;
    const content = `pg_catalog.json_build_array(${line.join(", ")})::text`;
    return `select ${section}, ${place}, ${position}::int8, ${content}, ${isIn("full", lines)}, ${isIn("core", lines)} ${from}`;
  })
  .join("\nunion all\n")}
),
canonical(text, core) as materialized (
  select
    pg_catalog.string_agg(content, E'\\n' order by section, place collate "C", position, content collate "C") filter (where in_full),
    pg_catalog.string_agg(content, E'\\n' order by section, place collate "C", position, content collate "C") filter (where in_core)
  from line
)`;
