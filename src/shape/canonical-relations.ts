/** Lines of the canonical text about relations: tables, views, composite types, and their parts. */

import { columnLabels, roleLabel, typeLabel } from "./labels.ts";
import { type Lines, without } from "./lines.ts";

const classes: Lines = {
  place: "s.label",
  line: [
    "'relation'",
    "s.label",
    "s.relkind",
    "s.relpersistence",
    "s.relispartition",
    "s.relrowsecurity",
    "s.relforcerowsecurity",
    // For every table the answer is 28, but only after PostgreSQL has loaded all it knows of the table: 0.5
    // ms each the first time.
    "case when s.relkind in ('v', 'f') then pg_catalog.pg_relation_is_updatable(s.oid, true) else 28 end",
    typeLabel("s.reloftype", "t"),
  ],
  from: "from spelled_class s left join spelled_type t on t.oid = s.reloftype",
};

const coreClasses = without(classes, "s.relrowsecurity", "s.relforcerowsecurity");

const columns: Lines = {
  place: "s.label",
  // Used only for the order, not in the line, because it has gaps where columns were dropped.
  position: "a.attnum",
  line: [
    "'column'",
    "s.label",
    "a.attname",
    typeLabel("a.atttypid", "t"),
    "a.atttypmod",
    "a.attnotnull",
    "a.atthasdef",
    "a.attidentity",
    "a.attgenerated",
    "a.attislocal",
  ],
  from: `from spelled_attribute a
    join spelled_class s on s.oid = a.attrelid
    left join spelled_type t on t.oid = a.atttypid
    where not a.attisdropped`,
};

/**
 * A default, generated columns included, matters where a value is required: only then is the field of an input optional because of it.
 * Whether it is may be for a comment to say (`@notNull`, `@primaryKey`). Codecs are the same whatever a type's modifier is.
 */
const coreColumns: Lines = {
  ...columns,
  in: "core",
  line: columns.line
    .filter((column) => column !== "a.atttypmod" && column !== "a.attgenerated")
    .map((column) =>
      column === "a.atthasdef"
        ? `(a.atthasdef or a.attgenerated <> '') and (
            a.attnotnull or t.typnotnull or a.attrelid in (select oid from commented) or s.reltype in (select oid from commented)
          )`
        : column,
    ),
};

/** Constraints of tables and of domains. */
const constraints: Lines = {
  place: "k.label",
  line: [
    "'constraint'",
    "k.label",
    "k.conname",
    "k.contype",
    "k.condeferrable",
    "k.condeferred",
    "k.convalidated",
    "k.connoinherit",
    "k.conislocal",
    columnLabels("n.names", "k.conkey", 1),
    "f.label",
    columnLabels("fn.names", "k.confkey", 1),
    "k.confupdtype",
    "k.confdeltype",
    "k.confmatchtype",
  ],
  from: `from own_constraint k
    left join column_names n on n.oid = k.conrelid
    left join spelled_class f on f.oid = k.confrelid
    left join column_names fn on fn.oid = k.confrelid`,
};

/**
 * What PostgreSQL alone enforces is of no account to a build: checks, exclusions, when a constraint is checked, and what a foreign key does
 * to its rows.
 */
const coreConstraints: Lines = {
  ...without(
    constraints,
    "k.condeferrable",
    "k.condeferred",
    "k.convalidated",
    "k.conislocal",
    "k.confupdtype",
    "k.confdeltype",
    "k.confmatchtype",
  ),
  from: `${constraints.from} where k.contype in ('p', 'u', 'f')`,
};

/** A table's backward relations are ordered by the foreign keys' oids, which no other line records. */
const referencedBy: Lines = {
  place: "s.label",
  line: [
    "'referenced by'",
    "s.label",
    "pg_catalog.json_agg(pg_catalog.json_build_array(k.label, k.conname) order by k.connamespace, k.conrelid, k.conname)",
  ],
  from: `from own_constraint k
    join spelled_class s on s.oid = k.confrelid
    where k.contype = 'f'
    group by s.label`,
};

const indexes: Lines = {
  place: "i.label",
  line: [
    "'index'",
    "i.label",
    "i.relname",
    "m.amname",
    "i.indisunique",
    "i.indisprimary",
    "i.indisexclusion",
    "i.indimmediate",
    "i.indisvalid",
    "i.indnkeyatts",
    columnLabels("n.names", "i.indkey::int2[]", 0),
    "i.indoption::text",
    "i.indpred is not null",
    "i.indexprs is not null",
  ],
  from: `from own_index i
    left join column_names n on n.oid = i.indrelid
    left join pg_catalog.pg_am m on m.oid = i.relam`,
};

/** The sets of columns that an index covers, by column number; expressions are left out. */
const covered = (more: string, where: string): string => `from (
    select distinct i.label, n.names, ${more} array(
      select distinct u.num from pg_catalog.unnest(i.indkey::int2[]) as u(num) where u.num <> 0 order by u.num
    ) as columns
    from own_index i
    left join column_names n on n.oid = i.indrelid
    where i.indpred is null ${where}
  ) i
  where i.columns <> '{}'`;

/** PostGraphile lets lists be ordered and filtered by these columns. */
const coreIndexes: Lines = {
  place: "i.label",
  in: "core",
  line: ["'index'", "i.label", columnLabels("i.names", "i.columns", 1)],
  from: covered("", ""),
};

/**
 * A foreign key that names a column twice counts as indexed only by an index with as many columns and expressions as it names. Where there
 * is no such key, the number makes no difference.
 */
const coreIndexWidths: Lines = {
  place: "i.label",
  in: "core",
  line: ["'index width'", "i.label", columnLabels("i.names", "i.columns", 1), "i.width"],
  from: covered(
    "pg_catalog.cardinality(i.indkey::int2[]) as width,",
    `and exists (
      select from own_constraint k where k.contype = 'f' and k.conrelid = i.indrelid
      and pg_catalog.cardinality(k.conkey) > (select pg_catalog.count(distinct u.num) from pg_catalog.unnest(k.conkey) as u(num))
    )`,
  ),
};

const parents: Lines = {
  place: "s.label",
  line: [
    "'inherits'",
    "s.label",
    "pg_catalog.json_agg(coalesce(p.label, '#' || i.inhparent::text) order by i.inhseqno)",
  ],
  from: `from (select * from pg_catalog.pg_inherits where inhrelid = any (array(select oid from spelled_class)) offset 0) i
    join spelled_class s on s.oid = i.inhrelid
    left join spelled_class p on p.oid = i.inhparent
    group by s.label`,
};

const policies: Lines = {
  place: "p.label",
  line: [
    "'policy'",
    "p.label",
    "p.polname",
    "p.polcmd",
    "p.polpermissive",
    "p.polqual is not null",
    "p.polwithcheck is not null",
    `(select pg_catalog.json_agg(r.label order by r.label collate "C") from (
      select ${roleLabel("u.role", "p.relowner")} as label from pg_catalog.unnest(p.polroles) as u(role)
    ) r)`,
  ],
  from: "from own_policy p cross join actor",
};

export const relationLines: readonly Lines[] = [
  { ...classes, in: "full" },
  coreClasses,
  { ...columns, in: "full" },
  coreColumns,
  { ...constraints, in: "full" },
  coreConstraints,
  referencedBy,
  { ...indexes, in: "full" },
  coreIndexes,
  coreIndexWidths,
  parents,
  { ...policies, in: "full" },
];
