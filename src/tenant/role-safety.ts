/** Whether the roles that a tenant's requests run as could do more than see the tenant's own: what PostgreSQL says. */
import { z } from "zod";
import { HostError } from "../kernel/errors.ts";
import { listedRoles, type Tenant } from "./tenant.ts";

export interface RoleFindings {
  /** What is wrong with the connecting role, and with the tenant's; a sentence each. */
  readonly connecting: readonly string[];
  readonly unsafe: readonly string[];
  /** Schemas besides its own and the shared ones that the roles may use: unsafe where they are another tenant's. */
  readonly usable: readonly string[];
}

/**
 * The roles, or the connecting one where a tenant has none, and every role that those may become. Rights are looked up by
 * who has them (pg_shdepend) and objects by their schema (pg_depend), through indexes both: a database of ten thousand
 * tenants answers as fast as one of ten. Bodies in SQL standard form are bound when a function is made: no path misleads them.
 */
const text = `
with recursive
listed as (
  select r.oid, r.rolname, r.rolsuper from pg_catalog.pg_roles r
  where r.rolname = any ($1::text[]) or (pg_catalog.cardinality($1::text[]) = 0 and r.rolname = current_user)
),
reach(root, name, oid) as (
  select rolname, rolname, oid from listed
  union
  select reach.root, r.rolname, r.oid from reach
  join pg_catalog.pg_auth_members m on m.member = reach.oid
  join pg_catalog.pg_roles r on r.oid = m.roleid
),
reachable as (
  select reach.*, r.rolsuper, r.rolbypassrls,
    pg_catalog.quote_ident(reach.root) || case when reach.root = reach.name then ''
      else ' (through ' || pg_catalog.quote_ident(reach.name) || ')' end as who
  from reach join pg_catalog.pg_roles r on r.oid = reach.oid
),
own as (select n.oid, n.nspname, n.nspacl from pg_catalog.pg_namespace n where n.nspname = any ($2::text[])),
shared as (select n.oid, n.nspname from pg_catalog.pg_namespace n where n.nspname = any ($3::text[])),
held as (
  select d.objid, d.classid, d.deptype, reachable.who, reachable.oid as holder
  from reachable join pg_catalog.pg_shdepend d
    on d.refclassid = 'pg_catalog.pg_authid'::regclass and d.refobjid = reachable.oid
    and d.dbid = (select oid from pg_catalog.pg_database where datname = current_database())
),
finding(ordinal, said) as (
  select 1, 'role ' || who || case when rolsuper
    then ' is a superuser: no right and no policy stops it' else ' has BYPASSRLS: no policy applies to it' end
  from reachable where (rolsuper or rolbypassrls) and root <> current_user
  union all
  -- PostgreSQL's own roles hold their rights without any grant that could be found below.
  select 1, 'role ' || pg_catalog.quote_ident(root) || ' may become ' || name || ', and with it read or write what is other tenants'''
  from reachable where root <> name and not exists (select from listed where listed.rolname = root and rolsuper) and name in (
    'pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'
  )
  union all
  select 2, 'role ' || held.who || ' owns ' || pg_catalog.count(*) || ' of the tenant''s tables: row-level security does not apply to it there'
  from held join pg_catalog.pg_class c on c.oid = held.objid
  where held.classid = 'pg_catalog.pg_class'::regclass and held.deptype = 'o' and c.relkind in ('r', 'p')
    and not c.relforcerowsecurity and c.relnamespace in (select oid from own)
  group by held.who
  union all
  select 3, 'role ' || pg_catalog.quote_ident(listed.rolname) || ' may create objects in the shared schema ' || pg_catalog.quote_ident(shared.nspname)
  from listed cross join shared where not listed.rolsuper and pg_catalog.has_schema_privilege(listed.oid, shared.oid, 'CREATE')
  union all
  select 4, 'everyone may use the schema ' || pg_catalog.quote_ident(own.nspname) || ' (USAGE granted to PUBLIC)'
  from own where exists (
    select from pg_catalog.aclexplode(own.nspacl) a where a.grantee = 0 and a.privilege_type = 'USAGE'
  )
  union all
  select 5, 'function ' || p.oid::regprocedure::text || ' is SECURITY DEFINER without a search_path of its own'
  from pg_catalog.pg_depend d join pg_catalog.pg_proc p on p.oid = d.objid
  where d.classid = 'pg_catalog.pg_proc'::regclass and d.refclassid = 'pg_catalog.pg_namespace'::regclass
    and d.refobjid in (select oid from own union all select oid from shared)
    and p.prosecdef and p.prosqlbody is null
    and not exists (select from pg_catalog.unnest(p.proconfig) each where each like 'search_path=%')
    and not exists (
      select from pg_catalog.pg_depend e
      where e.classid = 'pg_catalog.pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
    )
)
select
  array(
    select 'the connecting role ' || pg_catalog.quote_ident(rolname) || case when rolsuper
      then ' is a superuser: no right and no policy stops it' else ' has BYPASSRLS: no policy applies to it' end
    from pg_catalog.pg_roles where rolname = current_user and (rolsuper or rolbypassrls)
  ) as connecting,
  array(select said from finding order by ordinal, said) as unsafe,
  array(
    select distinct n.nspname::text
    from held join pg_catalog.pg_namespace n on n.oid = held.objid
    where held.classid = 'pg_catalog.pg_namespace'::regclass
      and n.nspname <> all ($2::text[]) and n.nspname <> all ($3::text[]) and n.nspname <> 'rowhouse'
      and (held.deptype = 'o' or exists (
        select from pg_catalog.aclexplode(n.nspacl) a where a.grantee = held.holder and a.privilege_type = 'USAGE'
      ))
    order by 1
  ) as usable`;

/** To be run as the role that requests connect as, after `probeSettings`. */
export function roleSafetyQuery(tenant: Tenant): { text: string; values: unknown[] } {
  const physical = tenant.schemas.map((schema) => schema.physical);
  return { text, values: [listedRoles(tenant.roles), physical, tenant.sharedSchemas] };
}

const texts = z.array(z.string());
const findingsRow = z.object({ connecting: texts, unsafe: texts, usable: texts });

/** What the query's row says; throws `INTERNAL` for anything else. */
export function parseRoleFindings(row: unknown): RoleFindings {
  const parsed = findingsRow.safeParse(row);
  if (parsed.success) return parsed.data;
  throw new HostError("INTERNAL", "the query for role safety did not answer with findings", {
    cause: parsed.error,
  });
}
