/** Whether a tenant's objects can be named without their schemas, as the SQL of a pooled instance does. */
import { asksLeftOut } from "../shared/postgres/schema-tags.ts";

/**
 * Whether a schema before `own` in the path has a row in `catalogue` (column prefix `prefix`) with the same
 * name as `row`.
 */
const isNamedEarlier = (catalogue: string, prefix: string, row: string): string => `exists (
    select from path_schema earlier
    cross join lateral (
      select from pg_catalog.${catalogue} where ${prefix}name = ${row}.${prefix}name and ${prefix}namespace = earlier.oid offset 0
    ) other
    where earlier.ord < own.ord
  )`;

/** The qualified name that the unqualified name resolves to instead, in the first such schema. */
const firstNamedLike = (catalogue: string, prefix: string, row: string): string => `(
    select pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(${row}.${prefix}name)
    from path_schema earlier
    join pg_catalog.pg_namespace n on n.oid = earlier.oid
    cross join lateral (
      select from pg_catalog.${catalogue} where ${prefix}name = ${row}.${prefix}name and ${prefix}namespace = earlier.oid offset 0
    ) other
    where earlier.ord < own.ord
    order by earlier.ord limit 1
  )`;

/**
 * Whether a type `t` is hidden, `own` being its schema in the path, if any. Arrays are written as the element
 * type and brackets.
 */
const isHiddenType = `not (t.typcategory = 'A' and t.typelem <> 0)
  and t.typnamespace <> 'pg_catalog'::regnamespace
  and (own.oid is null or ${isNamedEarlier("pg_type", "typ", "t")})`;

/** The step of a recursion from the types in `cte` to those that they are made of. */
const madeOf = (cte: string): string => `select step.oid
  from ${cte}
  cross join lateral (
    select pg_catalog.unnest(array[typelem, typbasetype]) from pg_catalog.pg_type where oid = ${cte}.oid
    union all
    select rngsubtype from pg_catalog.pg_range where rngtypid = ${cte}.oid
    union all
    select atttypid
    from (select typrelid from pg_catalog.pg_type where oid = ${cte}.oid and typtype = 'c' and typrelid <> 0 offset 0) t
    cross join lateral (
      select atttypid from pg_catalog.pg_attribute where attrelid = t.typrelid and attnum > 0 and not attisdropped offset 0
    ) a
    offset 0
  ) step(oid)
  where step.oid <> 0`;

const asksForRelation = (oid: string, rowType: string): string => `exists (
    select from asks_left_out asks
    where (asks.class = 'pg_catalog.pg_class'::regclass and asks.oid = ${oid})
    or (asks.class = 'pg_catalog.pg_type'::regclass and asks.oid = ${rowType})
  )`;

const asksForFunction = (oid: string): string =>
  `exists (select from asks_left_out asks where asks.class = 'pg_catalog.pg_proc'::regclass and asks.oid = ${oid})`;

/**
 * SQL, after `spellingCtes`: `hidden(kind, name, finds, oid, schema, bare, arguments, needed)`, every object that would not resolve to itself
 * by its bare name, and what that finds, or may find, instead; null where it finds nothing, as the object's schema is not on the path.
 *
 * `needed`: not where its smart tags ask that it be left out of the API, it is a function that PostGraphile leaves out by itself, or a type
 * that nothing in the API can have; what the build makes of that remains to be proven. Tags are read for what is hidden alone.
 *
 * Names are compared along the path instead of calling `pg_table_is_visible` and its like: those answer for
 * the role that asks, and skip every schema on which it has no USAGE. The host's own role should have none on
 * tenants' schemas; the roles that requests run as do.
 *
 * Checked are relations in served schemas, and every type that one of their columns or functions uses,
 * wherever it is. A table that is only the target of a foreign key is not checked: outside the served schemas
 * it has no resource, and no SQL names it.
 *
 * Functions and operators resolve by argument types, so visibility is not enough. A function counts as hidden
 * if pg_catalog or an earlier schema of the path has one of the same name, or a later one has one of the same
 * name with other arguments; an operator in a served schema if pg_catalog has one of the same name: a call
 * could find the other one. Those of extensions are left out: PostGraphile does not expose them, and every
 * tenant of the database resolves them alike. Trigger functions are called by oid. Generated SQL never names
 * collations, casts or operator classes.
 */
