/**
 * Asks PostgreSQL whether the roles that a tenant's requests run as could access more than the tenant's own
 * data.
 */

import { z } from "zod";
import { physicalNames } from "../shared/model/blueprint-spec.ts";
import { listedRoles, type Tenant } from "../tenants/tenant.ts";
import { answered, type Finding, type FindingCode, findingRows } from "./finding.ts";
import type { Reaching } from "./reach.ts";

export interface RoleFindings {
  /** Findings about the tenant's roles and schemas. */
  readonly own: readonly Finding[];
  /** Findings about the shared schemas of its path, which affect every tenant that uses them. */
  readonly shared: readonly Finding[];
  /**
   * Schemas other than its own and the shared ones that the roles may use: unsafe if they belong to another
   * tenant.
   */
  readonly usable: readonly string[];
}

/** Role findings, plus SQL in the schemas that reaches beyond the tenant. */
export interface SafetyFindings extends RoleFindings {
  readonly reaching: readonly Reaching[];
}

/**
 * PostgreSQL's predefined roles that reach other tenants without any grant: data, files, other sessions and
 * their queries.
 */
export const predefined = `array[
  'pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program',
  'pg_monitor', 'pg_read_all_stats', 'pg_signal_backend', 'pg_maintain'
]`;

/**
 * Examines the tenant's roles (or the connecting role if it has none) and every role that they may become.
 * Privileges are looked up by grantee (pg_shdepend) and objects by schema (pg_depend), both through indexes:
 * a database of ten thousand tenants answers as fast as one of ten. Bodies in SQL standard form are bound
 * when the function is created, so no search path can mislead them.
 */
