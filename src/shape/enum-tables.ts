/**
 * The rows that PostGraphile reads while it builds: those of enum tables (PgEnumTablesPlugin of
 * graphile-build-pg 5).
 */
import { z } from "zod";
import { withUsualPlanning } from "./planner-settings.ts";

/**
 * A fault of an enum table: its name and the columns that are read, quoted as in SQL, and whether any of the
 * tried roles may read them.
 */
export interface EnumFault {
  readonly table: string;
  readonly columns: string;
  readonly readable: boolean;
}

/** Parses what the last statement of a probe returns. */
export const enumFaults = z.array(
  z.tuple([z.string(), z.string(), z.boolean()]).transform(
    ([table, columns, readable]): EnumFault => ({
      table,
      columns,
      readable,
    }),
  ),
);

/** The fault and its cure, for the log; `roles` are the tenant's, quoted as in SQL. */
export function enumFaultText({ table, columns, readable }: EnumFault, roles: readonly string[]): string {
  if (readable) {
    return `the rows of the enum table ${table} differ between roles (${roles.join(", ")}), but its enum is the same for all: let every role that may read it see all rows`;
  }
  const [reader = "the connecting role"] = roles;
  return `no role may read the rows of the enum table ${table}: grant select (${columns}) on ${table}, and usage on its schema, to ${reader}`;
}

/**
 * Matches a line of smart tags, as a PostgreSQL regular expression; `(?n)` makes `^` and `$` match at line
 * breaks.
 */
const tag = (name: string): string => `'(?n)^[ \\t]*@${name}(\\s|$)'`;

/** The privilege needed for `set role`; since PostgreSQL 16 it is separate from membership. */
const settable =
  "case when pg_catalog.current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end";

/**
 * The rows of a document made by `query_to_xml`, sorted, because the plan's order may differ between roles.
 * Works on text, because the document may not be parseable: it contains control characters if a row does.
 * Signs such as `<` in a row are escaped.
 */
const sortedRows = (document: string): string => `(
      select pg_catalog.string_agg(found, '' order by found collate "C")
      from pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.replace(${document}, '</table>', ''), '<row>')) as part
      cross join lateral (select pg_catalog.btrim(part, E' \\n')) trimmed(found)
    )`;

/**
 * SQL, after `labelCtes`: `enum_table(oid, columns, source, readable, content, alike)`, the tables and
 * views whose rows become enum values, with those rows.
 *
 * A table is one if its comment (or its row type's, if it has none) says `@enum` and it has a primary key, or
 * if the comment of a unique constraint does; constraints may be declared by smart tags: `@primaryKey a`,
 * `@unique a|@enum`. The columns read are the first ones of these constraints and the description: the column
 * tagged `@enumDescription`, or called `description`. The query is PostGraphile's own, letter for letter and
 * planned as in a build, because its rows have only the order of its plan, which becomes the order of the
 * enum's values. If there is such a table, PostgreSQL must be built with libxml.
 *
 * The connecting role reads the rows if it may. It should have no privileges on tenants' schemas: otherwise
 * they are read as the first of the tenant's roles that may, as in a build (`readAsWhoMay`). An enum is the
 * same for all roles, so every role of the tenant that may read it has to see the same rows (`alike`),
 * whatever policies and views filter by role.
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
-- The connecting role comes first, named by the value that restores it.
enum_role(ord, name, role) as materialized (
  select 0::bigint, pg_catalog.current_setting('role'), current_user
  union all
  select listed.ord, r.rolname::text, r.rolname
  from pg_catalog.unnest(array[$4::text, $5::text] || $6::text[]) with ordinality as listed(name, ord)
  join pg_catalog.pg_roles r on r.rolname = listed.name
  where pg_catalog.pg_has_role(session_user, r.oid, ${settable})
),
enum_query(oid, columns, source) as materialized (
  select e.oid,
    pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' order by a.attnum),
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.relname)
  from enum_column e
  join spelled_class s on s.oid = e.oid
  join spelled_namespace n on n.oid = s.relnamespace
  join spelled_attribute a on a.attrelid = e.oid and a.attnum = e.attnum
  group by e.oid, n.nspname, s.relname
),
enum_able(oid, ord, name) as materialized (
  select s.oid, role.ord, role.name
  from (select oid, pg_catalog.array_agg(attnum) as attnums from enum_column group by oid) e
  join spelled_class s on s.oid = e.oid
  cross join enum_role role
  where pg_catalog.has_schema_privilege(role.role, s.relnamespace, 'USAGE')
  and not exists (
    select from pg_catalog.unnest(e.attnums) as attnum
    where not pg_catalog.has_column_privilege(role.role, s.oid, attnum, 'SELECT')
  )
),
enum_reader(oid, ord, name) as materialized (
  select able.oid, able.ord, able.name from enum_able able
  where able.ord = 0 or able.oid not in (select oid from enum_able where ord = 0)
),
-- Each step depends on the result of the previous one, which fixes their order: set the role, read the rows, reset the role
-- whatever it is by then. query_to_xml includes nulls and returns one document whose element names are the columns' alone.
enum_reading(oid, ord, content) as materialized (
  select reader.oid, reader.ord, done.content
  from enum_reader reader
  join enum_query query on query.oid = reader.oid
  cross join lateral (
    select case when ${withUsualPlanning} is not null then pg_catalog.set_config('role', reader.name, true) end as role offset 0
  ) taken
  cross join lateral (
    select case when taken.role is not null
      then pg_catalog.query_to_xml('select ' || query.columns || ' from ' || query.source, true, false, '')::text
    end as content
    offset 0
  ) read
  cross join lateral (
    select read.content, case when read.content is not null
      then pg_catalog.set_config('role', (select name from enum_role where ord = 0), true)
    end as role
    offset 0
  ) done
  where done.role is not null
),
enum_table(oid, columns, source, readable, content, alike) as materialized (
  select query.oid, query.columns, query.source, read.contents is not null, read.contents[1],
    coalesce(pg_catalog.cardinality(read.contents) = 1 or (
      select pg_catalog.count(distinct ${sortedRows("document")}) <= 1 from pg_catalog.unnest(read.contents) as document
    ), true)
  from enum_query query
  cross join lateral (
    select pg_catalog.array_agg(content order by ord) as contents from enum_reading where enum_reading.oid = query.oid
  ) read
)`;

/**
 * SQL, after `enumCtes`: `enum_fault(source, columns, readable)`, the enum tables from which no enum can be
 * built.
 */
export const enumFaultCtes = `enum_fault(source, columns, readable) as (
  select e.source, e.columns, e.readable
  from enum_table e
  join spelled_class s on s.oid = e.oid
  where not e.alike or (s.own and not e.readable)
)`;