export const hiddenCtes = `\
-- pg_catalog is searched first unless the path names it; pg_temp is searched last because the path names it.
path_schema(oid, ord) as materialized (
  select 'pg_catalog'::regnamespace::oid, 0::bigint
  union all
  select oid, ord from served
  union all
  select oid, 1000000 + ord from shared
),
spoken_type(oid) as (
  select own.oid from (
    select oid from spelled_type where own
    union
    select a.atttypid from spelled_attribute a join spelled_class s on s.oid = a.attrelid where s.own and not a.attisdropped
    union
    select prorettype from own_proc
    union
    select pg_catalog.unnest(argument_types) from own_proc
  ) own
  union
  ${madeOf("spoken_type")}
),
asks_left_out(class, oid) as materialized (
  select class, oid from described where sub = 0 and ${asksLeftOut("description")}
),
-- Types that a codec could need, except those of objects that are left out.
needed_type(oid) as (
  select own.oid from (
    select a.atttypid from spelled_attribute a join spelled_class s on s.oid = a.attrelid
    where s.own and s.relkind <> 'c' and not a.attisdropped and not ${asksForRelation("s.oid", "s.reltype")}
    union
    select prorettype from own_proc where not ${asksForFunction("own_proc.oid")}
    union
    select pg_catalog.unnest(argument_types) from own_proc where not ${asksForFunction("own_proc.oid")}
  ) own(oid)
  union
  ${madeOf("needed_type")}
),
hidden_relation(oid, kind, name, finds, schema, bare, needed) as materialized (
  select c.oid, case c.relkind
      when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' else 'table'
    end,
    pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),
    ${firstNamedLike("pg_class", "rel", "c")},
    n.nspname, c.relname, not ${asksForRelation("c.oid", "c.reltype")}
  from spelled_class c
  join spelled_namespace n on n.oid = c.relnamespace
  join path_schema own on own.oid = c.relnamespace
  where c.own and c.relkind in ('r', 'v', 'm', 'f', 'p')
  and ${isNamedEarlier("pg_class", "rel", "c")}
),
-- Hidden types in scope. The types in use are computed only if there is one, or if a type in use is out of scope.
hidden_type(oid) as (
  select t.oid from spelled_type t
  left join path_schema own on own.oid = t.typnamespace
  where ${isHiddenType}
),
unscoped_type(oid) as (
  select oid from (
    select atttypid as oid from spelled_attribute where not attisdropped
    union all select typelem from spelled_type
    union all select typbasetype from spelled_type
    union all select r.rngsubtype from spelled_type t
    cross join lateral (select rngsubtype from pg_catalog.pg_range where t.typtype = 'r' and rngtypid = t.oid offset 0) r
    union all select prorettype from own_proc
    union all select pg_catalog.unnest(argument_types) from own_proc
  ) mentioned
  where oid <> 0 and oid not in (select oid from scope_type)
),
hidden(kind, name, finds, oid, schema, bare, arguments, needed) as materialized (
  select kind, name, finds, oid, schema, bare, '', needed from hidden_relation
  union all
  select 'type', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname),
    ${firstNamedLike("pg_type", "typ", "t")},
    t.oid, n.nspname, t.typname, '',
    -- A type that introspection does not read cannot be left out.
    t.oid not in (select oid from scope_type)
      or (t.oid in (select oid from needed_type) and not ${asksForRelation("t.typrelid", "t.oid")})
  from spoken_type
  cross join lateral (
    select oid, typname, typnamespace, typrelid, typcategory, typelem from pg_catalog.pg_type where oid = spoken_type.oid offset 0
  ) t
  cross join lateral (select nspname from pg_catalog.pg_namespace where oid = t.typnamespace offset 0) n
  left join path_schema own on own.oid = t.typnamespace
  where (exists (select from hidden_type) or exists (select from unscoped_type))
  and ${isHiddenType}
  and t.typrelid not in (select oid from hidden_relation)
  union all
  select 'function', pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname)
    || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',
    pg_catalog.quote_ident(found.schema) || '.' || pg_catalog.quote_ident(p.proname),
    p.oid, n.nspname, p.proname, coalesce(p.arguments, ''),
    -- PostGraphile leaves out variadic functions and functions that share their name with another one in the schema.
    p.provariadic = 0 and not ${asksForFunction("p.oid")} and not exists (
      select from spelled_proc alike
      where alike.proname = p.proname and alike.pronamespace = p.pronamespace and alike.oid <> p.oid
    )
  from spelled_proc p
  join served own on own.oid = p.pronamespace
  join spelled_namespace n on n.oid = p.pronamespace
  cross join lateral (
    select (select nspname from pg_catalog.pg_namespace where oid = other.pronamespace) as schema
    from pg_catalog.pg_proc other
    where other.proname = p.proname and other.pronamespace <> p.pronamespace
    and other.pronamespace = any (array(
      select 'pg_catalog'::regnamespace::oid union all select oid from served union all select oid from shared
    ))
    and (other.proargtypes <> p.proargtypes
      or other.pronamespace = 'pg_catalog'::regnamespace
      or other.pronamespace in (select earlier.oid from served earlier where earlier.ord < own.ord))
    order by other.pronamespace <> 'pg_catalog'::regnamespace, 1
    limit 1
  ) found
  where not exists (
    select from extension_member m where m.classid = 'pg_catalog.pg_proc'::regclass and m.objid = p.oid
  )
  union all
  select 'operator', pg_catalog.quote_ident(n.nspname) || '.' || o.oprname
    || '(' || pg_catalog.format_type(o.oprleft, null) || ', ' || pg_catalog.format_type(o.oprright, null) || ')',
    'pg_catalog.' || o.oprname,
    o.oid, n.nspname, o.oprname, '', true
  from own_object
  cross join lateral (
    select oid, oprname, oprnamespace, oprleft, oprright from pg_catalog.pg_operator
    where own_object.classid = 'pg_catalog.pg_operator'::regclass and oid = own_object.objid
    offset 0
  ) o
  join spelled_namespace n on n.oid = o.oprnamespace
  where exists (
    select from pg_catalog.pg_operator other
    where other.oprname = o.oprname and other.oprnamespace = 'pg_catalog'::regnamespace
    offset 0
  )
  and not exists (
    select from pg_catalog.pg_depend d
    where d.classid = 'pg_catalog.pg_operator'::regclass and d.objid = o.oid and d.deptype = 'e'
  )
)`;
