/** The lines of the canonical text that are about relations: tables, views, composite types, and what hangs on them. */
import type { Lines } from "./lines.ts";
import { columnLabels, comment, extension, grants, roleLabel, typeLabel } from "./spelling.ts";

const classes: Lines = {
  place: "s.label",
  line: [
    "'relation'",
    "s.label",
    "c.relkind",
    "c.relpersistence",
    "c.relispartition",
    "c.relrowsecurity",
    "c.relforcerowsecurity",
    // 28 is what it answers for every table, after loading all that PostgreSQL knows of it: 0.5 ms each at first.
    "case when c.relkind in ('v', 'f') then pg_catalog.pg_relation_is_updatable(c.oid, true) else 28 end",
    typeLabel("c.reloftype"),
    extension("pg_class", "c.oid"),
    grants("r", "c.relacl", "c.relowner", "s.own"),
    comment("pg_class", "c.oid"),
    comment("pg_type", "c.reltype"),
  ],
  from: `from spelled_class s cross join actor
    cross join lateral (select * from pg_catalog.pg_class where oid = s.oid offset 0) c`,
};

const columns: Lines = {
  place: "s.label",
  // Not attnum: that keeps the gaps of dropped columns.
  position: "pg_catalog.row_number() over (partition by a.attrelid order by a.attnum)",
  line: [
    "'column'",
    "s.label",
    "a.attname",
    "coalesce(t.label, '#' || a.atttypid::text)",
    "a.atttypmod",
    "a.attnotnull",
    "a.atthasdef",
    "a.attidentity",
    "a.attgenerated",
    "a.attislocal",
    `case when a.attacl is not null then ${grants("c", "a.attacl", "c.relowner", "s.own")} end`,
    comment("pg_class", "a.attrelid", "a.attnum"),
  ],
  from: `from spelled_class s cross join actor
    cross join lateral (select relowner from pg_catalog.pg_class where oid = s.oid offset 0) c
    cross join lateral (
      select * from pg_catalog.pg_attribute where attrelid = s.oid and attnum > 0 and not attisdropped offset 0
    ) a
    left join spelled_type t on t.oid = a.atttypid`,
};

const constraintOf = (where: string): string => `cross join lateral (
    select * from pg_catalog.pg_constraint where ${where} offset 0
  ) k`;

const constraintLine = (owner: string): readonly string[] => [
  "'constraint'",
  owner,
  "k.conname",
  "k.contype",
  "k.condeferrable",
  "k.condeferred",
  "k.convalidated",
  "k.connoinherit",
  "k.conislocal",
  columnLabels("k.conrelid", "k.conkey"),
  "(select label from spelled_class where oid = k.confrelid)",
  columnLabels("k.confrelid", "k.confkey"),
  "k.confupdtype",
  "k.confdeltype",
  "k.confmatchtype",
  comment("pg_constraint", "k.oid"),
];

const constraints: Lines = {
  place: "s.label",
  line: constraintLine("s.label"),
  from: `from spelled_class s ${constraintOf("conrelid = s.oid")}`,
};

const domainConstraints: Lines = {
  place: "s.label",
  line: constraintLine("s.label"),
  from: `from spelled_type s ${constraintOf("contypid = s.oid")}`,
};

/** The order of a table's backward relations is that of the foreign keys' oids, which nothing else here tells. */
const referencedBy: Lines = {
  place: "s.label",
  line: [
    "'referenced by'",
    "s.label",
    "pg_catalog.json_agg(pg_catalog.json_build_array(f.label, k.conname) order by k.connamespace, k.conrelid, k.conname)",
  ],
  from: `from spelled_class f ${constraintOf("conrelid = f.oid and contype = 'f'")}
    join spelled_class s on s.oid = k.confrelid
    group by s.label`,
};

const indexes: Lines = {
  place: "s.label",
  line: [
    "'index'",
    "s.label",
    "c.relname",
    "m.amname",
    "i.indisunique",
    "i.indisprimary",
    "i.indisexclusion",
    "i.indimmediate",
    "i.indisvalid",
    "i.indnkeyatts",
    columnLabels("i.indrelid", "i.indkey::int2[]"),
    "i.indoption::text",
    "i.indpred is not null",
    "i.indexprs is not null",
    comment("pg_class", "i.indexrelid"),
  ],
  from: `from spelled_class s
    cross join lateral (select * from pg_catalog.pg_index where indrelid = s.oid offset 0) i
    cross join lateral (select relname, relam from pg_catalog.pg_class where oid = i.indexrelid offset 0) c
    left join pg_catalog.pg_am m on m.oid = c.relam`,
};

const parents: Lines = {
  place: "s.label",
  line: [
    "'inherits'",
    "s.label",
    "pg_catalog.json_agg(coalesce(p.label, '#' || i.inhparent::text) order by i.inhseqno)",
  ],
  from: `from spelled_class s
    cross join lateral (select * from pg_catalog.pg_inherits where inhrelid = s.oid offset 0) i
    left join spelled_class p on p.oid = i.inhparent
    group by s.label`,
};

const policies: Lines = {
  place: "s.label",
  line: [
    "'policy'",
    "s.label",
    "p.polname",
    "p.polcmd",
    "p.polpermissive",
    "p.polqual is not null",
    "p.polwithcheck is not null",
    `(select pg_catalog.json_agg(r.label order by r.label collate "C") from (
      select ${roleLabel("u.role", "c.relowner")} as label from pg_catalog.unnest(p.polroles) as u(role)
    ) r)`,
    comment("pg_policy", "p.oid"),
  ],
  from: `from spelled_class s cross join actor
    cross join lateral (select relowner from pg_catalog.pg_class where oid = s.oid offset 0) c
    cross join lateral (select * from pg_catalog.pg_policy where polrelid = s.oid and s.own offset 0) p`,
};

export const relationLines: readonly Lines[] = [
  classes,
  columns,
  constraints,
  domainConstraints,
  referencedBy,
  indexes,
  parents,
  policies,
];
