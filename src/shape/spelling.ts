/** How the canonical text names what PostgreSQL knows by oid: nothing in it tells one tenant's copy from another's. */

/**
 * SQL, after `scopeCtes`: who asks, and the names by which namespaces, types and own schemas are spelled.
 * `$4::text` is the anonymous role's name, `$5::text` the authenticated role's; both may be null. `$6::text[]` are the others', in
 * the order that the tenant lists them in, which is what they are called by.
 *
 * A served schema is spelled by its logical name alone, any other with a sign before it, so that a schema that happens
 * to be called like somebody's logical one is not taken for it.
 */
export const spellingCtes = `\
actor as materialized (
  select
    (select oid from pg_catalog.pg_roles where rolname = current_user) as self,
    (select oid from pg_catalog.pg_roles where rolname = $4::text) as anonymous,
    (select oid from pg_catalog.pg_roles where rolname = $5::text) as authenticated,
    array(
      select r.oid from pg_catalog.unnest($6::text[]) with ordinality as other(name, ord)
      left join pg_catalog.pg_roles r on r.rolname = other.name order by other.ord
    ) as others,
    -- As pg-introspection sees it: whoever may become a superuser has every right.
    exists (
      select from pg_catalog.pg_roles where rolsuper and pg_catalog.pg_has_role(oid, 'MEMBER')
    ) as superuser
),
spelled_namespace(oid, label, own) as materialized (
  select n.oid, case
    when served.oid is not null then pg_catalog.quote_ident(served.logical)
    when shared.oid is not null then '=' || pg_catalog.quote_ident(n.nspname)
    else '!' || pg_catalog.quote_ident(n.nspname)
  end, served.oid is not null
  from pg_catalog.pg_namespace n
  left join served on served.oid = n.oid
  left join shared on shared.oid = n.oid
  where n.oid = any (array(select oid from scope_namespace))
),
spelled_type(oid, label, own) as materialized (
  select t.oid, n.label || '.' || pg_catalog.quote_ident(t.typname), n.own
  from pg_catalog.pg_type t
  left join spelled_namespace n on n.oid = t.typnamespace
  where t.oid = any (array(select oid from scope_type))
),
spelled_class(oid, label, own) as materialized (
  select c.oid, n.label || '.' || pg_catalog.quote_ident(c.relname), n.own
  from pg_catalog.pg_class c
  left join spelled_namespace n on n.oid = c.relnamespace
  where c.oid = any (array(select oid from scope_class)) and c.relkind in ('r', 'v', 'm', 'f', 'p', 'c')
),
extension_member(classid, objid, extname) as materialized (
  select d.classid, d.objid, e.extname
  from scope_extension
  join pg_catalog.pg_extension e on e.oid = scope_extension.oid
  cross join lateral (
    select classid, objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_extension'::regclass and refobjid = e.oid and deptype = 'e' and objsubid = 0
    offset 0
  ) d
  where d.objid in (
    select oid from scope_class union all select oid from scope_type union all select oid from scope_proc
  )
),
-- Whole words only, whatever their case: "@foreignKey (a) references ACME.b (c)" names the schema acme too.
own_name(ord, pattern) as materialized (
  select ord, '(?<![[:alnum:]_$])' || pg_catalog.regexp_replace(physical, '([^[:alnum:]_])', '\\\\\\1', 'g') || '(?![[:alnum:]_$])'
  from pg_catalog.unnest($1::text[]) with ordinality as binding(physical, ord)
)`;

type Catalogue = "pg_class" | "pg_type" | "pg_proc" | "pg_constraint" | "pg_namespace" | "pg_policy";

const catalogue = (name: Catalogue): string => `'pg_catalog.${name}'::regclass`;

/** The name of a type; what scope should know and does not is spelled by its oid, which keeps tenants apart. */
export const typeLabel = (oid: string): string => `coalesce(
  (select label from spelled_type where oid = ${oid}), nullif('#' || ${oid}::text, '#0')
)`;

/** The names of the types in an array of oids, in its order. */
export const typeLabels = (oids: string): string => `(
  select pg_catalog.json_agg(coalesce(s.label, '#' || u.oid::text) order by u.ord)
  from pg_catalog.unnest(${oids}) with ordinality as u(oid, ord)
  left join spelled_type s on s.oid = u.oid
)`;

/**
 * The names of a relation's columns in the order of an array of attribute numbers; null for an expression. Each is looked up: joined, all
 * columns of the relation are read for each of its keys.
 */
export const columnLabels = (
  relation: string,
  numbers: string,
): string => `case when ${numbers} is not null then (
  select pg_catalog.json_agg((
    select attname from pg_catalog.pg_attribute where attrelid = ${relation} and attnum = u.num and u.num <> 0
  ) order by u.ord)
  from pg_catalog.unnest(${numbers}) with ordinality as u(num, ord)
) end`;

/**
 * A comment verbatim (smart tags are made of it), and which of the served schemas its tags mention by physical name:
 * what such a comment makes of the API is true of this tenant only.
 */
export const comment = (of: Catalogue, oid: string, column = "0"): string => `(
  select pg_catalog.json_build_array(d.description, (
    select pg_catalog.json_agg(o.ord order by o.ord) from own_name o
    where d.description like '%@%' and d.description ~* o.pattern
  ))
  from pg_catalog.pg_description d
  where d.objoid = ${oid} and d.classoid = ${catalogue(of)} and d.objsubid = ${column}
)`;

/** The name of the extension that owns an object, if any. */
export const extension = (of: Catalogue, oid: string): string => `(
  select extname from extension_member where classid = ${catalogue(of)} and objid = ${oid}
)`;

/** A role by what it is to the tenant. A role that is nothing to it keeps its name. */
export const roleLabel = (role: string, owner: string): string => `case ${role}
  when 0 then 'PUBLIC'
  when actor.anonymous then 'anonymous'
  when actor.authenticated then 'authenticated'
  when ${owner} then 'owner'
  when actor.self then 'self'
  else coalesce('other:' || pg_catalog.array_position(actor.others, ${role}), 'role:' || pg_catalog.pg_get_userbyid(${role}))
end`;

/**
 * An object's grants, and what they come to for the connecting role: as pg-introspection's `entityPermissions` resolves
 * it for PgRBACPlugin, through every membership, with an owner's rights only where its entry was not taken away. Of what
 * is shared (`own` is false) only the tenant's roles are listed: the others are mostly other tenants'.
 * Needs `actor` in the FROM clause.
 */
export const grants = (kind: string, acl: string, owner: string, own: string): string => `(
  select pg_catalog.json_build_array(
    pg_catalog.string_agg(g.entry, ' ' order by g.entry collate "C") filter (
      where ${own} or g.grantee in (0, actor.anonymous, actor.authenticated, actor.self) or g.grantee = any (actor.others)
    ),
    case when actor.superuser or (${owner} = actor.self and not coalesce(pg_catalog.bool_or(g.grantee = ${owner}), false))
      then 'ALL'
      else pg_catalog.string_agg(distinct g.privilege, ' ' order by g.privilege) filter (
        where case when g.grantee = 0 then true else pg_catalog.pg_has_role(g.grantee, 'MEMBER') end
      )
    end
  )
  from (
    select x.grantee, x.privilege_type collate "C" as privilege,
      pg_catalog.quote_ident(${roleLabel("x.grantee", owner)}) || ':' || x.privilege_type
        || case when x.is_grantable then '*' else '' end as entry
    from pg_catalog.aclexplode(coalesce(${acl}, pg_catalog.acldefault('${kind}', ${owner}))) x
  ) g
)`;