const text = `
with recursive
listed as (
  select r.oid, r.rolname, r.rolsuper from pg_catalog.pg_roles r
  where r.rolname = any (case when pg_catalog.cardinality($1::text[]) = 0 then array[session_user::text] else $1::text[] end)
),
-- The connecting role, unless requests run as it; a superuser is reported as such.
self as (
  select r.oid, r.rolname from pg_catalog.pg_roles r
  where r.rolname = session_user and not r.rolsuper and not exists (select from listed where listed.oid = r.oid)
),
reach(root, name, oid) as (
  select rolname, rolname, oid from listed
  union
  select reach.root, r.rolname, r.oid from reach
  cross join lateral (select roleid from pg_catalog.pg_auth_members where member = reach.oid offset 0) m
  cross join lateral (select oid, rolname from pg_catalog.pg_roles where oid = m.roleid offset 0) r
),
reachable as (
  select reach.*, r.rolsuper, r.rolbypassrls,
    pg_catalog.quote_ident(reach.root) as role,
    case when reach.root <> reach.name then pg_catalog.quote_ident(reach.name) end as through
  from reach
  cross join lateral (select rolsuper, rolbypassrls from pg_catalog.pg_roles where oid = reach.oid offset 0) r
),
own as (select n.oid, n.nspname, n.nspacl, n.nspowner from pg_catalog.pg_namespace n where n.nspname = any ($2::text[])),
shared as (
  select n.oid, n.nspname, exists (
    select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = 0 and a.privilege_type = 'CREATE'
  ) as everyones
  from pg_catalog.pg_namespace n where n.nspname = any ($3::text[])
),
held as (
  -- "offset 0" keeps this a look-up per role, whatever the statistics: planned as a join, it reads all of pg_shdepend.
  select d.objid, d.classid, d.deptype, reachable.role, reachable.through, reachable.oid as holder
  from reachable cross join lateral (
    select objid, classid, deptype from pg_catalog.pg_shdepend
    where refclassid = 'pg_catalog.pg_authid'::regclass and refobjid = reachable.oid
      and dbid = (select oid from pg_catalog.pg_database where datname = current_database())
    offset 0
  ) d
),
-- The control schema is shared: the connecting role reads it, and no tenant's role needs to.
control as (
  select c.oid, c.relname::text as name, n.oid as schema
  from pg_catalog.pg_namespace n
  cross join lateral (
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = n.oid and classid = 'pg_catalog.pg_class'::regclass
    offset 0
  ) d
  cross join lateral (select oid, relname, relkind from pg_catalog.pg_class where oid = d.objid offset 0) c
  where n.nspname = 'rowhouse' and c.relkind in ('r', 'p', 'v', 'm')
),
controlled as (
  select reachable.role, reachable.through, control.name,
    control.name = 'tenant' and pg_catalog.has_any_column_privilege(reachable.oid, control.oid, 'SELECT') as reads,
    pg_catalog.has_any_column_privilege(reachable.oid, control.oid, 'INSERT, UPDATE')
      or pg_catalog.has_table_privilege(reachable.oid, control.oid, 'DELETE, TRUNCATE, TRIGGER') as writes
  from reachable cross join control
  where not reachable.rolsuper and reachable.name <> all (${predefined})
    and pg_catalog.has_schema_privilege(reachable.oid, control.schema, 'USAGE')
),
misled as (
  select p.pronamespace, p.oid::regprocedure::text as object
  from (select oid from own union select oid from shared) n
  cross join lateral (
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = n.oid and classid = 'pg_catalog.pg_proc'::regclass
    offset 0
  ) d
  cross join lateral (
    select oid, pronamespace, proconfig from pg_catalog.pg_proc where oid = d.objid and prosecdef and prosqlbody is null offset 0
  ) p
  where not exists (select from pg_catalog.unnest(p.proconfig) each where each like 'search_path=%')
    and not exists (
      select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
    )
),
finding(code, role, through, object) as (
  select case when rolsuper then 'ROLE_SUPERUSER' else 'ROLE_BYPASSRLS' end, role, through, null::text
  from reachable where (rolsuper or rolbypassrls) and root <> session_user
  union all
  -- PostgreSQL's predefined roles hold privileges without any grant that could be found below.
  select 'ROLE_PREDEFINED', role, null, through
  from reachable where root <> name and not exists (select from listed where listed.rolname = root and rolsuper)
    and name = any (${predefined})
  union all
  select 'ROLE_OWNS_TABLES', held.role, held.through, pg_catalog.count(*)::text
  from held
  cross join lateral (
    select relkind, relforcerowsecurity, relnamespace from pg_catalog.pg_class where oid = held.objid offset 0
  ) c
  where held.classid = 'pg_catalog.pg_class'::regclass and held.deptype = 'o' and c.relkind in ('r', 'p')
    and not c.relforcerowsecurity and c.relnamespace in (select oid from own)
  group by held.role, held.through
  union all
  -- An owner needs no CREATE on the schema: a check or a default is SQL as well.
  select 'ROLE_OWNS_SQL', held.role, held.through, pg_catalog.count(*)::text
  from held
  cross join lateral (
    select relnamespace as schema from pg_catalog.pg_class
    where held.classid = 'pg_catalog.pg_class'::regclass and oid = held.objid
      and (relkind in ('v', 'm', 'f') or relkind in ('r', 'p') and relforcerowsecurity)
    union all
    select pronamespace from pg_catalog.pg_proc where held.classid = 'pg_catalog.pg_proc'::regclass and oid = held.objid
    union all
    select typnamespace from pg_catalog.pg_type
    where held.classid = 'pg_catalog.pg_type'::regclass and oid = held.objid and typtype = 'd'
    offset 0
  ) o
  where held.deptype = 'o' and o.schema in (select oid from own)
  group by held.role, held.through
  union all
  select 'ROLE_CREATE', role, through, pg_catalog.quote_ident(own.nspname)
  from reachable cross join own
  where not rolsuper and (own.nspowner = reachable.oid or exists (
    select from pg_catalog.aclexplode(own.nspacl) a where a.grantee = reachable.oid and a.privilege_type = 'CREATE'
  ))
  union all
  -- A function of the tenant can reset its role to the connecting one.
  select 'CONNECTING_OWNS_TABLES', pg_catalog.quote_ident(self.rolname), null, pg_catalog.count(*)::text
  from self cross join own
  cross join lateral (
    select objid from pg_catalog.pg_depend
    where refclassid = 'pg_catalog.pg_namespace'::regclass and refobjid = own.oid and classid = 'pg_catalog.pg_class'::regclass
    offset 0
  ) d
  cross join lateral (
    select relkind, relforcerowsecurity from pg_catalog.pg_class where oid = d.objid and relowner = self.oid offset 0
  ) c
  where c.relkind in ('r', 'p') and not c.relforcerowsecurity
  group by self.rolname
  union all
  select 'ROLE_CREATE_SHARED', pg_catalog.quote_ident(listed.rolname), null, pg_catalog.quote_ident(shared.nspname)
  from listed cross join shared where not listed.rolsuper and not shared.everyones
    and pg_catalog.has_schema_privilege(listed.oid, shared.oid, 'CREATE')
  union all
  select distinct case a.privilege_type when 'USAGE' then 'USAGE_PUBLIC' else 'CREATE_PUBLIC' end, null, null,
    pg_catalog.quote_ident(own.nspname)
  from own cross join lateral pg_catalog.aclexplode(own.nspacl) a
  where a.grantee = 0 and a.privilege_type in ('USAGE', 'CREATE')
  union all
  select 'DEFINER_PATH', null, null, object from misled where pronamespace in (select oid from own)
  union all
  select 'ROLE_READS_TENANTS', role, through, 'rowhouse.tenant' from controlled where reads
  union all
  select 'ROLE_WRITES_CONTROL', role, through, pg_catalog.string_agg('rowhouse.' || name, ', ' order by name)
  from controlled where writes group by role, through
  union all
  select 'SESSION_SUPERUSER', pg_catalog.quote_ident(r.rolname), null, null
  from pg_catalog.pg_roles r where r.rolname = $4::text and r.rolsuper
  union all
  select 'SHARED_CREATE_PUBLIC', null, null, pg_catalog.quote_ident(nspname) from shared where everyones
  union all
  select 'SHARED_CREATE_CONNECTING', pg_catalog.quote_ident(self.rolname), null, pg_catalog.quote_ident(shared.nspname)
  from self cross join shared
  where not shared.everyones and pg_catalog.has_schema_privilege(self.oid, shared.oid, 'CREATE')
  union all
  select 'SHARED_DEFINER_PATH', null, null, object from misled where pronamespace in (select oid from shared)
)
select
  coalesce((select pg_catalog.jsonb_agg(finding) from finding), '[]') as findings,
  array(
    select distinct n.nspname::text
    from held
    cross join lateral (select nspname, nspacl from pg_catalog.pg_namespace where oid = held.objid offset 0) n
    where held.classid = 'pg_catalog.pg_namespace'::regclass
      and n.nspname <> all ($2::text[]) and n.nspname <> all ($3::text[]) and n.nspname <> 'rowhouse'
      and (held.deptype = 'o' or exists (
        select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = held.holder and a.privilege_type = 'USAGE'
      ))
    order by 1
  ) as usable`;

export type SafetyInput = Pick<Tenant, "schemas" | "sharedSchemas" | "roles"> &
  Partial<Pick<Tenant, "session">>;

/** Run it as the role that requests connect as, after `probeSettings`; it returns one row. */
export function roleSafetyQuery(tenant: SafetyInput): { text: string; values: unknown[] } {
  const asker = tenant.session?.role ?? null;
  return {
    text,
    values: [listedRoles(tenant.roles), physicalNames(tenant.schemas), tenant.sharedSchemas, asker],
  };
}

const ofSharedSchemas: ReadonlySet<FindingCode> = new Set([
  "SHARED_CREATE_PUBLIC",
  "SHARED_CREATE_CONNECTING",
  "SHARED_DEFINER_PATH",
]);

const findingsRow = z.object({ findings: findingRows, usable: z.array(z.string()) });

/** Parses the query's row; throws `INTERNAL` for anything else. */
export function parseRoleFindings(row: unknown): RoleFindings {
  const { findings, usable } = answered(findingsRow, row);
  return {
    own: findings.filter(({ code }) => !ofSharedSchemas.has(code)),
    shared: findings.filter(({ code }) => ofSharedSchemas.has(code)),
    usable,
  };
}
