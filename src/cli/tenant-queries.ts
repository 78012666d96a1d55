/** The queries of `tenant-findings.ts`: `$1` is JSON of all tenants, and each returns one row per mistake. */

const asked = `
tenant as materialized (
  select t.id, t.roles, t.asker, t.served, t.shared
  from pg_catalog.jsonb_to_recordset($1::jsonb) as t(id text, roles jsonb, asker text, served jsonb, shared jsonb)
),
served as materialized (
  select tenant.id, n.oid, n.nspname::text as name
  from tenant cross join lateral pg_catalog.jsonb_array_elements_text(tenant.served) as s(name)
  join pg_catalog.pg_namespace n on n.nspname = s.name
),
-- The roles that requests run as; the connecting role if a tenant lists none.
actor as materialized (
  select tenant.id, a.name, r.oid
  from tenant
  cross join lateral (
    select role as name from pg_catalog.jsonb_array_elements_text(tenant.roles) as role
    union
    select session_user::text where tenant.roles = '[]'::jsonb
  ) a
  left join pg_catalog.pg_roles r on r.rolname = a.name
)`;

/** Roles that are missing, cannot be set, or may not use the tenant's schemas. */
export const rolesQuery = `
with ${asked},
taken as (
  select id, name, oid, true as serves from actor
  union all
  select tenant.id, tenant.asker, r.oid, false from tenant left join pg_catalog.pg_roles r on r.rolname = tenant.asker
  where tenant.asker is not null and not tenant.roles ? tenant.asker
),
found as (
  select taken.id as tenant, taken.name as role, session_user::text as host, taken.oid is not null as known,
    coalesce(pg_catalog.pg_has_role(session_user, taken.oid, 'MEMBER'), false) as member,
    coalesce(pg_catalog.pg_has_role(session_user, taken.oid,
      case when pg_catalog.current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end), false) as takes,
    array(
      select served.name from served
      where served.id = taken.id and taken.serves and taken.oid is not null
      and not pg_catalog.has_schema_privilege(taken.oid, served.oid, 'USAGE') order by 1
    ) as closed,
    (select pg_catalog.count(*)::int from served where served.id = taken.id) as schemas,
    pg_catalog.current_setting('server_version_num')::int >= 160000 as modern
  from taken
)
select * from found where not known or not takes or closed <> '{}' order by tenant, role`;

/**
 * API functions that none of the tenant's roles may execute. Functions without an ACL are left out, because
 * everyone may execute them.
 */
export const functionsQuery = `
with ${asked}
select served.id as tenant, pg_catalog.quote_ident(served.name) || '.' || pg_catalog.quote_ident(p.proname)
  || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')' as function
from served
join pg_catalog.pg_proc p on p.pronamespace = served.oid
where p.proacl is not null and p.prokind = 'f'
and p.prorettype <> all (array['pg_catalog.trigger', 'pg_catalog.event_trigger']::regtype[])
and not exists (
  select from actor where actor.id = served.id and actor.oid is not null
  and pg_catalog.has_function_privilege(actor.oid, p.oid, 'EXECUTE')
)
and not exists (
  select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
)
order by 1, 2`;

const enumTag = `'(?n)^[ \\t]*@enum(\\s|$)'`;

/** Enum tables whose rows neither the connecting role nor any of the tenant's roles may read. */
export const enumRowsQuery = `
with ${asked},
tagged as (
  select objoid as oid from pg_catalog.pg_description
  where classoid = 'pg_catalog.pg_class'::regclass and objsubid = 0 and description ~ ${enumTag}
  union
  select k.conrelid from pg_catalog.pg_description d join pg_catalog.pg_constraint k on k.oid = d.objoid
  where d.classoid = 'pg_catalog.pg_constraint'::regclass and d.description ~ ${enumTag}
),
reader as (
  select id, oid from actor where oid is not null
  union
  select tenant.id, r.oid from tenant cross join pg_catalog.pg_roles r where r.rolname = session_user
)
select served.id as tenant, pg_catalog.quote_ident(served.name) || '.' || pg_catalog.quote_ident(c.relname) as table,
  pg_catalog.quote_ident(served.name) as schema,
  exists (
    select from reader where reader.id = served.id and pg_catalog.has_schema_privilege(reader.oid, served.oid, 'USAGE')
  ) as usage
from tagged
join pg_catalog.pg_class c on c.oid = tagged.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
join served on served.oid = c.relnamespace
where not exists (
  select from reader where reader.id = served.id
  and pg_catalog.has_schema_privilege(reader.oid, served.oid, 'USAGE')
  and pg_catalog.has_any_column_privilege(reader.oid, c.oid, 'SELECT')
)
order by 1, 2`;

/** Enums with a value that may have no GraphQL name; `isNameable` decides. */
export const enumValuesQuery = `
with ${asked}
select served.id as tenant, pg_catalog.quote_ident(served.name) || '.' || pg_catalog.quote_ident(t.typname) as type,
  pg_catalog.array_agg(e.enumlabel::text order by e.enumsortorder) as labels
from served
join pg_catalog.pg_type t on t.typnamespace = served.oid and t.typtype = 'e'
join pg_catalog.pg_enum e on e.enumtypid = t.oid
where e.enumlabel !~ '^[_0-9A-Za-z]+$' or e.enumlabel in ('true', 'false', 'null')
group by 1, 2 order by 1, 2`;

/**
 * Extensions whose types a tenant's columns or functions use, and whose schema is not on its path or not
 * usable by its roles.
 */
export const extensionsQuery = `
with recursive ${asked},
extended(type, extension) as (
  select objid, refobjid from pg_catalog.pg_depend
  where classid = 'pg_catalog.pg_type'::regclass and refclassid = 'pg_catalog.pg_extension'::regclass and deptype = 'e'
  union
  select t.oid, extended.extension from extended
  join pg_catalog.pg_type t on t.typbasetype = extended.type or t.typelem = extended.type and t.typcategory = 'A'
),
used as (
  select served.id, extended.extension from extended
  join pg_catalog.pg_attribute a on a.atttypid = extended.type and a.attnum > 0 and not a.attisdropped
  join pg_catalog.pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm', 'f', 'c')
  join served on served.oid = c.relnamespace
  union
  select served.id, extended.extension from served
  join pg_catalog.pg_proc p on p.pronamespace = served.oid
  join extended on extended.type = p.prorettype or extended.type = any (p.proargtypes)
),
placed as (
  select used.id, e.oid, e.extname::text as extension, n.oid as namespace, n.nspname::text as schema,
    tenant.served ? n.nspname::text or tenant.shared ? n.nspname::text or n.nspname = 'pg_catalog' as listed
  from used
  join tenant on tenant.id = used.id
  join pg_catalog.pg_extension e on e.oid = used.extension
  join pg_catalog.pg_namespace n on n.oid = e.extnamespace
)
select * from (
  select placed.id as tenant, placed.extension, placed.schema,
    exists (
      select from pg_catalog.pg_depend d
      where d.classid = 'pg_catalog.pg_operator'::regclass and d.refclassid = 'pg_catalog.pg_extension'::regclass
      and d.refobjid = placed.oid and d.deptype = 'e'
    ) as operators,
    array(
      select actor.name from actor
      where actor.id = placed.id and actor.oid is not null
      and not pg_catalog.has_schema_privilege(actor.oid, placed.namespace, 'USAGE') order by 1
    ) as closed,
    placed.listed
  from placed
) found
where not listed or closed <> '{}'
order by tenant, extension`;
