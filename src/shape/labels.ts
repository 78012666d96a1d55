/** How the canonical text names what PostgreSQL identifies by oid, so that one tenant's copy equals another's. */
import { ownNameCte } from "../shared/postgres/schema-tags.ts";

/** SQL: the names of the types in an array of oids, in its order. */
export const typeLabels = (oids: string): string => `(
  select pg_catalog.json_agg(coalesce(s.label, '#' || u.oid::text) order by u.ord)
  from pg_catalog.unnest(${oids}) with ordinality as u(oid, ord)
  left join spelled_type s on s.oid = u.oid
)`;

/**
 * SQL, after `scopeCtes`: the roles, and the names for namespaces, types and own schemas. `$4::text` is the
 * anonymous role's name, `$5::text` the authenticated role's; both may be null. `$6::text[]` are the other
 * roles, in the tenant's order, by which they are labelled.
 *
 * A served schema is labelled by its logical name alone, every other with a sign before it, so that a schema
 * that happens to have the name of a logical one is not mistaken for it.
 */
export const labelCtes = `\
actor as materialized (
  select
    (select oid from pg_catalog.pg_roles where rolname = current_user) as self,
    (select oid from pg_catalog.pg_roles where rolname = $4::text) as anonymous,
    (select oid from pg_catalog.pg_roles where rolname = $5::text) as authenticated,
    array(
      select r.oid from pg_catalog.unnest($6::text[]) with ordinality as other(name, ord)
      left join pg_catalog.pg_roles r on r.rolname = other.name order by other.ord
    ) as others,
    -- As in pg-introspection: a role that may become a superuser has every privilege.
    exists (
      select from pg_catalog.pg_roles where rolsuper and pg_catalog.pg_has_role(oid, 'MEMBER')
    ) as superuser
),
spelled_namespace as materialized (
  select n.oid, n.nspname, n.nspowner, n.nspacl, served.oid is not null as own, case
    when served.oid is not null then pg_catalog.quote_ident(served.logical)
    when shared.oid is not null then '=' || pg_catalog.quote_ident(n.nspname)
    else '!' || pg_catalog.quote_ident(n.nspname)
  end as label
  from pg_catalog.pg_namespace n
  left join served on served.oid = n.oid
  left join shared on shared.oid = n.oid
  where n.oid = any (array(select oid from scope_namespace))
),
spelled_type as materialized (
  select t.oid, t.typname, t.typnamespace, t.typtype, t.typcategory, t.typnotnull, t.typtypmod, t.typdefault is not null as typhasdefault,
    t.typdelim, t.typbasetype, t.typelem, t.typrelid, t.typarray, t.typowner, t.typacl,
    n.own, n.label || '.' || pg_catalog.quote_ident(t.typname) as label
  from pg_catalog.pg_type t
  left join spelled_namespace n on n.oid = t.typnamespace
  where t.oid = any (array(select oid from scope_type))
),
spelled_class as materialized (
  select c.oid, c.relname, c.relnamespace, c.relkind, c.relpersistence, c.relispartition, c.relrowsecurity, c.relforcerowsecurity,
    c.reltype, c.reloftype, c.relowner, c.relacl,
    n.own, n.label || '.' || pg_catalog.quote_ident(c.relname) as label
  from pg_catalog.pg_class c
  left join spelled_namespace n on n.oid = c.relnamespace
  where c.oid = any (array(select oid from scope_class)) and c.relkind in ('r', 'v', 'm', 'f', 'p', 'c')
),
spelled_proc as materialized (
  select p.oid, p.proname, p.pronamespace, p.prokind, p.proargtypes, p.proallargtypes, p.proargmodes, p.proargnames, p.pronargdefaults,
    p.provariadic, p.prorettype, p.proretset, p.provolatile, p.proisstrict, p.prosecdef, p.prolang, p.proowner, p.proacl,
    n.own, n.label || '.' || pg_catalog.quote_ident(p.proname) as label, ${typeLabels("p.proargtypes::oid[]")}::text as arguments
  from pg_catalog.pg_proc p
  left join spelled_namespace n on n.oid = p.pronamespace
  where p.oid = any (array(select oid from scope_proc))
),
spelled_attribute as materialized (
  select attrelid, attnum, attname, atttypid, atttypmod, attnotnull, atthasdef, attidentity, attgenerated, attislocal, attacl, attisdropped
  from (select * from pg_catalog.pg_attribute where attrelid = any (array(select oid from spelled_class)) offset 0) a
  where attnum > 0
),
-- Indexed by attribute number: a table's numbers have no gaps, because dropped columns keep theirs.
column_names(oid, names) as materialized (
  select attrelid, pg_catalog.array_agg(case when not attisdropped then attname end order by attnum) from spelled_attribute group by attrelid
),
own_constraint as materialized (
  select k.*, s.label from pg_catalog.pg_constraint k
  join spelled_class s on s.oid = k.conrelid
  where k.conrelid = any (array(select oid from spelled_class))
  union all
  select k.*, s.label from pg_catalog.pg_constraint k
  join spelled_type s on s.oid = k.contypid
  where k.conrelid = 0 and k.contypid = any (array(select oid from spelled_type where typtype = 'd'))
),
own_index as materialized (
  select i.*, c.relname, c.relam, s.label from pg_catalog.pg_index i
  join spelled_class s on s.oid = i.indrelid
  cross join lateral (select relname, relam from pg_catalog.pg_class where oid = i.indexrelid offset 0) c
  where i.indrelid = any (array(select oid from spelled_class))
),
own_policy as materialized (
  select p.*, s.label, s.relowner from pg_catalog.pg_policy p
  join spelled_class s on s.oid = p.polrelid
  where p.polrelid = any (array(select oid from spelled_class where own))
),
-- Objects that can have a comment or belong to an extension. Kind, label and name identify each of them.
object(class, oid, kind, label, name) as materialized (
  select 'pg_catalog.pg_namespace'::regclass::oid, oid, 'schema', label, null from spelled_namespace
  where oid <> 'pg_catalog'::regnamespace
  union all select 'pg_catalog.pg_class'::regclass, oid, 'relation', label, null from spelled_class
  union all select 'pg_catalog.pg_class'::regclass, indexrelid, 'index', label, relname from own_index
  union all select 'pg_catalog.pg_constraint'::regclass, oid, 'constraint', label, conname from own_constraint
  union all select 'pg_catalog.pg_policy'::regclass, oid, 'policy', label, polname from own_policy
  union all select 'pg_catalog.pg_type'::regclass, oid, 'type', label, null from spelled_type
  where typnamespace <> 'pg_catalog'::regnamespace
  union all select 'pg_catalog.pg_proc'::regclass, oid, 'function', label, arguments from spelled_proc
),
described(class, oid, sub, description) as materialized (
  select classoid, objoid, objsubid, description from pg_catalog.pg_description
  where objoid = any (array(select oid from object))
),
-- Enums and domains that no column, function or other type is made of, and the arrays of those. No build comes to them.
unused_type(oid) as materialized (
  select pg_catalog.unnest(array[t.oid, t.typarray])
  from spelled_type t,
    (select array(
      select atttypid from spelled_attribute
      union select prorettype from spelled_proc
      union select provariadic from spelled_proc
      union select pg_catalog.unnest(proargtypes::oid[]) from spelled_proc
      union select pg_catalog.unnest(proallargtypes) from spelled_proc
      union select typbasetype from spelled_type
      union select rngsubtype from pg_catalog.pg_range where rngtypid = any (array(select oid from spelled_type))
    )) used(oids)
  where t.typtype in ('e', 'd') and t.typarray <> 0 and t.oid <> all (used.oids) and t.typarray <> all (used.oids)
),
-- Relations and types with a comment on themselves or a part of them.
commented(oid) as materialized (
  select oid from described where class in ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass)
),
extension_member(classid, objid, extname) as materialized (
  select d.classid, d.objid, e.extname
  from (
    select classid, objid, refobjid from pg_catalog.pg_depend
    where classid = any (array['pg_catalog.pg_class', 'pg_catalog.pg_type', 'pg_catalog.pg_proc']::regclass[])
    and objid = any (array(select oid from object where kind in ('relation', 'type', 'function')))
    and deptype = 'e' and refclassid = 'pg_catalog.pg_extension'::regclass and objsubid = 0
    offset 0
  ) d
  join pg_catalog.pg_extension e on e.oid = d.refobjid
),
${ownNameCte}`;

