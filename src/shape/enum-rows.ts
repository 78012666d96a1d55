/** The rows that PostGraphile reads while it builds: those of enum tables (PgEnumTablesPlugin of graphile-build-pg 5). */

/** A line of smart tags, in PostgreSQL's regular expressions; `(?n)` makes `^` and `$` those of a line. */
const tag = (name: string): string => `'(?n)^[ \\t]*@${name}(\\s|$)'`;

/**
 * SQL, after `spellingCtes`: `enum_table(oid, columns, readable, content)`, the tables and views whose rows become values
 * of an enum, with those rows as the connecting role sees them.
 *
 * A table is one if its comment (or its row type's, where it has none) says `@enum` and it has a primary key, or if a
 * unique constraint's comment does; constraints may be smart tags themselves: `@primaryKey a`, `@unique a|@enum`. Read are
 * the first columns of these constraints and the description: the column tagged `@enumDescription`, or called
 * `description`. The query is PostGraphile's own, letter for letter, because its rows have no order but that of its plan,
 * and the order is that of the enum's values. PostgreSQL must be built with libxml wherever there is such a table.
 */
export const enumCtes = `\
enum_relation(oid, description, tagged) as materialized (
  select c.oid, d.description, coalesce(d.description ~ ${tag("enum")}, false)
  from spelled_class
  cross join lateral (
    select oid, reltype from pg_catalog.pg_class where oid = spelled_class.oid and relkind <> 'c' offset 0
  ) c
  cross join lateral (
    select coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), pg_catalog.obj_description(c.reltype, 'pg_type'))
  ) d(description)
),
enum_key(oid, attnum) as materialized (
  select r.oid, k.conkey[1]
  from enum_relation r
  cross join lateral (
    select oid, conkey, contype from pg_catalog.pg_constraint
    where conrelid = r.oid and contype in ('p', 'u')
    offset 0
  ) k
  where (r.tagged and k.contype = 'p')
  or pg_catalog.obj_description(k.oid, 'pg_constraint') ~ ${tag("enum")}
  union
  select r.oid, a.attnum
  from enum_relation r
  cross join lateral pg_catalog.regexp_matches(
    r.description, '(?n)^[ \\t]*@(primaryKey|unique)\\s([^|\\r]+)(.*)$', 'g'
  ) as written(parts)
  cross join lateral (
    select attnum from pg_catalog.pg_attribute
    where attrelid = r.oid and attname = written.parts[2] and attnum > 0 and not attisdropped
    offset 0
  ) a
  where r.description like '%@enum%'
  and ((r.tagged and written.parts[1] = 'primaryKey') or written.parts[3] ~ '@enum(\\s|\\||$)')
),
enum_column(oid, attnum) as (
  select oid, attnum from enum_key
  union
  select e.oid, a.attnum
  from (select distinct oid from enum_key) e
  cross join lateral (
    select attnum from (
      select attnum, attname,
        coalesce(pg_catalog.col_description(attrelid, attnum) ~ ${tag("enumDescription")}, false) as tagged
      from pg_catalog.pg_attribute
      where attrelid = e.oid and attnum > 0 and not attisdropped
    ) candidate
    where tagged or attname = 'description'
    order by tagged desc, attnum
    limit 1
  ) a
),
enum_query(oid, columns, source, readable) as materialized (
  select e.oid,
    pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum),
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
    pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      and pg_catalog.bool_and(pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'))
  from enum_column e
  join pg_catalog.pg_class c on c.oid = e.oid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  join pg_catalog.pg_attribute a on a.attrelid = e.oid and a.attnum = e.attnum
  group by e.oid, n.oid, n.nspname, c.oid, c.relname
),
enum_table(oid, columns, readable, content) as materialized (
  -- With nulls, and rows as elements of one document, whose names are the columns' alone.
  select oid, columns, readable, case when readable
    then pg_catalog.query_to_xml('select ' || columns || ' from ' || source, true, false, '')::text
  end
  from enum_query
)`;
