/**
 * The SQL of the scoped introspection. Its parameters are those of `scopeCtes`, and `$4::text[]`: the names to give to the served
 * schemas.
 */
import { namingTag, ownNameCte } from "../../src/shared/postgres/schema-tags.ts";
import { notServed } from "../postgres/schema-placeholders.ts";

/** Selects a smart tag that names a served schema by its physical name. */
export const namedTag = `\
(
  select tagged.tag
  from descriptions d
  cross join own_name n
  cross join lateral (select ${namingTag("d.description", "n")} as tag) tagged
  where tagged.tag is not null
  limit 1
)`;

/** Lists for each schema its name in the answer, its own name, and the names of its relations, types and functions. */
export const namedObjects = `\
(
  select pg_catalog.json_agg(pg_catalog.json_build_array(
    namespaces.nspname,
    (select own.nspname from pg_catalog.pg_namespace own where own.oid = namespaces.oid),
    (
      select coalesce(pg_catalog.json_agg(distinct o.name), '[]')
      from (
        select relname::text from classes where relnamespace = namespaces.oid and relkind not in ('i', 'I')
        union all select typname::text from types where typnamespace = namespaces.oid and typcategory <> 'A'
        union all select proname::text from procs where pronamespace = namespaces.oid
      ) o(name)
    )
  ))
  from namespaces
  where namespaces.oid <> 'pg_catalog'::regnamespace
)`;

/**
 * Common table expressions to follow `scopeCtes`: those that pg-introspection's final select reads, under its names. `=
 * any(array(…))` is planned as ten index lookups whatever the statistics say; `in (…)` became scans of whole catalogues.
 *
 * Left out because nothing reads them: attributes of indexes and sequences, types of pg_catalog that nothing in scope mentions,
 * and grants of the database itself, which may name every tenant. Roles are those that owners and grants in scope name, and the
 * memberships that lead from one of those, or from the current user, to another or to a superuser: a user who is a member of
 * every tenant's role brings in only the roles in question.
 */