/**
 * SQL: the name of a joined type. A type that is unexpectedly out of scope is labelled by its oid, which
 * keeps tenants apart.
 */
export const typeLabel = (oid: string, type: string): string =>
  `coalesce(${type}.label, nullif('#' || ${oid}::text, '#0'))`;

/**
 * SQL: the names of columns in the order of an array of attribute numbers that begins at `first`, looked up
 * in `names` of their relation; the number itself if there is no name, as for an expression. The common case
 * of one column avoids a subquery: 5 µs each.
 */
export const columnLabels = (names: string, numbers: string, first: 0 | 1): string => {
  const label = (number: string): string =>
    `coalesce(pg_catalog.to_json(${names}[${number}]), pg_catalog.to_json(${number}))`;
  return `case when pg_catalog.cardinality(${numbers}) = 1 then ${label(`(${numbers})[${first}]`)} else (
  select pg_catalog.json_agg(${label("u.num")} order by u.ord)
  from pg_catalog.unnest(${numbers}) with ordinality as u(num, ord)
) end`;
};

/** SQL: labels a role by its function for the tenant; other roles keep their names. */
export const roleLabel = (role: string, owner: string): string => `case ${role}
  when 0 then 'PUBLIC'
  when actor.anonymous then 'anonymous'
  when actor.authenticated then 'authenticated'
  when ${owner} then 'owner'
  when actor.self then 'self'
  else coalesce('other:' || pg_catalog.array_position(actor.others, ${role}), 'role:' || pg_catalog.pg_get_userbyid(${role}))
end`;
