/** The rows that PostGraphile reads while it builds: those of enum tables (PgEnumTablesPlugin of graphile-build-pg 5). */
import { withUsualPlanning } from "./planning.ts";

/** A line of smart tags, in PostgreSQL's regular expressions; `(?n)` makes `^` and `$` those of a line. */
const tag = (name: string): string => `'(?n)^[ \\t]*@${name}(\\s|$)'`;

/**
 * SQL, after `spellingCtes`: `enum_table(oid, columns, readable, content)`, the tables and views whose rows become values
 * of an enum, with those rows as the connecting role sees them.
 *
 * A table is one if its comment (or its row type's, where it has none) says `@enum` and it has a primary key, or if a
 * unique constraint's comment does; constraints may be smart tags themselves: `@primaryKey a`, `@unique a|@enum`. Read are
 * the first columns of these constraints and the description: the column tagged `@enumDescription`, or called
 * `description`. The query is PostGraphile's own, letter for letter and planned as a build's is, because its rows have no order but that
 * of its plan, and the order is that of the enum's values. PostgreSQL must be built with libxml wherever there is such a table.
 */
export const enumCtes = `\
enum_relation(oid, description, tagged) as materialized (
  select s.oid, d.description, coalesce(d.description ~ ${tag("enum")}, false)
  from spelled_class s
  left join described own on own.class = 'pg_catalog.pg_class'::regclass and own.oid = s.oid and own.sub = 0
  left join described row_type on row_type.class = 'pg_catalog.pg_type'::regclass and row_type.oid = s.reltype
  cross join lateral (select coalesce(own.description, row_type.description)) d(description)
  where s.relkind <> 'c'
),
enum_key(oid, attnum) as materialized (
  select r.oid, k.conkey[1]
  from own_constraint k
  join enum_relation r on r.oid = k.conrelid
  left join described d on d.class = 'pg_catalog.pg_constraint'::regclass and d.oid = k.oid
  where (r.tagged and k.contype = 'p')
  or (k.contype in ('p', 'u') and d.description ~ ${tag("enum")})
  union
  select r.oid, a.attnum
  from (
    select oid, tagged, pg_catalog.regexp_matches(description, '(?n)^[ \\t]*@(primaryKey|unique)\\s([^|\\r]+)(.*)$', 'g') as parts
    from enum_relation where description like '%@enum%'
  ) r
  join spelled_attribute a on a.attrelid = r.oid and a.attname = r.parts[2] and not a.attisdropped
  where (r.tagged and r.parts[1] = 'primaryKey') or r.parts[3] ~ '@enum(\\s|\\||$)'
),
enum_column(oid, attnum) as (
  select oid, attnum from enum_key
  union
  select e.oid, c.attnum
  from (select distinct oid from enum_key) e
  cross join lateral (
    select attnum from (
      select a.attnum, a.attname, coalesce(d.description ~ ${tag("enumDescription")}, false) as tagged
      from spelled_attribute a
      left join described d on d.class = 'pg_catalog.pg_class'::regclass and d.oid = a.attrelid and d.sub = a.attnum
      where a.attrelid = e.oid and not a.attisdropped
    ) candidate
    where tagged or attname = 'description'
    order by tagged desc, attnum
    limit 1
  ) c
),
enum_query(oid, columns, source, readable) as materialized (
  select e.oid,
    pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum),
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.relname),
    pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      and pg_catalog.bool_and(pg_catalog.has_column_privilege(s.oid, a.attnum, 'SELECT'))
  from enum_column e
  join spelled_class s on s.oid = e.oid
  join spelled_namespace n on n.oid = s.relnamespace
  join spelled_attribute a on a.attrelid = e.oid and a.attnum = e.attnum
  group by e.oid, n.oid, n.nspname, s.oid, s.relname
),
enum_table(oid, columns, readable, content) as materialized (
  -- With nulls, and rows as elements of one document, whose names are the columns' alone.
  select oid, columns, readable, case when readable and ${withUsualPlanning} is not null
    then pg_catalog.query_to_xml('select ' || columns || ' from ' || source, true, false, '')::text
  end
  from enum_query
)`;