export const scopedCtes = `\
  ${ownNameCte},

  database as (
    select pg_database.oid as _id, *
    from pg_catalog.pg_database
    where datname = current_database()
  ),

  namespaces as (
    select oid as _id, oid,
      coalesce(
        ($4::text[])[(select ord from served where served.oid = pg_namespace.oid)],
        case when nspname = any ($4::text[]) then nspname || '${notServed}' else nspname end
      ) as nspname,
      nspowner, nspacl
    from pg_catalog.pg_namespace
    where (oid = any (array(select oid from scope_namespace)) or oid = 'pg_catalog'::regnamespace)
    and nspname <> 'information_schema'
  ),

  classes as (
    select pg_class.oid as _id, *,
      pg_catalog.pg_relation_is_updatable(oid, true)::bit(8)::int4 as "updatable_mask"
    from pg_catalog.pg_class
    where oid = any (array(select oid from scope_class))
  ),

  attributes as (
    select *
    from pg_catalog.pg_attribute
    where attrelid = any (array(select _id from classes where relkind not in ('i', 'I', 'S'))) and attnum > 0
  ),

  constraints as (
    select pg_constraint.oid as _id, *
    from pg_catalog.pg_constraint
    -- Two index scans; "or" would scan all constraints.
    where oid = any (array(
      select oid from pg_catalog.pg_constraint where conrelid = any (array(select oid from scope_class))
      union all
      select oid from pg_catalog.pg_constraint where contypid = any (array(select oid from scope_type))
    ))
  ),

  procs as (
    select pg_proc.oid as _id, *
    from pg_catalog.pg_proc
    where oid = any (array(select oid from scope_proc))
  ),

  types as (
    select pg_type.oid as _id, *
    from pg_catalog.pg_type
    where oid = any (array(select oid from scope_type))
  ),

  enums as (
    select pg_enum.oid as _id, *
    from pg_catalog.pg_enum
    where enumtypid = any (array(select _id from types where typtype = 'e'))
  ),

  extensions as (
    select pg_extension.oid as _id, *
    from pg_catalog.pg_extension
    where oid = any (array(select oid from scope_extension))
  ),

  indexes as (
    select *
    from pg_catalog.pg_index
    where indrelid = any (array(select oid from scope_class))
  ),

  inherits as (
    select *
    from pg_catalog.pg_inherits
    where inhrelid = any (array(select oid from scope_class))
  ),

  languages as (select pg_language.oid as _id, * from pg_catalog.pg_language),

  policies as (
    select *
    from pg_catalog.pg_policy
    where polrelid = any (array(select oid from scope_class))
  ),

  ranges as (
    select *
    from pg_catalog.pg_range
    where rngtypid = any (array(select oid from scope_type))
  ),

  mentioned_role as materialized (
    select pg_catalog.unnest(array(
      select oid from pg_catalog.pg_roles where rolname = current_user
      union select datdba from database
      union select nspowner from namespaces
      union select relowner from classes
      union select proowner from procs
      union select typowner from types
      union select extowner from extensions
      union select pg_catalog.unnest(polroles) from policies
      union
      select pg_catalog.unnest(array[acl.grantee, acl.grantor])
      from (
        select nspacl from namespaces
        union all select relacl from classes
        union all select attacl from attributes where attacl is not null
        union all select proacl from procs
        union all select typacl from types
      ) granted(acls)
      cross join lateral pg_catalog.aclexplode(granted.acls) acl
    )) as oid
  ),

  -- Members of those roles or of a superuser, found bottom-up. Top-down would visit every role that the host's user is a member of,
  -- possibly every tenant's: 70 of 90 ms for 300 of them, and ten times that with three times the tenants.
  role_below(oid) as (
    select pg_catalog.unnest(array(
      select oid from mentioned_role
      union
      select oid from pg_catalog.pg_roles where rolsuper
    ))
    union
    select m.member
    from role_below
    cross join lateral (
      select member from pg_catalog.pg_auth_members where roleid = role_below.oid offset 0
    ) m
  ),

  membership_below(member, roleid) as materialized (
    select m.member, role_below.oid
    from role_below
    cross join lateral (
      select member from pg_catalog.pg_auth_members where roleid = role_below.oid offset 0
    ) m
  ),

  -- A join: 25 ms for a shared schema granted to each of 300 roles, against 2 s for look-ups pair by pair.
  scope_role(oid) as (
    select oid from mentioned_role
    union
    select m.roleid from scope_role join membership_below m on m.member = scope_role.oid
  ),

  roles as (
    select pg_roles.oid as _id, *
    from pg_catalog.pg_roles
    where oid = any (array(select oid from scope_role))
  ),

  auth_members as (
    select *
    from pg_catalog.pg_auth_members
    where roleid = any (array(select oid from scope_role)) and member = any (array(select oid from scope_role))
  ),

  scope_object(classid, objid) as materialized (
    select 'pg_catalog.pg_namespace'::regclass::oid, _id from namespaces
    union all select 'pg_catalog.pg_class'::regclass, _id from classes
    union all select 'pg_catalog.pg_constraint'::regclass, _id from constraints
    union all select 'pg_catalog.pg_proc'::regclass, _id from procs
    union all select 'pg_catalog.pg_type'::regclass, _id from types
    union all select 'pg_catalog.pg_enum'::regclass, _id from enums
    union all select 'pg_catalog.pg_extension'::regclass, _id from extensions
  ),

  depends as (
    select d.*
    from scope_object
    cross join lateral (
      select * from pg_catalog.pg_depend
      where classid = scope_object.classid and objid = scope_object.objid and deptype in ('a', 'e')
      offset 0
    ) d
  ),

  descriptions as (
    select d.*
    from scope_object
    cross join lateral (
      select * from pg_catalog.pg_description
      where classoid = scope_object.classid and objoid = scope_object.objid
      offset 0
    ) d
  ),

  am as (select pg_am.oid as _id, * from pg_catalog.pg_am)`;
