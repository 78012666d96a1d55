/** The canonical text: one line of JSON for everything that PostGraphile's build, or a plugin of it, can see. */
import { grantCtes, grantLines } from "./canonical-grants.ts";
import { relationLines } from "./canonical-relations.ts";
import { typeLabel, typeLabels } from "./labels.ts";
import type { Lines } from "./lines.ts";

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

const enumRows: Lines = {
  place: "s.label",
  line: ["'rows'", "s.label", "e.columns", "e.content", "e.alike"],
  from: "from enum_table e join spelled_class s on s.oid = e.oid",
};

const sections: readonly Lines[] = [
  header,
  namespaces,
  ...relationLines,
  types,
  procs,
  enumRows,
  ...grantLines,
];

/** SQL, after `labelCtes` and `enumCtes`: `canonical(text)`, one row. */
export const canonicalCtes = `\
${grantCtes},
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
